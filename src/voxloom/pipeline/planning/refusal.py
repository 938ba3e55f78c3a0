"""Refuses, before anything is computed, a run whose tasks do not fit the memory budget."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from voxloom.errors import InputError
from voxloom.pipeline.inference.nulls import spatial_statistics
from voxloom.pipeline.planning import memory
from voxloom.pipeline.planning.group_sizes import group_task
from voxloom.pipeline.planning.harmonise_sizes import combat_task, harmonise_task
from voxloom.pipeline.planning.inference_sizes import infer_task, rearrange_task, spatial_task
from voxloom.pipeline.planning.memory import require
from voxloom.pipeline.stages import noise
from voxloom.pipeline.stages.group import group_test
from voxloom.pipeline.stages.influence import influence_task
from voxloom.pipeline.stages.spatial import through_store
from voxloom.schema import MiB

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.workspace import Workspace
    from voxloom.spec import GroupAnalysis


def require_ingest_memory(ws: Workspace, headers: Mapping[str, NiftiInfo]) -> None:
    """Refuse images of which not even two volumes and some chunks fit the budget.

    Raises
    ------
    MemoryBudgetError
        Names the run, what its task needs, and the budget that would do.
    """
    budget, fwhm = ws.analysis.memory_budget, ws.analysis.first_level.smoothing_fwhm
    for run_id, info in headers.items():
        need = memory.ingest_memory(info, len(ws.voxel), fwhm, budget, streams=ws.objects.streams)
        require(f"ingest of {run_id}", need, budget)


def require_memory(ws: Workspace) -> None:
    """Refuse, before anything is fitted, what does not fit the budget in any later stage.

    Raises
    ------
    MemoryBudgetError
        Names the run, subject, group model or stage, what its task needs, and the budget that would do.
    """
    n_voxels, budget, contrasts = len(ws.voxel), ws.analysis.memory_budget, ws.analysis.first_level.contrasts
    noise_model, shapes = ws.analysis.first_level.noise_model, dict[str, list[tuple[int, int, int]]]()
    for run in ws.runs:
        record = ws.done("design").get(ws.fit_path(run))
        if record is None:
            continue
        details, n_regressors = record.details, len(record.details["columns"])
        n_volumes = details["n_volumes"]
        n_kept = details.get("n_kept", n_volumes)
        stored = n_voxels, n_volumes, details["itemsize"], details.get("is_scaled", True)
        need = memory.fit_memory(memory.FitSize(*stored, n_kept, n_regressors, noise_model))
        require(f"fit of {run.id}", need, budget)  # that of its noise alone needs less
        shapes.setdefault(run.subject, []).append((n_kept, n_volumes, n_regressors))
    for subject, found in shapes.items():
        need = memory.combine_memory(n_voxels, found, contrasts.values(), noise_model)
        require(f"combine of {subject}", need, budget)
    require("consolidate", memory.consolidate_memory(n_voxels, len(shapes)), budget)
    require_group_memory(ws, list(shapes))
    assert ws.study is not None, "the study is made before the first stage"
    n_volume = math.prod(ws.study.grid.shape)
    if noise.wanted(ws.analysis):
        require("smoothing of the noise", memory.smooth_memory(n_voxels, n_volume, noise_model), budget)
    require("export", memory.export_memory(n_voxels, n_volume), budget)


def require_group_memory(ws: Workspace, subjects: Sequence[str]) -> None:
    """The same for the group models; one that these subjects cannot answer is refused elsewhere."""
    tests = []
    for name in ws.analysis.group:
        try:
            tests.append(group_test(ws.analysis, name, subjects))
        except InputError:
            continue
    require_tests_memory(ws.analysis, tests, len(ws.voxel))


def require_tests_memory(analysis: GroupAnalysis, tests: Iterable[GroupTest], n_voxels: int) -> None:
    """Refuse group models of which not even the smallest piece fits the budget.

    Raises
    ------
    MemoryBudgetError
        Names the model, what its task needs, and the budget that would do.
    """
    budget = analysis.memory_budget
    for test in tests:
        wanted = analysis.group[test.name].inference
        require(f"group.{test.name}", group_task(n_voxels, test, budget), budget)
        if test.harmony is not None:
            need = max(combat_task(n_voxels, test, budget), harmonise_task(n_voxels, test))
            require(f"harmonise of group.{test.name}", need, budget)
        if tell := analysis.group[test.name].influence:
            require(f"influence of group.{test.name}", influence_task(n_voxels, test, tell == "maps"), budget)
        if "permutation" in wanted.method:
            require(f"permutations of group.{test.name}", infer_task(n_voxels, test, wanted, budget), budget)
        if spatial_statistics(wanted):
            require(f"spatial statistics of group.{test.name}", spatial_task(n_voxels, test, wanted, budget), budget)
        if through_store(n_voxels, test, wanted, budget):
            require(f"maps of group.{test.name}", rearrange_task(n_voxels, test, budget), budget)
            require_scratch(test.name, n_voxels, analysis.scratch_budget)
        require(f"corrections of group.{test.name}", memory.correct_memory(n_voxels, wanted.method), budget)


def require_scratch(name: str, n_voxels: int, budget: int) -> None:
    """Refuse a scratch budget that the maps of a single batch exceed.

    Raises
    ------
    InputError
        Names the model, what it needs, and the budget that would do.
    """
    need = memory.maps_bytes(n_voxels)
    if need > budget:
        raise InputError(
            "scratch_budget",
            f"is {budget / MiB:.0f} MiB, but maps of group.{name} take {need / MiB:.0f} MiB at least.",
            f"Set scratch_budget: {-(-need // MiB)}MiB; twice as much lets maps be written while others are read.",
        )
