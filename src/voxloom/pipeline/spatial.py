"""Stages 8 and 9: nulls of clusters and TFCE, one task per test and batch of permutations, over the whole map.

The maps of a batch are made in its task where the effects of all subjects fit the budget beside them. Else stage 8
writes them before, by stretches of voxels; stage 9 reads them, and removes them when all batches are done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from voxloom.engine.ledger import is_done
from voxloom.engine.runner import Task
from voxloom.io.arrays import create_array, get_attrs
from voxloom.pipeline import infer
from voxloom.pipeline.group import group_tests, inputs_of
from voxloom.pipeline.memory import MAP_ROWS, map_fits, map_rows, rearrange_stretch
from voxloom.pipeline.nulls import (
    SPATIAL_BATCH,
    maps_path,
    nulls_of,
    spatial_batches,
    spatial_path,
    spatial_statistics,
)
from voxloom.pipeline.stored_maps import make_map_array
from voxloom.pipeline.whole_maps import spatial_batch, write_maps
from voxloom.pipeline.workspace import GroupWorkspace, Stage
from voxloom.schema import MAP_CHUNK_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxloom.pipeline.group import GroupTest
    from voxloom.pipeline.nulls import Null
    from voxloom.spec import GroupAnalysis, Inference

NAME, MAPS = "spatial", "rearrange"
#: Batches whose maps one task writes, about 1,000 rearrangements: the effects are read once for all of them.
BATCHES = 8


def is_wanted(analysis: GroupAnalysis) -> bool:
    """Whether any model has a statistic of the whole map."""
    return any(spatial_statistics(model.inference) for model in analysis.group.values())


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per contrast, group contrast and batch of permutations, once what it reads is there.

    The first batches of all come first, so that at any time all have about as many permutations.
    """
    found: list[Task] = []
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if ws.complete([*infer.null_tasks(ws, test, wanted), *map_tasks(ws, test, wanted)]):
            found += spatial_tasks(ws, test, wanted)
    return sorted(found, key=lambda task: task.kwargs["batch"][0])


def spatial_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The tasks of one group model; none where no statistic is of the whole map."""
    inputs, n_voxels, budget = inputs_of(ws, test), len(ws.voxel), ws.analysis.memory_budget
    rows = map_rows(n_voxels, budget) if through_store(n_voxels, test, wanted, budget) else None
    for null in nulls_of(test, wanted, ws.analysis.seed) if spatial_statistics(wanted) else ():
        path = spatial_path(null, wanted)
        for place, batch in enumerate(spatial_batches(null.setup.n_perm)):
            yield Task(
                stage=NAME,
                key=f"{path.removeprefix('nulls/')}/{batch.start:07d}",
                function=spatial_batch,
                kwargs={
                    "store": ws.url,
                    "null_path": null.path,
                    "path": path,
                    "test": test,
                    "row": null.row,
                    "column": null.column,
                    "batch": (batch.start, batch.stop),
                    "place": place,
                    "inference": wanted,
                    "seed": ws.analysis.seed,
                    "stored_rows": rows,
                },
                inputs=digest([inputs, batch.stop, *sorted(test.labels.items())]),
            )


def prepare(ws: GroupWorkspace) -> None:
    """Room for the maxima and the observed maps; what a shorter test has left is kept."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        for null in nulls_of(test, wanted, ws.analysis.seed) if spatial_statistics(wanted) else ():
            make_spatial(ws, null, wanted)


def make_spatial(ws: GroupWorkspace, null: Null, wanted: Inference) -> None:
    """Create or resize the arrays of one null: a chunk of the maxima is written by one task, the maps by the first."""
    path, names = spatial_path(null, wanted), list(spatial_statistics(wanted))
    forget = partial(ws.ledger.forget_all, NAME, path.removeprefix("nulls/"))
    create_array(
        ws.objects,
        f"{path}/maxima",
        dims=("batch", "statistic", "permutation"),
        shape=(len(spatial_batches(null.setup.n_perm)), len(names), SPATIAL_BATCH),
        chunks=(1, len(names), SPATIAL_BATCH),
        attrs={"statistic": names},
        on_replace=forget,
        resizable="batch",
    )
    attrs = {"statistic": names}
    make_map_array(
        ws.objects, f"{path}/observed", {"statistic": len(names)}, len(ws.voxel), attrs=attrs, on_replace=forget
    )


