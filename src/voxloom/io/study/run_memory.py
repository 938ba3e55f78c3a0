"""What writing a run holds in memory: how the budget is shared between slab, volume and chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.schema import TASK_OVERHEAD, bold_chunks

if TYPE_CHECKING:
    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.io.study.run_values import RunValues

#: Chunks held while one is written: turned, read back or filled up, and encoded with room to spare.
CHUNKS = 4


class RunMemory(NamedTuple):
    """Bytes that `write_run` holds, by what for."""

    n_volumes: int
    row: int  # the voxels of one volume
    axis: int  # where voxels lie: in the study, in the run's mask, in a volume, in a row
    volume: int  # one being read
    writing: int  # chunks, and the whole shard encoded where it cannot leave piece by piece

    @classmethod
    def of(cls, info: NiftiInfo, n_voxels: int, values: RunValues, *, streams: bool) -> RunMemory:
        """Of an image with this header in a study of `n_voxels`; `streams` as `Objects.streams`.

        BOLD encodes to at most about its raw size; rounding is done in place.
        """
        itemsize, n_volumes = values.dtype.itemsize, info.n_volumes
        rule = bold_chunks(n_voxels, n_volumes, itemsize)
        n_written = CHUNKS * min(rule.chunk, n_voxels) + (0 if streams else min(rule.shard, n_voxels))
        return cls(
            n_volumes=n_volumes,
            row=n_voxels * itemsize,
            axis=n_voxels * (8 + 8 + 8 + 8 + 1),
            volume=int(np.prod(info.grid.shape)) * (2 * info.dtype.itemsize + values.volume_bytes),
            writing=n_written * n_volumes * itemsize,
        )

    def slab(self, budget: int) -> int:
        """Bytes that the budget leaves for the slab."""
        return max(0, budget - TASK_OVERHEAD - self.axis - max(self.volume, self.writing))

    def peak(self, budget: int) -> int:
        """Bytes held at most; more than the budget where not even one volume's voxels are left room for."""
        n_rows = min(self.n_volumes, max(1, self.slab(budget) // self.row))
        slab, spills = n_rows * self.row, n_rows < self.n_volumes
        return TASK_OVERHEAD + self.axis + max(slab + self.volume, self.writing + (0 if spills else slab))
