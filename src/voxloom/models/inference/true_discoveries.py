"""All-resolution inference: the share of voxels with signal in clusters, or in any set of voxels (Rosenblatt 2018)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from voxloom.errors import InputError
from voxloom.kernels.maps.closed_testing import hommel_value, true_discoveries
from voxloom.models.first_level.noise import same_voxels
from voxloom.models.inference.clusters import map_clusters
from voxloom.models.inference.multiplicity import p_values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def true_discovery_proportion(
    map: xr.DataArray,
    *,
    threshold: float | Sequence[float] | None = None,
    regions: xr.DataArray | None = None,
    alpha: float = 0.05,
    connectivity: int = 26,
    two_sided: bool = True,
) -> xr.DataArray:
    """Lower bound of the share of voxels with signal, in clusters at any thresholds or in regions.

    The bounds hold for all sets of voxels at once with probability ``1 - alpha``, so thresholds and regions may be
    chosen after a look at the map, and clusters may be cut further. Signal means that the effect is not 0, or without
    `two_sided` that it is positive. Voxels must be independent or positively dependent (Simes' inequality).

    Parameters
    ----------
    map : DataArray
        z, ``(voxel)``. NaN is no test and in no set.
    threshold : float or sequence of float, optional
        z at which clusters are formed, of both signs apart where `two_sided`.
    regions : DataArray, optional
        Sets of voxels instead of clusters: whole numbers over the same voxels, 0 where there is none.
    alpha : float
    connectivity : 6, 18 or 26
        Neighbours share a face; or an edge too; or a corner too.
    two_sided : bool

    Returns
    -------
    DataArray
        ``true_discovery_proportion``: every voxel of a set carries its bound, all others 0, NaN stays;
        ``(voxel)``, of several thresholds ``(threshold, voxel)``. Attribute ``hommel_value``: the greatest number of
        voxels without signal that the map allows.

    Raises
    ------
    InputError
        Not exactly one of `threshold` and `regions`, other voxels, or a parameter out of range.
    """
    if (threshold is None) == (regions is None):
        raise InputError("threshold, regions", "one of the two is wanted.")
    if not 0 < alpha < 1:
        raise InputError("alpha", f"is {alpha}.", "A rate between 0 and 1 is wanted.")
    p = p_values(map, "z", two_sided)
    hommel = hommel_value(p[np.isfinite(p)], alpha)
    attrs = {"alpha": alpha, "hommel_value": hommel, "two_sided": two_sided, "p_method": "all-resolution inference"}

    def of(label: NDArray[np.int64]) -> FloatArray:
        return np.where(np.isnan(p), np.nan, np.append(0.0, proportions(p, label, hommel, alpha))[label])

    if regions is not None:
        return _filled(map, of(_labels(regions, map)), attrs)
    cuts = np.atleast_1d(np.asarray(threshold, dtype=np.float64))
    maps = [of(map_clusters(map, cut, connectivity=connectivity, two_sided=two_sided).label) for cut in cuts]
    attrs |= {"connectivity": connectivity}
    if isinstance(threshold, (int, float)):
        return _filled(map, maps[0], attrs | {"threshold": cuts[0]})
    return xr.concat([_filled(map, values, attrs) for values in maps], xr.Variable("threshold", cuts))


def proportions(p: FloatArray, label: NDArray[np.int64], hommel: int, alpha: float) -> FloatArray:
    """Bound for each of the sets 1, 2, ... of `label`, (sets,); voxels whose p is NaN are in none."""
    label = np.where(np.isnan(p), 0, label)
    order = np.argsort(label, kind="stable")
    edges = np.searchsorted(label[order], np.arange(1, label.max(initial=0) + 2))
    sets = [p[order[a:b]] for a, b in pairwise(edges)]
    return np.array([true_discoveries(one, hommel, alpha) / max(one.size, 1) for one in sets])


def _labels(regions: xr.DataArray, map: xr.DataArray) -> NDArray[np.int64]:
    """Regions numbered 1, 2, ... and 0."""
    if not same_voxels(regions, map):
        raise InputError("regions", "its voxels are not those of the map.", "Select the same voxels of both.")
    given = np.nan_to_num(np.asarray(regions.to_numpy(), dtype=np.float64))
    if np.any(given != np.rint(given)):
        raise InputError("regions", "holds values that are no whole numbers.", "A number for each region is wanted.")
    label, inside = np.zeros(given.size, np.int64), given != 0
    label[inside] = np.unique(given[inside], return_inverse=True)[1] + 1
    return label


def _filled(map: xr.DataArray, values: FloatArray, attrs: dict[str, object]) -> xr.DataArray:
    out = map.copy(data=values).rename("true_discovery_proportion")
    out.attrs = dict(attrs)
    return out
