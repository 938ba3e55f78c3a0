"""Tasks, bytes and memory of the stages that make sites alike; bytes are those that the tasks' records will count."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.engine.plan import StagePlan
from voxloom.pipeline.planning.memory import FLOAT64, group_memory, harmonise_memory, map_voxels
from voxloom.pipeline.stages.group import HARMONISE
from voxloom.pipeline.stages.harmonise import (
    COMBAT,
    MOMENTS,
    SHRUNKEN,
    combat_numbers,
    combat_piece,
    combat_work,
    shards,
)

if TYPE_CHECKING:
    from voxloom.pipeline.planning.group_sizes import Work
    from voxloom.pipeline.stages.group import GroupTest


def combat_task(n_voxels: int, test: GroupTest, budget: int) -> int:
    """Peak memory of a task of the first pass."""
    piece = min(map_voxels(n_voxels), combat_piece(n_voxels, test, budget))
    return group_memory(len(test.subjects), piece, combat_numbers(n_voxels, test), combat_work(test))


def harmonise_task(n_voxels: int, test: GroupTest) -> int:
    """Peak memory of a task of the second pass."""
    assert test.harmony is not None, "asked of models that harmonise"
    return harmonise_memory(n_voxels, len(test.subjects), test.harmony.n_parameters, len(test.harmony.labels))


def harmonise_sizes(work: Work) -> list[StagePlan]:
    """Maps in, what they tell out; both in again, harmonised maps out."""
    tests = [(test, test.harmony) for test in work.tests if test.harmony is not None]
    n_shards = len(shards(work.n_voxels))
    n_tasks = n_shards * sum(len(test.rows) for test, _ in tests)
    maps = sum(work.maps(len(test.subjects) * len(test.rows)) for test, _ in tests)
    told = sum(work.maps(known.n_parameters * len(test.rows)) for test, known in tests)
    moments = sum(FLOAT64 * n_shards * MOMENTS * len(known.labels) * len(test.rows) for test, known in tests)
    shrunken = sum(work.maps(len(SHRUNKEN) * len(known.labels) * len(test.rows)) for test, known in tests)
    first = max((combat_task(work.n_voxels, test, work.budget) for test, _ in tests), default=0)
    second = max((harmonise_task(work.n_voxels, test) for test, _ in tests), default=0)
    return [
        StagePlan(name=COMBAT, n_tasks=n_tasks, bytes_read=maps, bytes_written=told + moments, peak_memory=first),
        StagePlan(
            name=HARMONISE,
            n_tasks=n_tasks,
            bytes_read=maps + told + n_shards * moments,
            bytes_written=maps + shrunken,
            peak_memory=second,
        ),
    ]
