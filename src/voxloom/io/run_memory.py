"""What writing a run holds in memory: how the budget is shared between slab, volume and shard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.io.run_values import RunValues
from voxloom.schema import bold_chunks

if TYPE_CHECKING:
    from voxloom.io.nifti_info import NiftiInfo
    from voxloom.schema import ChunkRule


def slab_budget(budget: int, rule: ChunkRule, info: NiftiInfo, n_voxels: int, values: RunValues) -> int:
    """Bytes for the slab: what the budget leaves beside one shard being written and one volume being read.

    A shard exists as turned values and encoded; BOLD encodes to at most about its raw size.
    """
    shard = min(rule.shard, n_voxels) * info.n_volumes * values.dtype.itemsize
    volume = int(np.prod(info.grid.shape)) * (info.dtype.itemsize + values.volume_bytes)
    return max(0, budget - volume - 2 * shard)


def peak_memory(info: NiftiInfo, n_voxels: int, fwhm: float | None, memory_budget: int) -> int:
    """Bytes that `write_run` holds at most for an image with this header in a study of `n_voxels`.

    More than the budget where not even one volume's voxels are left room for.
    """
    values = RunValues.of(info, fwhm, None)  # rounding is done in place
    row, itemsize = n_voxels * values.dtype.itemsize, values.dtype.itemsize
    rule = bold_chunks(n_voxels, info.n_volumes, itemsize)
    n_rows = min(info.n_volumes, max(1, slab_budget(memory_budget, rule, info, n_voxels, values) // row))
    shard = 2 * min(rule.shard, n_voxels) * info.n_volumes * itemsize
    volume = int(np.prod(info.grid.shape)) * (2 * info.dtype.itemsize + values.volume_bytes)
    axis = n_voxels * (8 + 8 + 8 + 8 + 1)  # of the study and of the run, where its voxels lie and belong
    spills = n_rows < info.n_volumes
    return axis + (max(row * n_rows + volume, shard) if spills else row * n_rows + max(volume, shard))
