"""Clusters and TFCE out of core: the numbers of `permutation_test`, by both layouts, after a kill, and extended."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pytest

import voxloom
from voxloom.engine.events import TaskFinished
from voxloom.engine.task import Task
from voxloom.engine.turns import Turns
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.pipeline.inference import nulls, rounds, whole_maps
from voxloom.pipeline.planning import group_sizes, memory
from voxloom.pipeline.stages import spatial
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


def analysis(folder: Path, work: Path, n_perm: int = N_PERM) -> Any:
    inference = {"n_perm": n_perm, "method": "permutation", "statistics": STATISTICS}
    raw = {
        "maps": {"files": [str(path) for path in sorted(folder.glob("*.nii"))]},
        "group": {"mean": {"inference": inference}},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
    }
    return parse_maps_analysis(raw)


@pytest.fixture(scope="module")
def in_memory(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_maps(analysis(folder, tmp_path_factory.mktemp("memory")))


@pytest.fixture
def through_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """No map fits; two stretches of voxels."""
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: False)
    monkeypatch.setattr("voxloom.pipeline.inference.rounds.rearrange_stretch", lambda *_: 4096)
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_rows", lambda *_: 16)


def test_numbers_are_those_of_permutation_test(folder: Path, in_memory: Any) -> None:
    found = voxloom.open_study(in_memory.store).results(in_memory.group_names["mean"]).load()
    maps = voxloom.from_nifti(sorted(folder.glob("*.nii")))
    wanted = voxloom.permutation_test(maps, n_perm=N_PERM, statistics=STATISTICS)
    names = {name for name in wanted if name.startswith(("p_", "null_"))}
    assert names == {name for name in found if name.startswith(("p_", "null_"))} - {"p_value"}
    for name in names:
        np.testing.assert_array_equal(found[name][0, 0], wanted[name], err_msg=name)


def writes_maps(record: Any) -> bool:
    """Whether a task writes maps for others."""
    return "/maps/" in record.key


def stop_at(n_tasks: int, *, writing: bool) -> Callable[[Any], None]:
    """Ends the run after so many tasks that write maps, or that use them."""
    seen: list[str] = []

    def listen(event: Any) -> None:
        if isinstance(event, TaskFinished) and event.stage == "spatial" and writes_maps(event.record) == writing:
            seen.append(event.record.key)
            if len(seen) == n_tasks:
                raise Killed

    return listen


@pytest.mark.usefixtures("through_store")
def test_maps_through_the_store_give_the_same_bytes_and_go(
    folder: Path, in_memory: Any, tmp_path: Path, store_digests_of: Any, digests_of: Any
) -> None:
    done = run_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)
    assert digests_of(done.output) == digests_of(in_memory.output)
    again: list[str] = []
    run_maps(analysis(folder, tmp_path), on_event=lambda event: again.append(getattr(event, "record", "")))
    assert not any(again)


@pytest.mark.usefixtures("through_store")
@pytest.mark.parametrize("writing", [True, False])
def test_a_kill_and_an_extension_leave_the_bytes_of_one_run(
    folder: Path, in_memory: Any, tmp_path: Path, store_digests_of: Any, writing: bool
) -> None:
    """And what was lost of a test whose maps are gone is made again."""
    run_maps(analysis(folder, tmp_path, n_perm=128))
    with pytest.raises(Killed):
        run_maps(analysis(folder, tmp_path), on_event=stop_at(1, writing=writing))
    done = run_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)
    store = voxloom.open_study(done.store).objects
    lost = next(key for key in store.list("ledger/spatial/") if key.endswith("/0000128.json"))
    store.delete(lost)
    done = run_maps(analysis(folder, tmp_path))
    assert store_digests_of(done.store) == store_digests_of(in_memory.store)


class Disk:
    """Notes after each task how many bytes of maps the store holds, and which tasks were done; may end the run."""

    def __init__(self, store: Path, kill_after: int = 10**6) -> None:
        self.store, self.kill_after = store, kill_after
        self.held: list[int] = []
        self.keys: list[str] = []

    def __call__(self, event: Any) -> None:
        if not isinstance(event, TaskFinished) or event.stage != "spatial":
            return
        files = [path for path in self.store.glob("nulls/*/*/maps/**/*") if path.is_file()]
        self.held.append(sum(path.stat().st_size for path in files if path.name != "zarr.json"))
        self.keys.append(event.record.key)
        if len(self.keys) == self.kill_after:
            raise Killed


@pytest.fixture
def short_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two hundred rearrangements are seven batches."""
    for module in (group_sizes, memory, nulls, spatial, whole_maps):
        monkeypatch.setattr(module, "SPATIAL_BATCH", 32)


@pytest.mark.usefixtures("through_store", "short_batches")
@pytest.mark.parametrize("n_batches", [1, 2, 5])
def test_maps_take_no_more_disk_than_the_scratch_budget(
    folder: Path, tmp_path: Path, store_digests_of: Any, n_batches: int
) -> None:
    """Whatever it is, the bytes are those of any other; after a kill no finished task is done again."""
    scratch = n_batches * memory.maps_bytes(math.prod(SHAPE))
    whole = run_maps(analysis(folder, tmp_path / "whole"))
    wanted = analysis(folder, tmp_path).model_copy(update={"scratch_budget": scratch})
    store, seen = tmp_path / "maps.zarr", list[str]()
    for kill_after in (3, 4, 10**6):
        disk = Disk(store, kill_after)
        with suppress(Killed):
            run_maps(wanted, on_event=disk)
        assert 0 < max(disk.held) <= scratch
        seen += disk.keys
    assert len(seen) == len(set(seen)) == 7 + 2 * -(-7 // {1: 1, 2: 1, 5: 2}[n_batches])
    assert store_digests_of(store) == store_digests_of(whole.store)


def task(key: str, start: int = 0) -> Task:
    return Task(stage="spatial", key=key, function=list, kwargs={"batch": (start, start + 128)}, inputs="")


@pytest.mark.parametrize(("n_batches", "n_workers"), [(4, 2), (9, 4), (16, 4), (36, 9)])
def test_no_worker_waits_for_a_round_to_end(n_batches: int, n_workers: int) -> None:
    """Sixty batches, maps in two stretches; every task takes as long as any other."""
    uses = rounds.cut([task(f"use/{i}", i) for i in range(60)], n_batches)
    found = [rounds.Round(part, [task(f"{part[0].key}/maps/{s}") for s in range(2)]) for part in uses]
    tasks = list(rounds.in_turn(found, n_batches, {}))
    turns, steps = Turns(tasks), 0
    while running := [one for one in (turns.take() for _ in range(n_workers)) if one is not None]:
        for one in running:
            turns.done(one.key)
        steps += 1
    assert steps <= len(tasks) / n_workers + 2


@pytest.mark.parametrize("n_batches", [1, 2, 3, 4, 9, 16, 100])
def test_rounds_fit_twice_and_a_test_of_1000_ends_with_one(n_batches: int) -> None:
    short, long = (rounds.cut(nulls.spatial_batches(n_perm), n_batches) for n_perm in (1000, 10_000))
    assert long[: len(short)] == short
    assert len(long[0]) == {1: 1, 2: 1, 3: 1, 4: 2, 9: 4, 16: 8, 100: 8}[n_batches]


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
