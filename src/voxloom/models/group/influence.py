"""Influence of single maps on a group model: as maps, and as a table of the maps that matter most. No refits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import ContrastError, InputError
from voxloom.kernels.group.influence import COOK, Influence, Totals, leverage
from voxloom.kernels.group.influence import influence as kernel
from voxloom.models.contrasts import contrast_text, estimable_rows
from voxloom.models.group.fit import effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray


def group_influence(fit: xr.Dataset, maps: xr.Dataset | xr.DataArray, expression: str | ArrayLike) -> xr.Dataset:
    """Influence of every map on a least squares group model and on a contrast of it, at every voxel.

    Parameters
    ----------
    fit : Dataset
        From `fit_group` with ``estimator="ols"``.
    maps : Dataset or DataArray
        The ``effect(map, voxel)`` it was fitted to; lazy in, lazy out.
    expression : str or (K,) array_like
        A t contrast.

    Returns
    -------
    Dataset
        ``leverage``, ``cooks_distance``, ``dfbeta`` (the contrast's effect minus what it is without the map, signal
        units) and ``dfbetas`` (that in standard errors), each ``(map, voxel)``. NaN where a map is missing, or alone
        determines a regressor. Sources: `kernels.group.influence`.

    Raises
    ------
    ContrastError
        Several rows, unknown columns, or not estimable.
    InputError
        The fit is by another estimator, or to other maps.
    """
    if fit.attrs.get("noise_model") != "group-ols":
        raise InputError("fit", "is not by least squares.", "Influence is told of fit_group(..., estimator='ols').")
    effect = effects(maps)
    X, present = (fit[name].transpose(*dims).to_numpy() for name, dims in _DESIGN.items())
    if effect.sizes["map"] != len(X):
        raise InputError("maps", f"are {effect.sizes['map']}, but the fit is to {len(X)}.", "Give the same maps.")
    C = estimable_rows(X, [str(name) for name in fit["regressor"].values], expression)
    if len(C) > 1:
        raise ContrastError(f"contrast {contrast_text(expression)!r}", "has several rows.", "Influence is told of one.")
    names = ("leverage", *Influence._fields)
    of_pattern = leverage(X, present).T
    found = map_voxels(
        _Influence(X, C[0], present, of_pattern),
        effect,
        fit["pattern"],
        outputs=dict.fromkeys(names, ("map",)),
        sizes={"map": len(X)},
    )
    return xr.Dataset(found, attrs={"contrast": contrast_text(expression)})


_DESIGN = {"design": ("map", "regressor"), "present": ("pattern_id", "map")}


class _Influence:
    """The kernel with its design; a class, so that it pickles."""

    def __init__(
        self,
        X: NDArray[np.float64],
        c: NDArray[np.float64],
        present: NDArray[np.bool_],
        of_pattern: NDArray[np.float64],
    ) -> None:
        self.X, self.c, self.present, self.of_pattern = X, c, present, of_pattern

    def __call__(self, Y: NDArray[Any], pattern: NDArray[np.int32]) -> tuple[NDArray[Any], ...]:
        return self.of_pattern[:, pattern], *kernel(self.X, Y, self.c, pattern, self.present)


def _farthest(values: xr.DataArray) -> xr.DataArray:
    """Of each map the value farthest from 0, with its sign."""
    top, bottom = values.max("voxel"), values.min("voxel")
    return top.where(top >= -bottom, bottom)


def influential_maps(influence: xr.Dataset, n: int = 10) -> pd.DataFrame:
    """The maps that move a group model most.

    Parameters
    ----------
    influence : Dataset
        From `group_influence`; lazy ones are computed, a block at a time.
    n : int
        How many.

    Returns
    -------
    DataFrame
        Indexed by map, the most influential first: ``mean_cooks_distance`` over voxels; ``voxels_above``, the share
        of voxels with a Cook's distance above 4 / n maps; ``mean_abs_dfbetas``, ``largest_dfbetas`` with its sign,
        ``mean_leverage``.

    Raises
    ------
    InputError
        It is no result of `group_influence`.
    """
    if lost := [name for name in ("leverage", *Influence._fields) if name not in influence]:
        raise InputError("influence", f"has no {lost}.", "Give the result of group_influence.")
    n_maps = influence.sizes["map"]
    cook, dfbetas = influence["cooks_distance"], influence["dfbetas"]
    table = xr.Dataset(
        {
            "mean_cooks_distance": cook.mean("voxel"),
            "voxels_above": (cook > COOK / n_maps).where(cook.notnull()).mean("voxel"),
            "mean_abs_dfbetas": abs(dfbetas).mean("voxel"),
            "largest_dfbetas": _farthest(dfbetas),
            "mean_leverage": influence["leverage"].mean("voxel"),
        }
    ).compute()
    labels = influence["map"].to_index() if "map" in influence.coords else pd.RangeIndex(n_maps, name="map")
    return _most_influential(pd.DataFrame({str(name): table[name].to_numpy() for name in table}, index=labels)).head(n)


def table_of_totals(totals: Totals, labels: Sequence[str]) -> pd.DataFrame:
    """Table of `influential_maps`, of all maps, from what voxels add up to."""
    with np.errstate(invalid="ignore"):
        columns = {
            "mean_cooks_distance": totals.cook / totals.n_cook,
            "voxels_above": totals.above / totals.n_cook,
            "mean_abs_dfbetas": totals.dfbetas / totals.n_dfbetas,
            "largest_dfbetas": np.where(totals.top >= -totals.bottom, totals.top, totals.bottom),
            "mean_leverage": totals.leverage / totals.n_leverage,
        }
    return _most_influential(pd.DataFrame(columns, index=pd.Index(labels, name="map")))


def _most_influential(table: pd.DataFrame) -> pd.DataFrame:
    return table.sort_values("mean_cooks_distance", ascending=False, kind="stable")
