"""Clusters of a map over voxels, those of either sign apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.maps.clusters import find_clusters
from voxloom.kernels.maps.neighbours import AXES_APART, neighbourhood
from voxloom.schema import grid_of

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


class MapClusters(NamedTuple):
    """Clusters of the map, the highest peak first, then those of minus the map.

    Attributes
    ----------
    label : (V,) array of int
        Number of the voxel's cluster from 1; 0 in none.
    sign, size : (C,) array of int
        1 or -1; voxels.
    mass : (C,) array
        Sum of the map.
    """

    label: NDArray[np.int64]
    sign: NDArray[np.int64]
    size: NDArray[np.int64]
    mass: FloatArray


def map_clusters(map: xr.DataArray, threshold: float, *, connectivity: int, two_sided: bool) -> MapClusters:
    """Clusters of voxels at or beyond the threshold.

    Parameters
    ----------
    map : DataArray
        ``(voxel)`` with a grid.
    threshold : float
        On the scale of the map.
    connectivity : 6, 18 or 26
    two_sided : bool
        Also those of minus the map.

    Raises
    ------
    InputError
        The map has other dims, or a parameter is out of range.
    """
    if map.dims != ("voxel",):
        raise InputError(str(map.name or "map"), f"has dims {map.dims}.", "One map, (voxel), is wanted: select it.")
    if not (np.isfinite(threshold) and threshold > 0):
        raise InputError("threshold", f"is {threshold}.", "A positive value on the scale of the map is wanted.")
    if connectivity not in AXES_APART:
        raise InputError("connectivity", f"is {connectivity}.", f"One of {list(AXES_APART)} is wanted.")
    where = neighbourhood(map["voxel"].to_numpy(), grid_of(map).shape, connectivity)
    values = np.asarray(map.to_numpy(), dtype=np.float64)
    signs = (1, -1) if two_sided else (1,)
    found = [find_clusters(sign * values, threshold, where) for sign in signs]
    label, before = np.zeros(values.size, np.int64), 0
    for one in found:
        label += np.where(one.label > 0, one.label + before, 0)
        before += one.size.size
    return MapClusters(
        label,
        np.repeat(signs, [one.size.size for one in found]),
        np.concatenate([one.size for one in found]),
        np.concatenate([sign * one.mass for sign, one in zip(signs, found)]),
    )
