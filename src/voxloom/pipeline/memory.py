"""What a task of each stage holds at most, in bytes: the plan shows it, and a run that does not fit is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.errors import MemoryBudgetError
from voxloom.pipeline.stored_maps import map_chunks
from voxloom.schema import MAP_CHUNK_MAPS, MAP_CHUNK_VOXELS, MiB, bold_chunks

if TYPE_CHECKING:
    from voxloom.pipeline.workspace import Workspace
    from voxloom.schema import ChunkRule

#: Voxels a kernel works on at once, as float64.
SUB_BLOCK = 4096
#: Arrays of (maps, voxels) float64 that a group fit or a batch of permutations holds beside each other.
GROUP_COPIES = 4


def fit_memory(n_voxels: int, n_volumes: int, itemsize: int, n_regressors: int, n_kept: int) -> int:
    """Estimates of a shard, and the piece of it that is being fitted: as stored, as float64, the kernel's copies.

    All volumes are read, those that are kept are fitted.
    """
    rule = bold_chunks(n_voxels, n_volumes, itemsize)
    shard, piece = min(rule.shard, n_voxels), min(fit_piece(rule), n_voxels)
    return 2 * 8 * shard * (n_regressors + 2) + piece * (n_volumes * itemsize + 8 * n_kept) + SUB_BLOCK * 4 * 8 * n_kept


def fit_piece(rule: ChunkRule) -> int:
    """Voxels read and fitted at once: whole chunks, and whole sub-blocks of the kernel."""
    return max(rule.chunk, SUB_BLOCK)


def combine_memory(n_voxels: int, n_regressors: int, n_contrasts: int, n_runs: int) -> int:
    """Estimates of one run over a shard of maps, and the contrast maps of all runs of a subject."""
    voxels = min(n_voxels, map_chunks(n_voxels)[1])
    return 8 * voxels * (2 * (n_regressors + 2) + 6 * n_contrasts * (n_runs + 1))


def consolidate_memory(n_voxels: int, n_subjects: int) -> int:
    """A block of subjects over one shard of voxels, its copy and its compressed form."""
    return 3 * 8 * min(MAP_CHUNK_MAPS, n_subjects) * map_chunks(n_voxels)[1]


def group_memory(n_subjects: int) -> int:
    """All subjects over the fewest voxels a task can take."""
    return GROUP_COPIES * 8 * n_subjects * MAP_CHUNK_VOXELS


def voxels_within(budget: int, n_subjects: int) -> int:
    """Voxels whose maps of all subjects fit the budget, in whole chunks."""
    return max(1, budget // group_memory(n_subjects)) * MAP_CHUNK_VOXELS


def require_memory(ws: Workspace) -> None:
    """Refuse, before anything is fitted, runs and subjects whose tasks do not fit the budget.

    Raises
    ------
    MemoryBudgetError
        Names the run or subject, what its task needs, and the budget that would do.
    """
    n_voxels, budget, n_contrasts = len(ws.voxel), ws.analysis.memory_budget, len(ws.analysis.first_level.contrasts)
    widths: dict[str, list[int]] = {}
    for run in ws.runs:
        record = ws.done("design").get(ws.fit_path(run))
        if record is None:
            continue
        details, n_regressors = record.details, len(record.details["columns"])
        n_volumes = details["n_volumes"]
        n_kept = details.get("n_kept", n_volumes)
        need = fit_memory(n_voxels, n_volumes, details["itemsize"], n_regressors, n_kept)
        require(f"fit of {run.id}", need, budget)
        widths.setdefault(run.subject, []).append(n_regressors)
    for subject, found in widths.items():
        require(f"combine of {subject}", combine_memory(n_voxels, max(found), n_contrasts, len(found)), budget)
    require("consolidate", consolidate_memory(n_voxels, len(widths)), budget)


def require(where: str, need: int, budget: int) -> None:
    """Raise `MemoryBudgetError` unless `need` bytes fit."""
    if need > budget:
        enough = -(-need // (64 * MiB)) * 64
        raise MemoryBudgetError(
            where,
            f"a task needs {need / MiB:.0f} MiB, but memory_budget is {budget / MiB:.0f} MiB.",
            f"Set memory_budget: {enough}MiB, or --memory-budget {enough}MiB.",
        )
