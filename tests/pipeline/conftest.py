"""A small simulated study and the analysis of it, for tests of the whole line."""

from __future__ import annotations

import hashlib
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from voxloom.io.store.objects import Objects
from voxloom.simulate import write_bids_study

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture(scope="session")
def pristine_study(tmp_path_factory) -> Path:
    """Four subjects with two short runs each; not to be changed."""
    folder = tmp_path_factory.mktemp("study") / "bids"
    write_bids_study(folder, n_subjects=4, n_runs=2, shape=(10, 12, 9), n_volumes=60, seed=3)
    return folder


@pytest.fixture
def bids(pristine_study, tmp_path) -> Path:
    """A copy of the study that a test may damage."""
    return shutil.copytree(pristine_study, tmp_path / "bids")


def make_analysis(bids: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """The analysis of the study, its store and output in `folder`."""
    analysis: dict[str, Any] = {
        "data": {"bids_dir": str(bids), "task": "faces"},
        "store": {"path": str(folder / "study.zarr")},
        "output": {"dir": str(folder / "results")},
        "first_level": {
            "confounds": ["trans_?", "rot_?"],
            "contrasts": {"faceVsHouse": "face - house", "any": ["face", "house"]},
        },
        "group": {"mean": {"inference": {"n_perm": 16, "alpha": 0.25}}},
        "cluster": "threads",
        "memory_budget": "64MiB",
    }
    for key, value in changes.items():
        if isinstance(value, dict) and key in analysis:
            analysis[key] = analysis[key] | value
        else:
            analysis[key] = value
    return analysis


@pytest.fixture(scope="session")
def analysis_of() -> Callable[..., dict[str, Any]]:
    """`make_analysis`, as a fixture."""
    return make_analysis


def file_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by relative path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def store_digests(url: str | Path) -> dict[str, str]:
    """SHA-256 of every object of a store, the records of the tasks and the lock apart."""
    objects = Objects(url)
    keys = [key for key in objects.list("") if not key.startswith(("ledger/", "lock.json"))]
    return {key: hashlib.sha256(objects.get(key) or b"").hexdigest() for key in keys}


@pytest.fixture(scope="session")
def undisturbed_run(pristine_study, tmp_path_factory) -> Any:
    """A run that nothing disturbed."""
    import voxloom

    folder = tmp_path_factory.mktemp("undisturbed")
    result = voxloom.run(make_analysis(pristine_study, folder))
    assert result.ok, result
    return result


@pytest.fixture(scope="session")
def undisturbed(undisturbed_run) -> dict[str, str]:
    """Digests of its output files."""
    return file_digests(undisturbed_run.output)


@pytest.fixture(scope="session")
def undisturbed_store(undisturbed_run) -> dict[str, str]:
    """Digests of the objects of its store."""
    return store_digests(undisturbed_run.store)


@pytest.fixture
def already_run(undisturbed_run, tmp_path) -> None:
    """A copy of its store for a test that begins with a run like it, which then has the maps alone to write."""
    shutil.copytree(undisturbed_run.store, tmp_path / "study.zarr")


@pytest.fixture
def store_digests_of() -> Callable[[str], dict[str, str]]:
    """`store_digests`, as a fixture."""
    return store_digests


@pytest.fixture
def digests_of() -> Callable[[Path], dict[str, str]]:
    """`file_digests`, as a fixture."""
    return file_digests
