"""A group fit against its maps, on demand: what it predicts, what it leaves, and the share that it explains."""

from __future__ import annotations

import xarray as xr


def group_predicted(fit: xr.Dataset) -> xr.DataArray:
    """Effects (map, voxel) that a group fit predicts, ``design @ beta``; of maps that a voxel lacks, too.

    Parameters
    ----------
    fit : Dataset
        Of `fit_group`, in memory or lazy.
    """
    found: xr.DataArray = xr.dot(fit["design"], fit["beta"], dim="regressor")
    return found.transpose("map", "voxel")


def group_residuals(effect: xr.DataArray, fit: xr.Dataset) -> xr.DataArray:
    """Residuals (map, voxel) of a group fit, ``effect - design @ beta``; NaN where a map is missing.

    Parameters
    ----------
    effect : (map, voxel) DataArray
        The maps that were fitted, in their order.
    fit : Dataset
        Of `fit_group`.
    """
    return (effect - group_predicted(fit)).where(abs(effect) < float("inf")).transpose("map", "voxel")


def group_r_squared(effect: xr.DataArray, fit: xr.Dataset) -> xr.DataArray:
    """Share (voxel) of the variance between maps that a group fit explains, over the maps that a voxel has.

    ``1 - SS(residuals) / SS(effect - mean)``: 0 for a design that holds the constant alone.

    Parameters
    ----------
    effect, fit
        As for `group_residuals`.
    """
    left = group_residuals(effect, fit)
    there = effect.where(left.notnull())
    total = ((there - there.mean("map")) ** 2).sum("map")
    return 1 - (left**2).sum("map") / total.where(total > 0)
