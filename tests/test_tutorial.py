"""The tutorial holds when it is followed to the letter in an empty folder, and so do the guides that go on from it."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import matplotlib
import pytest
import yaml

from pages import ROOT, blocks, commands, follow
from voxloom.spec import parse_analysis

PAGES = ROOT / "docs"
TUTORIAL = (PAGES / "tutorial/first-study.md").read_text()
GUIDES = ["images", "confounds", "sites", "read-results", "maps-only", "verify-and-repair", "from-nilearn"]


@pytest.fixture(scope="module")
def studied(tmp_path_factory):
    """The folder of a reader who has finished the tutorial, and what they did."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        matplotlib.use("agg")
        steps = follow(TUTORIAL)
    return folder, steps


def test_the_tutorial_prints_what_it_shows(studied):
    folder, steps = studied
    assert [step.code for step in steps if step.code.startswith(("voxloom", "python"))] == commands(TUTORIAL)
    assert not [step.code for step in steps if "Traceback" in step.errors or "Warning" in step.errors]
    assert (folder / "faces.png").stat().st_size > 10_000


@pytest.mark.parametrize("guide", GUIDES)
def test_guides_run_after_the_tutorial(studied, guide, monkeypatch):
    folder, _ = studied
    monkeypatch.chdir(folder)
    assert follow((PAGES / f"how-to/{guide}.md").read_text())


def test_the_page_of_the_store_runs_after_the_tutorial(studied, monkeypatch):
    folder, _ = studied
    monkeypatch.chdir(folder)
    (step,) = follow((PAGES / "reference/store.md").read_text())
    assert step.output == "(8192, 120)\n"


def test_folders_of_a_store_are_those_of_its_page(studied):
    """Noise is there only where it is smoothed."""
    folder, _ = studied
    tree = next(code for language, code in blocks((PAGES / "reference/store.md").read_text()) if not language)
    shown = set(re.findall(r"^  (\w+)/", tree, re.MULTILINE))
    assert {path.name for path in (folder / "faces.zarr").iterdir() if path.is_dir()} - {"voxel", "ijk", "mask"} >= (
        shown - {"noise"}
    )


@pytest.mark.parametrize("page", sorted(PAGES.rglob("*.md")), ids=lambda page: page.stem)
def test_analysis_files_of_the_pages_are_valid(page):
    for language, code in blocks(page.read_text()):
        if language == "yaml" and code.startswith("version:"):
            parse_analysis(yaml.safe_load(code))


def test_guides_to_clusters_hand_voxloom_a_client(monkeypatch):
    """Their packages are not here; what is asked of them is in their documents, what is asked of voxloom is checked."""
    ran = []
    cluster = SimpleNamespace(adapt=lambda **_: None, __enter__=lambda: None)

    class Context(SimpleNamespace):
        def __enter__(self):
            return cluster

        def __exit__(self, *_):
            return None

    def run(spec, client=None):
        ran.append((spec, client))

    for module, names in {
        "dask_jobqueue": ["SLURMCluster"],
        "dask_kubernetes.operator": ["KubeCluster"],
        "dask.distributed": ["Client"],
    }.items():
        monkeypatch.setitem(sys.modules, module, SimpleNamespace(**dict.fromkeys(names, lambda *_, **__: Context())))
    monkeypatch.setattr("voxloom.run", run)
    assert len(follow((PAGES / "how-to/cluster.md").read_text())) == 2
    assert ran == [("faces.yaml", cluster), ("faces.yaml", cluster)]
