"""Parts of the reference that are read from the code: the command line, Datasets of a store, the folder listing."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from typer.cli import get_docs_for_click

import voxloom
from voxloom.cli import app as commands
from voxloom.schema import SCHEMAS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docutils.nodes import Node
    from sphinx.application import Sphinx

PACKAGE = Path(voxloom.__file__).parent


def command_line() -> str:
    """Every command with its arguments and options, as typer documents it."""
    command = typer.main.get_command(commands)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="voxloom")
    return text.partition("\n")[2]  # the page has its own title


def datasets() -> str:
    """A table for every kind of Dataset."""
    return "\n".join(_dataset(kind) for kind in SCHEMAS)


def _dataset(kind: str) -> str:
    rows = [
        f"| `{name}` | `({', '.join(variable.dims)})` | {variable.unit or '-'} | {'optional' * variable.optional} |"
        for name, variable in SCHEMAS[kind].items()
    ]
    return "\n".join([f"### {kind}", "", "| variable | dims | unit | |", "|---|---|---|---|", *rows, ""])


def modules() -> str:
    """The folder listing of the package, a line a module: what its docstring says first."""
    return "```text\n" + "\n".join(_listing(PACKAGE, 0)) + "\n```\n"


def _listing(folder: Path, depth: int) -> Iterator[str]:
    for path in sorted(folder.iterdir(), key=lambda path: (path.is_dir(), path.name)):
        source = path / "__init__.py" if path.is_dir() else path
        if source.suffix != ".py" or not source.exists() or path.name == "__init__.py":
            continue
        said = (ast.get_docstring(ast.parse(source.read_text())) or "").partition("\n")[0]
        yield f"{'  ' * depth + path.name + '/' * path.is_dir():<34} {said}".rstrip()
        if path.is_dir():
            yield from _listing(path, depth + 1)


def directive(write: Callable[[], str]) -> type[SphinxDirective]:
    """Directive that stands for the Markdown a function writes."""

    class Written(SphinxDirective):
        def run(self) -> list[Node]:
            self.env.note_dependency(__file__)
            return self.parse_content_to_nodes_of(write())

        def parse_content_to_nodes_of(self, text: str) -> list[Node]:
            self.content = StringList(text.splitlines(), source=write.__name__)
            return self.parse_content_to_nodes(allow_section_headings=True)

    return Written


def setup(app: Sphinx) -> dict[str, bool]:
    """Register a directive a part."""
    for write in (command_line, datasets, modules):
        app.add_directive(write.__name__.replace("_", "-"), directive(write))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
