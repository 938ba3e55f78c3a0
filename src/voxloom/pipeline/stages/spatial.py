"""Stage 8: nulls of clusters and TFCE, one task per test and batch of permutations, over the whole map.

The maps of a batch are made in its task where the effects of all subjects fit the budget beside them. Else tasks of
this stage write them before, by stretches of voxels (`rounds`), and they are removed when the batch is done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from voxloom.engine.runner import Task
from voxloom.io.store.arrays import create_array
from voxloom.pipeline.inference.nulls import (
    SPATIAL_BATCH,
    maps_path,
    nulls_of,
    spatial_batches,
    spatial_path,
    spatial_statistics,
)
from voxloom.pipeline.inference.rounds import Round, cut, in_turn, make_room, make_tasks, map_stretches, remove_maps
from voxloom.pipeline.inference.whole_maps import spatial_batch
from voxloom.pipeline.planning.memory import map_fits, map_rows, scratch_batches
from voxloom.pipeline.stages import infer
from voxloom.pipeline.stages.group import group_tests, inputs_of
from voxloom.pipeline.stored.maps import make_map_array
from voxloom.pipeline.workspace import GroupWorkspace, Stage
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxloom.engine.ledger import Record
    from voxloom.pipeline.inference.nulls import Null
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import GroupAnalysis, Inference

NAME = "spatial"


def is_wanted(analysis: GroupAnalysis) -> bool:
    """Whether any model has a statistic of the whole map."""
    return any(spatial_statistics(model.inference) for model in analysis.group.values())


def tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per contrast, group contrast and batch of permutations, and those that write maps for them."""
    rounds = all_rounds(ws)
    records = ws.ledger.read(NAME) if any(one.makes for one in rounds) else {}
    return list(in_turn(rounds, scratch_batches(ws.analysis.scratch_budget, len(ws.voxel)), records))


def all_rounds(ws: GroupWorkspace) -> list[Round]:
    """Rounds of all group models whose nulls of voxels are there.

    The first of all come first, so that at any time all have about as many permutations.
    """
    found: list[Round] = []
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if ws.complete(infer.null_tasks(ws, test, wanted)):
            found += rounds_of(ws, test, wanted)
    return sorted(found, key=lambda one: one.start)


def rounds_of(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> Iterator[Round]:
    """The rounds of one group model; none where no statistic is of the whole map."""
    n_voxels, budget, inputs = len(ws.voxel), ws.analysis.memory_budget, inputs_of(ws, test)
    stored = through_store(n_voxels, test, wanted, budget)
    n_batches = scratch_batches(ws.analysis.scratch_budget, n_voxels) if stored else 1
    stretches = map_stretches(n_voxels, test, budget) if stored else []
    for null in nulls_of(test, wanted, ws.analysis.seed) if spatial_statistics(wanted) else ():
        for uses in cut(batch_tasks(ws, test, wanted, null, inputs), n_batches):
            yield Round(uses, make_tasks(null, test, stretches, uses, inputs))


def batch_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference, null: Null, inputs: str) -> list[Task]:
    """One task per batch of one null."""
    path, budget = spatial_path(null, wanted), ws.analysis.memory_budget
    stored = through_store(len(ws.voxel), test, wanted, budget)
    return [
        Task(
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
                "stored_rows": map_rows(len(ws.voxel), budget) if stored else None,
            },
            inputs=digest([inputs, batch.stop, *sorted(test.labels.items())]),
        )
        for place, batch in enumerate(spatial_batches(null.setup.n_perm))
    ]


def spatial_tasks(ws: GroupWorkspace, test: GroupTest, wanted: Inference) -> list[Task]:
    """The tasks of one group model that leave maxima."""
    return [use for one in rounds_of(ws, test, wanted) for use in one.uses]


def prepare(ws: GroupWorkspace) -> None:
    """Room for the maxima, the observed maps and the maps to come; what a shorter test has left is kept."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        for null in nulls_of(test, wanted, ws.analysis.seed) if spatial_statistics(wanted) else ():
            make_spatial(ws, null, wanted)
    stored, records = [one for one in all_rounds(ws) if one.makes], ws.ledger.read(NAME)
    for one in stored:
        make_room(ws.objects, ws.ledger, one, len(ws.voxel), records)


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


def used(ws: GroupWorkspace, record: Record) -> None:
    """Remove the maps of a batch that is done; a task that wrote some leaves them."""
    if "/maps/" not in record.key:
        remove_maps(ws.objects, record.key)


def finish(ws: GroupWorkspace) -> None:
    """Leave nothing of the maps of the models whose every batch is done."""
    for test in group_tests(ws):
        wanted = ws.analysis.group[test.name].inference
        if spatial_statistics(wanted) and ws.complete(spatial_tasks(ws, test, wanted)):
            for null in nulls_of(test, wanted, ws.analysis.seed):
                ws.objects.delete_tree(maps_path(null.path))


def through_store(n_voxels: int, test: GroupTest, wanted: Inference, budget: int) -> bool:
    """Whether the maps of a group model are written before they are used."""
    if wanted.variance_smoothing_fwhm is not None:  # its variances are of whole maps before the statistic is
        return False
    return bool(spatial_statistics(wanted)) and not map_fits(budget, n_voxels, len(test.subjects))


STAGE = Stage(NAME, tasks, prepare, finish, is_wanted, used)
