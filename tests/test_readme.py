"""The README holds: its commands and its Python run as they stand, in its order, in an empty folder."""

from __future__ import annotations

import re

import pytest

from pages import ROOT, blocks, commands, follow

README = (ROOT / "README.md").read_text()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory):
    """What every example printed, by its first words, and the folder they ran in."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        steps = follow(README)
    number = iter(range(1, 10))
    names = [
        " ".join(step.code.split()[:2]) if step.code in commands(README) else f"example {next(number)}"
        for step in steps
    ]
    return dict(zip(names, steps, strict=True)), folder


def test_every_command_of_the_line_is_shown():
    shown = [line.split()[1] for line in commands(README) if line.startswith("voxloom")]
    assert shown == ["init", "plan", "ingest", "run", "status", "verify", "export", "report"]


def test_commands_do_what_the_readme_says(outputs):
    said, folder = outputs
    assert "memory per task" in said["voxloom plan"].output
    assert re.search(r"^export +(\d+) of \1 done", said["voxloom status"].output, re.MULTILINE)
    assert said["voxloom verify"].output == f"{folder / 'faces.zarr'}: sound\n"
    everything = "".join(done.errors for done in said.values())
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
    found = re.fullmatch(r"(\d+) voxels at FWE p <= 0.05\n", said["example 1"].output)
    assert int(found[1]) > 50
    assert (folder / "face-house_z.nii.gz").exists()
    assert "sub-12_task-faces_run-1" in said["example 2"].output


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    shown = "\n".join(code for language, code in blocks(README) if not language)
    targets = re.findall(r"^make (\w+)", shown, re.MULTILINE)
    assert targets == ["demo", "test", "docs"]
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
