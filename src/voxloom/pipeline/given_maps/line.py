"""Permutation inference for people who come with maps only: gather -> group -> infer -> correct -> export."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.engine.cluster import connect
from voxloom.engine.lock import StoreLock
from voxloom.io.bids.derivative_dataset import write_dataset
from voxloom.io.maps.files import find_maps, maps_mask
from voxloom.io.nifti.write import clean_partial as clean_partial_files
from voxloom.io.store.objects import Objects, clean_partial
from voxloom.io.study.open import create_study
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.design import notes_of_maps, planned_tests
from voxloom.pipeline.given_maps.gather import MapsWorkspace
from voxloom.pipeline.line import W, advance, ended
from voxloom.pipeline.planning import memory
from voxloom.pipeline.planning.memory import require
from voxloom.pipeline.planning.refusal import require_tests_memory
from voxloom.pipeline.stages import correct, group, harmonise, infer, influence, spatial
from voxloom.pipeline.stages.write import forget_lost, note_leftovers
from voxloom.pipeline.stages.write_group import group_tasks
from voxloom.pipeline.stored.map_files import NAME as EXPORT
from voxloom.pipeline.stored.map_files import planned_group_files
from voxloom.pipeline.workspace import Stage

if TYPE_CHECKING:
    from collections.abc import Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.engine.ledger import Record
    from voxloom.engine.runner import Task
    from voxloom.pipeline.line import RunResult
    from voxloom.pipeline.workspace import GroupWorkspace
    from voxloom.spec import MapsAnalysis


def export_tasks(ws: GroupWorkspace) -> list[Task]:
    """One task per group test."""
    return [*group_tasks(ws)]


def prepare_export(ws: GroupWorkspace) -> None:
    """Describe the output folder and clear it of halves; forget records whose files are gone or another analysis's."""
    output = Path(ws.analysis.output.dir)
    write_dataset(output, name="voxloom results")
    clean_partial_files(output / name for name in planned_group_files(ws, [], group.group_tests(ws)))
    forget_lost(ws, export_tasks(ws))


EXPORT_STAGE = Stage(EXPORT, export_tasks, prepare_export)
STAGES: tuple[Stage[MapsWorkspace], ...] = (
    gather.STAGE,
    harmonise.COMBAT_STAGE,
    harmonise.STAGE,
    group.STAGE,
    influence.STAGE,
    infer.STAGE,
    spatial.STAGE,
    correct.STAGE,
    EXPORT_STAGE,
)


def run_maps(
    analysis: MapsAnalysis, client: distributed.Client | None = None, *, on_event: OnEvent | None = None
) -> RunResult:
    """Test group models on given maps, or go on where an earlier call stopped.

    The maps are put into a store, one decode a file, and the stages of `run` behind the subjects' maps do the rest:
    memory follows the budget, not the number of maps, and a test is extended by asking for more permutations.

    Parameters
    ----------
    analysis : MapsAnalysis
    client : distributed.Client, optional
        Cluster to run on; by default as the analysis says.
    on_event : callable, optional
        Called with each event of the engine.

    Raises
    ------
    InputError
        Maps, mask, tables or contrasts do not go together.
    StoreError
        The store is of other voxels, or another process works on it.
    """
    maps = find_maps(analysis.maps.files, analysis.maps.variances)
    tests = planned_tests(analysis, maps)
    with ExitStack() as stack:
        ws = MapsWorkspace(analysis, Objects(analysis.store.path), on_event, maps=maps)
        for text in notes_of_maps(analysis, maps, tests):
            ws.note(text)
        stack.enter_context(StoreLock(ws.objects, on_event=on_event))
        clean_partial(ws.objects)
        ws.study = create_study(ws.url, maps.grid, maps_mask(maps, analysis.maps.mask))
        shard = memory.map_voxels(len(ws.voxel))
        n_kinds = len(gather.kinds(maps))
        need = memory.gather_memory(len(maps.labels), shard, math.prod(maps.grid.shape), shard, n_kinds)
        require("maps", need, analysis.memory_budget)
        require_tests_memory(analysis, tests, len(ws.voxel))
        if client is None:
            client = stack.enter_context(
                connect(analysis.cluster, workers=analysis.workers, memory_budget=analysis.memory_budget)
            )
        return go(ws, client, STAGES)


def go(ws: W, client: distributed.Client | None, stages: Sequence[Stage[W]]) -> RunResult:
    """Run stages in turn; a failed task ends the line after its stage."""
    failed: tuple[Record, ...] = ()
    for stage in (stage for stage in stages if stage.wanted is None or stage.wanted(ws.analysis)):
        failed = advance(ws, client, stage)
        if failed:
            break
    if not failed and EXPORT_STAGE in stages:
        note_leftovers(ws, export_tasks(ws))
    return ended(ws, failed)
