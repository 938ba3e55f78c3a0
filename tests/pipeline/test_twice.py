"""A task that two processes run at once, as after a client died and its worker did not, changes nothing."""

from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from voxloom.engine.ledger import Ledger
from voxloom.engine.worker import execute
from voxloom.io.store.access import create_array, read_region, write_region
from voxloom.io.store.objects import Objects
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from voxloom.engine.task import Task

TIMES = 2


def run_often(tasks: list[Task], nowhere: str, barrier: Any) -> None:
    """Run every task some times over, beside another process that does the same."""
    ledger = Ledger(Objects(nowhere))  # of its own: the record of one would spare the other its work
    for task in tasks:
        for _ in range(TIMES):
            barrier.wait(60)
            record = execute(task, ledger, retries=0, is_stopped=lambda: False)
            assert record.status == "done", record.reason
            ledger.forget(record)


def write_often(url: str, value: float, barrier: Any) -> None:
    barrier.wait(60)
    for _ in range(100):
        write_region(Objects(url), "a", (slice(0, 4096),), np.full(4096, value))


def start_two(target: Callable[..., None], *args: tuple[Any, Any]) -> tuple[list[Any], Any]:
    """Two processes, and the barrier that they share, which must outlive their start."""
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(2)
    processes = [spawn.Process(target=target, args=(*(pair[i] for pair in args), barrier)) for i in (0, 1)]
    for process in processes:
        process.start()
    return processes, barrier


@pytest.mark.usefixtures("already_run")
def test_tasks_run_twice_at_once_leave_the_bytes_of_one_run_and_are_there_all_the_while(
    pristine_study: Path,
    tmp_path: Path,
    analysis_of: Callable[..., dict[str, Any]],
    digests_of: Callable[[Path], dict[str, str]],
    store_digests_of: Callable[[str], dict[str, str]],
) -> None:
    import voxloom
    from voxloom.pipeline.line import recall, stages_of
    from voxloom.pipeline.running import at_work

    analysis, tasks = analysis_of(pristine_study, tmp_path), []
    result = voxloom.run(analysis)
    before = store_digests_of(result.store), digests_of(result.output)
    stages = stages_of(parse_analysis(analysis))
    with at_work(analysis, None, None, stages) as (ws, _):
        for stage in stages:
            tasks.append(stage.tasks(ws)[0])
            recall(ws, stage)
    processes, _barrier = start_two(run_often, (tasks, tasks), (str(tmp_path / "one"), str(tmp_path / "two")))
    looks = 0
    while any(process.is_alive() for process in processes):
        assert store_digests_of(result.store) == before[0]
        looks += 1
    assert [process.exitcode for process in processes] == [0, 0]
    assert looks > 1
    assert (store_digests_of(result.store), digests_of(result.output)) == before


def test_a_reader_sees_the_old_shard_or_the_new_one_never_a_mixture(tmp_path: Path) -> None:
    objects = Objects(str(tmp_path / "a.zarr"))
    create_array(objects, "a", dims=("voxel",), shape=(4096,), chunks=(1024,), shards=(4096,))
    write_region(objects, "a", (slice(0, 4096),), np.full(4096, 1.0))
    processes, _barrier = start_two(write_often, (objects.url, objects.url), (1.0, 2.0))
    seen = set()
    while any(process.is_alive() for process in processes):
        values = read_region(objects, "a", (slice(0, 4096),))
        assert np.ptp(values) == 0
        seen.add(float(values[0]))
    assert [process.exitcode for process in processes] == [0, 0]
    assert seen == {1.0, 2.0}
