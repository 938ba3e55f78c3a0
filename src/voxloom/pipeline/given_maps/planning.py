"""What a test of given maps would do, without writing anything."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING

from voxloom.engine.plan import Plan, Problem, StagePlan
from voxloom.io.maps.files import find_maps, maps_mask
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import is_study, open_study
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.design import notes_of_maps, planned_tests
from voxloom.pipeline.given_maps.gather import MapsWorkspace
from voxloom.pipeline.given_maps.line import STAGES
from voxloom.pipeline.line import recall
from voxloom.pipeline.planning import calibration, memory
from voxloom.pipeline.planning.group_effort import group_stage_seconds, images_seconds, per_task
from voxloom.pipeline.planning.group_sizes import Work, group_export_size, group_stages
from voxloom.pipeline.planning.inference_sizes import inference_sizes
from voxloom.pipeline.planning.plan import noted, still_to_do
from voxloom.pipeline.planning.suspicions import copies
from voxloom.pipeline.stages.consolidate import NAME as CONSOLIDATE
from voxloom.pipeline.stored.map_files import DATASET, planned_group_files, with_sidecars

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from voxloom.io.maps.files import MapFiles
    from voxloom.pipeline.planning.calibration import Rates
    from voxloom.spec import MapsAnalysis

#: Maps of which voxels are counted where there is neither a mask nor a store: all are read for a test, at 0.1 s each.
LOOKED_AT = 100


def plan_maps(analysis: MapsAnalysis, *, calibrate: bool = False) -> Plan:
    """Check maps and designs, and count the work.

    Parameters
    ----------
    analysis : MapsAnalysis
    calibrate : bool
        Time the kernels on small made-up data (2 s), and estimate the CPU time of every stage from that.

    Returns
    -------
    Plan
        As of `voxloom.plan`. Without mask and store, voxels are counted in the first `LOOKED_AT` maps, and a warning
        says so where there are more.

    Raises
    ------
    InputError
        Maps, mask, tables or contrasts do not go together: what the test would be refused for.
    """
    maps = find_maps(analysis.maps.files, analysis.maps.variances)
    ws = MapsWorkspace(analysis, Objects(analysis.store.path), maps=maps)
    tests = planned_tests(analysis, maps)
    problems = [noted(text) for text in notes_of_maps(analysis, maps, tests)]
    problems += copies(maps.files) if len(maps.files) > 1 else []
    problems += few_looked_at(ws)
    work = Work(analysis, tests, n_voxels_of(ws))
    stages = {stage.name: stage for stage in stage_sizes(work, maps)}
    if calibrate:
        rates = calibration.measure(100, 10, len(maps.labels), "ols")
        seconds = stage_seconds(work, maps, stages, rates)
        stages = {name: replace(stage, cpu_seconds=seconds[name]) for name, stage in stages.items()}
    return Plan(
        stages=tuple(still_to_do(stage, ws.done(name)) for name, stage in stages.items()),
        problems=tuple(problems),
        files=(*DATASET, *with_sidecars(planned_group_files(ws, [], tests))),
        workers=1 if analysis.cluster == "threads" else analysis.workers or os.cpu_count() or 1,
    )


def n_voxels_of(ws: MapsWorkspace) -> int:
    """Voxels of the store, whose finished tasks are taken over; of the mask; or of maps."""
    if is_study(ws.objects):
        ws.study = open_study(ws.url)
        for stage in STAGES:
            if stage.wanted is None or stage.wanted(ws.analysis):
                recall(ws, stage)
        return len(ws.voxel)
    few = replace(ws.maps, files=ws.maps.files[:LOOKED_AT])
    return int(maps_mask(few, ws.analysis.maps.mask).sum())


def few_looked_at(ws: MapsWorkspace) -> list[Problem]:
    """Say that not all maps were read to count voxels."""
    if ws.analysis.maps.mask is not None or is_study(ws.objects) or len(ws.maps.files) <= LOOKED_AT:
        return []
    what = f"voxels were counted in the first {LOOKED_AT} of {len(ws.maps.files)}; all that any map lacks are left out."
    return [Problem(level="warning", where="maps", what=what, remedy="Give a mask to have them counted exactly.")]


def stage_sizes(work: Work, maps: MapFiles) -> Iterator[StagePlan]:
    """Every stage in order."""
    yield gather_size(work, maps)
    yield from group_stages(work)
    yield from inference_sizes(work)
    yield group_export_size(work, math.prod(maps.grid.shape))


def gather_size(work: Work, maps: MapFiles) -> StagePlan:
    """Files in, maps side by side out."""
    n_maps, n_volume, files = len(maps.labels), math.prod(maps.grid.shape), gather.kinds(maps)
    piece = memory.gather_piece(work.budget, work.n_voxels, n_maps, n_volume, len(files))
    shard = memory.map_voxels(work.n_voxels)
    return StagePlan(
        name=CONSOLIDATE,
        n_tasks=len(gather.blocks(maps)),
        bytes_read=sum(path.stat().st_size for found in files.values() for path in found),
        bytes_written=work.maps(len(files) * n_maps),
        peak_memory=memory.gather_memory(n_maps, min(piece, work.n_voxels), n_volume, shard, len(files)),
    )


def stage_seconds(work: Work, maps: MapFiles, stages: Mapping[str, StagePlan], rates: Rates) -> dict[str, float]:
    """CPU seconds of all tasks of each stage."""
    gathered = stages[CONSOLIDATE].bytes_written
    volumes = gathered // work.n_voxels * math.prod(maps.grid.shape)
    passes = len(gather_passes(work, maps))
    seconds = group_stage_seconds(work, stages, rates) | {
        CONSOLIDATE: passes * volumes * rates.decode + gathered * rates.encode,
        "export": images_seconds(work.images, work.n_voxels, rates),
    }
    return {name: own + seconds[name] for name, own in per_task(stages, rates).items()}


def gather_passes(work: Work, maps: MapFiles) -> list[slice]:
    """Stretches of voxels that maps are read for, one decode each."""
    n_volume, n_kinds = math.prod(maps.grid.shape), len(gather.kinds(maps))
    return gather.gather_pieces(work.n_voxels, len(maps.labels), n_volume, work.budget, n_kinds)
