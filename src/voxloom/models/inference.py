"""Permutation inference: family-wise error p from the null of the maximum t over voxels.

`permutation_test` does it all here; over voxel shards on a cluster, `models.permutation` has its parts.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from voxloom.blocks import is_lazy
from voxloom.errors import InputError, VoxloomWarning
from voxloom.models.exchangeability import BY_DESIGN, Exchangeability
from voxloom.models.group import effects
from voxloom.models.group_design import INTERCEPT, aligned_design, warn_if_singular
from voxloom.models.permutation import (
    PreparedTest,
    fwe_p,
    null_max_stat,
    observed_stat,
    prepare_test,
)
from voxloom.schema import MAP_SHARD_VOXELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Statistics whose null `permutation_test` makes.
STATISTICS = ("max_stat",)


def permutation_test(
    maps: xr.Dataset | xr.DataArray,
    design: pd.DataFrame | None = None,
    contrast: str | Sequence[float] | ArrayLike = INTERCEPT,
    *,
    n_perm: int = 10_000,
    statistics: Sequence[str] = STATISTICS,
    exchangeability: Exchangeability = BY_DESIGN,
    two_sided: bool = True,
    seed: int = 0,
) -> xr.Dataset:
    """Test a t contrast over maps at every voxel, with family-wise error p from permutations.

    The nuisance, whatever the contrast leaves of the design, is dealt with by Freedman and Lane (1983). The
    nulls are those of float64 refits, and do not depend on how the voxels are chunked.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``. Lazy maps are read one stretch of voxels at a time; the result is in memory.
    design : DataFrame, optional
        A row per map; matched as in `fit_group`. The mean alone when not given.
    contrast : str or (K,) array_like
        Expression of the design's columns, or weights.
    n_perm : int
        Rearrangements, the observed order included. When there are no more distinct ones, all are done.
    statistics : sequence of str
        ``"max_stat"``: the maximum over voxels.
    exchangeability : Exchangeability
    two_sided : bool
        Test ``|t|``; else only positive t.
    seed : int
        Rearrangement i depends on (seed, i) alone: a longer test begins with the shorter one.

    Returns
    -------
    Dataset
        ``stat``, ``z_score`` and ``p_max_stat`` ``(voxel)``, ``null_max_stat(permutation)`` with the observed
        maximum first; attributes tell the degrees of freedom (``dof``, one number) and how p was made. Voxels
        with a value missing in any map, or without variance, are NaN and counted in a warning.

    Raises
    ------
    DesignError, ContrastError, InputError
    """
    if unknown := [name for name in statistics if name not in STATISTICS]:
        raise InputError("statistics", f"{unknown} are unknown.", f"There are {STATISTICS}.")
    effect = effects(maps)
    design = aligned_design(effect, design)
    warn_if_singular(design)
    test = prepare_test(
        design,
        contrast,
        n_perm=n_perm,
        exchangeability=exchangeability,
        two_sided=two_sided,
        seed=seed,
    )
    stat = np.full(effect.sizes["voxel"], np.nan)
    null = np.full(test.n_perm, -np.inf)
    for stretch in _stretches(effect):
        Y = effect.isel(voxel=stretch).to_numpy()
        stat[stretch] = observed_stat(test, Y)
        np.maximum(null, null_max_stat(test, Y), out=null)
    _report_untested(stat)
    return _result(test, effect, stat, null)


def _stretches(effect: xr.DataArray) -> list[slice]:
    """Cut the voxel axis of lazy maps into runs of chunks of up to `MAP_SHARD_VOXELS` voxels."""
    if not is_lazy(effect):
        return [slice(0, effect.sizes["voxel"])]
    edges, last = [0], 0
    for stop in np.cumsum(effect.chunksizes["voxel"]).tolist():
        if stop - edges[-1] > MAP_SHARD_VOXELS and last > edges[-1]:
            edges.append(last)
        last = stop
    return [slice(start, stop) for start, stop in zip(edges, [*edges[1:], last])]


def _report_untested(stat: FloatArray) -> None:
    untested = int(np.isnan(stat).sum())
    if untested == len(stat):
        raise InputError(
            "maps",
            f"none of the {len(stat)} voxels has variance and a value in every map.",
            "Check mask and maps.",
        )
    if untested:
        warnings.warn(
            f"maps: {untested} of {len(stat)} voxels have no variance or no value in some map; they are not tested.",
            VoxloomWarning,
            stacklevel=3,
        )


def _result(test: PreparedTest, effect: xr.DataArray, stat: FloatArray, null: FloatArray) -> xr.Dataset:
    coords = {name: coord for name, coord in effect.coords.items() if "map" not in coord.dims}
    return xr.Dataset(
        {
            "stat": ("voxel", stat),
            "z_score": ("voxel", test.to_z(stat)),
            "p_max_stat": ("voxel", fwe_p(test, stat, null), test.attrs),
            "null_max_stat": ("permutation", null),
        },
        coords=coords,
        attrs=test.attrs | {"dof": test.model.dof},
    )
