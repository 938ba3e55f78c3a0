"""Units of the signal: percent of a mean, or standard deviations."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError, VoxloomWarning

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import ArrayLike, NDArray

#: Dims over which the mean is taken, by nilearn's number of the axis of (time, voxel).
MEAN_OVER: dict[Any, tuple[str, ...]] = {0: ("time",), 1: ("voxel",), (0, 1): ("voxel", "time")}


def mean_scaling(Y: ArrayLike, axis: int | tuple[int, int] = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    """Percent change from the mean, ``100 (Y / mean - 1)``.

    Parameters
    ----------
    Y : (time, voxels) array_like
    axis : {0, 1, (0, 1)}
        Mean of each voxel, of each volume, or of all.

    Returns
    -------
    scaled : (time, voxels) array
    mean : array
        Means below 1 were taken for 1 in the division, as in nilearn.
    """
    values = np.asarray(Y)
    mean = values.mean(axis=axis, keepdims=True)
    if (mean == 0).any():
        warnings.warn("the mean is 0 in places; they are not scaled.", VoxloomWarning, stacklevel=2)
    return 100 * (values / np.maximum(mean, 1) - 1), np.squeeze(mean, axis=axis)


def require_units(signal_scaling: Any, standardize: Any) -> None:
    """Raise `InputError` unless these are known."""
    over = tuple(signal_scaling) if isinstance(signal_scaling, list) else signal_scaling
    if over is True or over not in (None, False, *MEAN_OVER):  # True would pass for 1
        raise InputError("signal_scaling", f"{signal_scaling!r} is unknown.", "Accepted: 0, 1, (0, 1), False.")
    if standardize not in (True, False, None, "zscore_sample"):
        raise InputError("standardize", f"{standardize!r} is unknown.", "Accepted: True, False.")


def scaled(bold: xr.DataArray, signal_scaling: Any, standardize: bool) -> tuple[xr.DataArray, int | None]:
    """The signal in the units asked for, and what is left to `fit_first_level`'s ``signal_scaling``."""
    if standardize:  # standard deviations have no percent
        return (bold - bold.mean("time")) / bold.std("time", ddof=1), None
    if signal_scaling is None or signal_scaling is False:
        return bold, None
    over = tuple(signal_scaling) if isinstance(signal_scaling, list) else signal_scaling
    if over == 0:
        return bold, 0
    mean = bold.mean(MEAN_OVER[over], dtype=np.float64).compute()
    return bold * (100 / mean) - 100, None
