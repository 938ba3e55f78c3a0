"""Series over voxels and time as 4-D images, written volume by volume within a budget."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.io.nifti.write import make_image, single_file_header, write_volumes
from voxloom.schema import MEMORY_BUDGET, grid_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.io.nifti.stream import FilePath

DTYPE = np.dtype(np.float32)
#: Copies of a slab of volumes that are held at once: computed in float64, and joined.
COPIES = 2


def write_series(series: xr.DataArray, path: FilePath, *, memory_budget: int = MEMORY_BUDGET) -> Path:
    """Write a series as ``.nii`` or ``.nii.gz`` in float32; return the path.

    Parameters
    ----------
    series : DataArray
        ``(voxel, time)`` with a grid. A lazy one is computed once for each slab of volumes that fits the budget.
    path : path-like
    memory_budget : int
        Bytes.
    """
    grid, n_times = grid_of(series), series.sizes["time"]
    times = series["time"].to_numpy() if "time" in series.coords else np.arange(n_times)
    t_r = float(np.median(np.diff(times))) if n_times > 1 else None
    header = make_image(np.empty((*grid.shape, 0), DTYPE), grid, t_r=t_r).header
    header.set_data_shape((*grid.shape, n_times))
    return write_volumes(path, single_file_header(header), _volumes(series, grid.shape, memory_budget))


def _volumes(series: xr.DataArray, shape: tuple[int, ...], budget: int) -> Iterator[NDArray[Any]]:
    """Volumes in turn, 0 outside of the voxels."""
    n_voxels, n_times = series.sizes["voxel"], series.sizes["time"]
    step = max(1, budget // (COPIES * 8 * n_voxels))
    place, volume = np.unravel_index(series["voxel"].to_numpy(), shape), np.zeros(shape, DTYPE, order="F")
    for first in range(0, n_times, step):
        slab = series.isel(time=slice(first, first + step)).transpose("time", "voxel").to_numpy()
        for row in slab:
            volume[place] = row
            yield volume
