"""Clusters and TFCE out of core: the numbers of `permutation_test`, by both layouts, after a kill, and extended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

import voxloom
from voxloom.pipeline import memory, nulls
from voxloom.pipeline.infer_maps import infer_maps
from voxloom.spec import parse_maps_analysis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

#: More than one chunk of voxels, so that the maps are written by two tasks.
SHAPE, N_MAPS, N_PERM = (19, 18, 16), 9, 200
STATISTICS = ["max_stat", "tfce", {"cluster_size": {"threshold": 0.01}}, {"cluster_mass": {"on": "stat"}}]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the run comes after it."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("volumes")
    rng = np.random.default_rng(3)
    for i in range(N_MAPS):
        values = rng.standard_normal(SHAPE).astype(np.float32)
        values[:4, :4, :4] += 1
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"map-{i}.nii")
    return folder


def analysis(folder: Path, work: Path, n_perm: int = N_PERM, budget: str = "512MiB") -> Any:
    inference = {"n_perm": n_perm, "method": "permutation", "statistics": STATISTICS}
    raw = {
        "maps": {"files": [str(path) for path in sorted(folder.glob("*.nii"))]},
        "group": {"mean": {"inference": inference}},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
        "memory_budget": budget,
    }
    return parse_maps_analysis(raw)


@pytest.fixture(scope="module")
def in_memory(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return infer_maps(analysis(folder, tmp_path_factory.mktemp("memory")))


@pytest.fixture
def through_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map fits; two stretches of voxels."""
    monkeypatch.setattr("voxloom.pipeline.spatial.map_fits", lambda *_: False)
    monkeypatch.setattr("voxloom.pipeline.spatial.rearrange_stretch", lambda *_: 4096)
    monkeypatch.setattr("voxloom.pipeline.spatial.map_rows", lambda *_: 16)


def test_numbers_are_those_of_permutation_test(folder: Path, in_memory: Any) -> None:
    found = voxloom.open_study(in_memory.store).results(in_memory.group_names["mean"]).load()
    maps = voxloom.from_nifti(sorted(folder.glob("*.nii")))
    wanted = voxloom.permutation_test(maps, n_perm=N_PERM, statistics=STATISTICS)
    names = {name for name in wanted if name.startswith(("p_", "null_"))}
    assert names == {name for name in found if name.startswith(("p_", "null_"))} - {"p_value"}
    for name in names:
        np.testing.assert_array_equal(found[name][0, 0], wanted[name], err_msg=name)


def stop_at(stage: str, n_tasks: int) -> Callable[[Any], None]:
    """Ends the run after so many tasks of a stage."""
    seen: list[str] = []

    def listen(event: Any) -> None:
        if event.__class__.__name__ == "TaskFinished" and event.stage == stage:
            seen.append(event.record.key)
            if len(seen) == n_tasks:
                raise Killed

    return listen


@pytest.mark.usefixtures("through_store")
def test_maps_through_the_store_give_the_same_bytes_and_go(
    folder: Path, in_memory: Any, tmp_path: Path, store_digests_of: Any, digests_of: Any
) -> None:
    done = infer_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)
    assert digests_of(done.output) == digests_of(in_memory.output)
    again: list[str] = []
    infer_maps(analysis(folder, tmp_path), on_event=lambda event: again.append(getattr(event, "record", "")))
    assert not any(again)


@pytest.mark.usefixtures("through_store")
@pytest.mark.parametrize("stage", ["rearrange", "spatial"])
def test_a_kill_and_an_extension_leave_the_bytes_of_one_run(
    folder: Path, in_memory: Any, tmp_path: Path, store_digests_of: Any, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """And what was lost of a test whose maps are gone is made again."""
    infer_maps(analysis(folder, tmp_path, n_perm=128))
    with pytest.raises(Killed):
        infer_maps(analysis(folder, tmp_path), on_event=stop_at(stage, 1))
    done = infer_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)
    store = voxloom.open_study(done.store).objects
    lost = next(key for key in store.list("ledger/spatial/") if key.endswith("0000128.json"))
    store.delete(lost)
    done = infer_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)


@pytest.mark.parametrize("n_perm", [1, 127, 128, 999, 1000, 1001, 1024, 1025, 20_000])
def test_batches_of_whole_maps_begin_alike_for_every_length(n_perm: int) -> None:
    found, longer = nulls.spatial_batches(n_perm), nulls.spatial_batches(n_perm + 1500)
    assert (found[0].start, found[-1].stop) == (0, n_perm)
    assert all(batch.stop - batch.start <= nulls.SPATIAL_BATCH for batch in found)
    assert found[:-1] == longer[: len(found) - 1]
    assert (n_perm == 1000) <= (found == longer[: len(found)])


def test_the_layout_follows_the_budget() -> None:
    """Whole maps of 300 subjects fit 1 GiB, not 512 MiB; rows of stored ones do."""
    n_voxels, n_subjects = 230_000, 300
    assert memory.map_fits(2**30, n_voxels, n_subjects)
    assert not memory.map_fits(2**29, n_voxels, n_subjects)
    assert memory.stored_spatial_memory(n_voxels, memory.map_rows(n_voxels, 2**29)) <= 2**29
