"""Follows a page as a reader would: its commands in a shell, its Python in one session, in its order, in one folder.

A block without a language holds commands (lines that begin with `voxloom` or `python`), a `python` block Python. A
`text` block shows what the block before it prints; `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = ("voxloom ", "python -c ")
LENIENT = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Step(NamedTuple):
    """What a reader did, and what came of it."""

    code: str
    output: str
    errors: str = ""


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """Language and content of every block of a page."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[str]:
    """Lines that a reader would type into a shell."""
    lines = [line for language, code in blocks(text) if not language for line in code.splitlines()]
    return [line for line in lines if line.startswith(COMMANDS)]


def follow(text: str) -> list[Step]:
    """Do what a page says in the current folder; every block must do well, and print what is shown."""
    with strict_warnings():
        return _follow(text)


def _follow(text: str) -> list[Step]:
    steps: list[Step] = []
    session: dict[str, Any] = {"__name__": "__main__"}
    before: list[Step] = []
    for language, code in blocks(text):
        if language == "text":
            printed = "".join(step.output for step in before)
            assert doctest.OutputChecker().check_output(code, printed, LENIENT), f"{code}\nis shown, but:\n{printed}"
            continue
        before = [in_shell(line) for line in code.splitlines() if line.startswith(COMMANDS)] if not language else []
        if language == "python":
            before = [in_session(code, session)]
        steps += before
    return steps


def run_notebook(path: Path) -> list[Step]:
    """Run the cells of a notebook in the current folder."""
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    session: dict[str, Any] = {"__name__": "__main__"}
    with strict_warnings():
        return [in_session("".join(cell["source"]), session) for cell in cells]


def in_shell(line: str) -> Step:
    """Run a command with the Python that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-c", line], env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stderr}"
    return Step(line, done.stdout, done.stderr)


@contextlib.contextmanager
def strict_warnings() -> Iterator[None]:
    """A warning that a reader would see is an error, unless the page itself silences it."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for unseen in (ResourceWarning, DeprecationWarning, PendingDeprecationWarning):
            warnings.simplefilter("ignore", unseen)
        yield


def in_session(code: str, session: dict[str, Any]) -> Step:
    """Run Python in the names that earlier blocks left."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "<page>", "exec"), session)
    return Step(code, printed.getvalue())
