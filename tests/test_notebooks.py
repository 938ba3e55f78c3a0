"""Notebooks run from top to bottom, their assertions about the data hold, and they are kept without outputs."""

from __future__ import annotations

import json

import matplotlib
import pytest

from pages import ROOT, run_notebook

FOLDER = ROOT / "docs/notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
name = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def in_folder(monkeypatch):
    """Where Jupyter runs a notebook; pictures are closed afterwards."""
    monkeypatch.chdir(FOLDER)
    matplotlib.use("agg")
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


@name
def test_notebook_runs_on_what_data_there_are(notebook, in_folder):
    assert any("assert " in step.code for step in run_notebook(notebook))


@pytest.mark.slow
@name
def test_notebook_runs_on_simulated_data(notebook, in_folder, monkeypatch, tmp_path):
    monkeypatch.setenv("VOXLOOM_DATA", str(tmp_path))
    run_notebook(notebook)


@name
def test_notebook_is_kept_without_outputs(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


def test_the_index_lists_all():
    listed = (FOLDER / "index.md").read_text().partition("maxdepth: 1")[2].split("```")[0].split()
    assert sorted(listed) == [path.stem for path in NOTEBOOKS]