def finish(ws: GroupWorkspace) -> None:
    """Remove the maps of the models whose every batch is done."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if spatial_statistics(wanted) and ws.complete(spatial_tasks(ws, test, wanted)):
            for null in nulls_of(test, wanted, ws.analysis.seed):
                ws.objects.delete_tree(maps_path(null.path))


def through_store(n_voxels: int, test: GroupTest, wanted: Inference, budget: int) -> bool:
    """Whether the maps of a group model are written before they are used."""
    return bool(spatial_statistics(wanted)) and not map_fits(budget, n_voxels, len(test.subjects))


def all_map_tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per contrast, group contrast, block of batches and stretch of voxels whose maps go through the store."""
    return [task for test in group_tests(ws) for task in map_tasks(ws, test, ws.analysis.group[test.name].inference)]


def map_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> Iterator[Task]:
    """The same of one group model."""
    n_voxels, budget = len(ws.voxel), ws.analysis.memory_budget
    if not through_store(n_voxels, test, wanted, budget):
        return
    inputs, stretches = inputs_of(ws, test), map_stretches(n_voxels, test, budget)
    for null in nulls_of(test, wanted, ws.analysis.seed):
        for batches in blocks(null.setup.n_perm):
            for s, voxels in enumerate(stretches):
                yield Task(
                    stage=MAPS,
                    key=f"{null.key}/{len(stretches)}-{s:04d}-{batches[0].start:07d}",
                    function=write_maps,
                    kwargs={
                        "store": ws.url,
                        "null_path": null.path,
                        "test": test,
                        "row": null.row,
                        "column": null.column,
                        "voxels": (voxels.start, voxels.stop),
                        "batches": [(batch.start, batch.stop) for batch in batches],
                        "inference": wanted,
                        "seed": ws.analysis.seed,
                    },
                    inputs=digest([inputs, batches[-1].stop, *sorted(test.labels.items())]),
                )


def blocks(n_perm: int) -> list[list[slice]]:
    """Batches, `BATCHES` at a time; a longer test begins with the blocks of a shorter one."""
    batches = spatial_batches(n_perm)
    return [batches[block] for block in shard_slices(len(batches), BATCHES)]


def map_stretches(n_voxels: int, test: GroupTest, budget: int) -> list[slice]:
    """Stretches of voxels whose maps fit the budget."""
    return shard_slices(n_voxels, rearrange_stretch(budget, len(test.subjects)))


def prepare_maps(ws: GroupWorkspace) -> None:
    """Room for the maps that are still to be written.

    Maps are removed when they have been used, their records stay. Where some are wanted again, since a batch is not
    done, the records of all that are gone are dropped before room is made.
    """
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        found = list(map_tasks(ws, test, wanted))
        lost = lost_maps(ws, test, wanted) if found else set()
        for task in found:
            if lost.intersection(paths_of(task)):
                ws.ledger.drop(MAPS, task.key)
        for task in found:
            if not is_done(task, ws.ledger.find(task)):
                make_maps(ws, test, task)


def paths_of(task: Task) -> dict[str, int]:
    """Arrays that a task writes a part of, with their numbers of maps."""
    return {maps_path(task.kwargs["null_path"], start): stop - start for start, stop in task.kwargs["batches"]}


def lost_maps(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> set[str]:
    """Maps that are not there, of batches that are not done."""
    known = ws.ledger.read(NAME)
    undone = [task for task in spatial_tasks(ws, test, wanted) if not is_done(task, known.get(task.key))]
    paths = (maps_path(task.kwargs["null_path"], task.kwargs["batch"][0]) for task in undone)
    return {path for path in paths if get_attrs(ws.objects, path) is None}


def make_maps(ws: GroupWorkspace, test: GroupTest, task: Task) -> None:
    """Create the arrays that a task writes a part of: a row is read as a whole, a stretch of voxels written at once."""
    n_voxels, chunk = len(ws.voxel), min(MAP_CHUNK_VOXELS, len(ws.voxel))
    stretch = map_stretches(n_voxels, test, ws.analysis.memory_budget)[0].stop
    for path, n_maps in paths_of(task).items():
        create_array(
            ws.objects,
            path,
            dims=("permutation", "voxel"),
            shape=(n_maps, n_voxels),
            chunks=(MAP_ROWS, chunk),
            shards=(-(-n_maps // MAP_ROWS) * MAP_ROWS, -(-stretch // chunk) * chunk),
            on_replace=partial(ws.ledger.forget_all, MAPS, task.key.rpartition("/")[0]),
        )


MAPS_STAGE = Stage(MAPS, all_map_tasks, prepare_maps, wanted=is_wanted)
STAGE = Stage(NAME, tasks, prepare, finish, is_wanted)
