"""Volume after volume in, voxel after voxel out, in bounded memory."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxloom.errors import MemoryBudgetError
from voxloom.schema import MiB, shard_slices

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: Bytes turned at a time on the way into the file; they stay in cache.
STRETCH_BYTES = 2 * MiB


class Transposer:
    """Turns (time, voxel) into (voxel, time).

    Rows are collected in a slab of times. A series that fits the budget stays there; a longer one goes
    through a scratch file, slab after slab, each already turned, so that any stretch of voxels is one
    read per slab. Plain reads and writes: pages of a memory map would count as the process's memory.

    Parameters
    ----------
    n_voxels, n_times : int
    dtype : dtype
    budget : int
        Bytes for the slab.
    scratch : path, optional
        Folder of the scratch file, which has no name and is gone with the process; by default that of
        `tempfile` (``TMPDIR``).
    """

    def __init__(
        self, n_voxels: int, n_times: int, dtype: np.dtype[Any], budget: int, scratch: Path | None = None
    ) -> None:
        self.n_voxels, self.n_times, self.dtype = n_voxels, n_times, dtype
        slab_times = min(n_times, budget // (n_voxels * dtype.itemsize))
        if slab_times < 1:
            raise MemoryBudgetError(
                "memory budget",
                f"{budget} bytes are left to turn the run in, less than one of its volumes.",
                "Raise the memory budget.",
            )
        self._slab = np.empty((slab_times, n_voxels), dtype)
        self._turned = np.empty((0, n_times), dtype)
        self._done = 0
        self._file = None if slab_times == n_times else tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    @property
    def spills(self) -> bool:
        """Whether the series goes through a file."""
        return self._file is not None

    def next_row(self) -> NDArray[Any]:
        """Give the row (n_voxels,) of the next time for the caller to fill; then `commit`."""
        row: NDArray[Any] = self._slab[self._done % len(self._slab)]
        return row

    def commit(self) -> None:
        """Take the row last given; a full slab goes to the file."""
        self._done += 1
        n = (self._done - 1) % len(self._slab) + 1
        if self._file is not None and (n == len(self._slab) or self._done == self.n_times):
            step = max(1, STRETCH_BYTES // (n * self.dtype.itemsize))
            for voxels in shard_slices(self.n_voxels, step):
                self._file.write(np.ascontiguousarray(self._slab[:n, voxels].T).data)

    def release_slab(self) -> None:
        """Give back the slab's memory once all rows are in the file."""
        if self._file is not None:
            self._slab = self._slab[:, :0].copy()

    def voxels(self, start: int, stop: int) -> NDArray[Any]:
        """All times of a stretch of voxels: (stop - start, n_times), C order; good until the next call.

        The memory is used again: turning into fresh pages costs eight times as much.
        """
        assert self._done == self.n_times, "every row must be in before voxels come out"
        if len(self._turned) < stop - start:
            self._turned = np.empty((stop - start, self.n_times), self.dtype)
        turned = self._turned[: stop - start]
        if self._file is None:
            turned[...] = self._slab[:, start:stop].T
            return turned
        for first in range(0, self.n_times, len(self._slab)):
            last = min(first + len(self._slab), self.n_times)
            turned[:, first:last] = self._read(first, last - first, start, stop)
        return turned

    def _read(self, first: int, n_times: int, start: int, stop: int) -> NDArray[Any]:
        """Voxels start:stop of the slab that begins at time `first`."""
        assert self._file is not None
        block = np.empty((stop - start, n_times), self.dtype)
        self._file.seek((first * self.n_voxels + start * n_times) * self.dtype.itemsize)
        got = self._file.readinto(block.data)
        if got != block.nbytes:
            raise OSError(f"the scratch file gave {got} of {block.nbytes} bytes")
        return block
