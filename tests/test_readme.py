"""The README holds: its commands and its Python run as they stand, in its order, in an empty folder."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Lines of the README's command blocks that a reader would type into a shell."""
    lines = [line for block in blocks("") for line in block.splitlines()]
    return [line for line in lines if line.startswith(("voxloom ", "python -c "))]


def execute(args: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(args, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What every example printed, by its first words, and the folder they ran in."""
    folder = tmp_path_factory.mktemp("reader")
    said = {}
    for line in commands():
        said[" ".join(line.split()[:2])] = execute(shlex.split(line, comments=True), folder)
    for number, block in enumerate(blocks("python"), start=1):
        script = folder / f"example{number}.py"
        script.write_text(block)
        said[script.name] = execute([sys.executable, script.name], folder)
    return said, folder


def test_every_command_of_the_line_is_shown():
    shown = [line.split()[1] for line in commands() if line.startswith("voxloom")]
    assert shown == ["init", "plan", "ingest", "run", "status", "verify", "export", "report"]


def test_commands_do_what_the_readme_says(outputs):
    said, folder = outputs
    assert "memory per task" in said["voxloom plan"].stdout
    assert re.search(r"^export +(\d+) of \1 done", said["voxloom status"].stdout, re.MULTILINE)
    assert said["voxloom verify"].stdout == f"{folder / 'faces.zarr'}: sound\n"
    everything = "".join(done.stderr for done in said.values())
    assert "Traceback" not in everything
    assert "Warning" not in everything


def test_files_are_where_the_readme_says(outputs):
    _, folder = outputs
    tree = re.search(r"## What is written where\n\n```\n(.*?)```", README, re.DOTALL)[1]
    top = ""
    for line in tree.splitlines():
        name = line.split("  ")[0] if not line.startswith(" ") else line.split()[0]
        top = name.strip() if not line.startswith(" ") else top
        path = top if not line.startswith(" ") else top + name
        assert list(folder.glob(re.sub(r"<\w+>", "*", path))), line


def test_python_examples_find_what_was_simulated(outputs):
    said, folder = outputs
    found = re.fullmatch(r"(\d+) voxels at FWE p <= 0.05\n", said["example1.py"].stdout)
    assert int(found[1]) > 50
    assert (folder / "face-house_z.nii.gz").exists()
    assert "sub-12_task-faces_run-1" in said["example2.py"].stdout


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^make (\w+)", "\n".join(blocks("")), re.MULTILINE)
    assert targets == ["demo", "test"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
