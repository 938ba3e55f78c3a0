"""A fit against its data, on demand: what it predicts, what it leaves, and the share that it explains."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.blocks import map_voxels
from voxloom.errors import InputError
from voxloom.kernels.first_level import fitted as kernel
from voxloom.kernels.first_level.noise_models import noise_model
from voxloom.models.first_level.fit import signal_of
from voxloom.models.first_level.noise import same_voxels
from voxloom.schema import validate

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def predicted(fit: xr.Dataset) -> xr.DataArray:
    """Signal that a first-level fit predicts, ``design @ beta``.

    Parameters
    ----------
    fit : Dataset
        Of `fit_first_level` or `Study.fit`; a lazy one gives a lazy result.

    Returns
    -------
    DataArray
        (voxel, time), in units of the signal, never whitened; in percent for a fit with ``signal_scaling=0``. Its
        volumes are those of the fit: the coordinates ``time`` (s) and ``volume`` (index) say which.

    Raises
    ------
    InputError
        `fit` is not a fit.
    """
    fit = validate(fit, "fit", "fit")
    block = partial(_predicted_block, _design(fit))
    maps = map_voxels(block, fit["beta"], outputs={"predicted": ("time",)}, sizes=_T(fit))
    return _series(fit, "predicted", maps)


def residuals(bold: xr.Dataset | xr.DataArray, fit: xr.Dataset, *, whitened: bool = False) -> xr.DataArray:
    """Residuals of a first-level fit, ``bold - design @ beta``.

    Parameters
    ----------
    bold : Dataset or DataArray
        ``bold(voxel, time)`` that was fitted, all volumes of the run, in memory or lazy. Of a lazy one no block is
        computed that is not asked for.
    fit : Dataset
        Of `fit_first_level` or `Study.fit`, on the same voxels.
    whitened : bool
        True: innovations under the fit's noise model, for diagnostics: white where the model is right. Their squares
        add up to ``sigma2`` times the degrees of freedom. False: autocorrelated as the noise is.

    Returns
    -------
    DataArray
        (voxel, time), in units of the signal, or in percent for a fit with ``signal_scaling=0``. Volumes
        that the fit left out are absent: the coordinates ``time`` (s) and ``volume`` (index) say which are there. NaN
        where the fit is.

    Raises
    ------
    InputError
        `fit` is not a fit, or of other voxels or volumes.
    """
    signal = _fitted_signal(bold, fit)
    model = noise_model(fit.attrs["noise_model"])
    noise = [fit[name] for name in model.parameters] if whitened else []
    block = partial(_residuals_block, _design(fit), _is_percent(fit), fit.attrs["noise_model"], fit["scan"].to_numpy())
    maps = map_voxels(block, signal, fit["beta"], *noise, outputs={"residuals": ("time",)}, sizes=_T(fit))
    return _series(fit, "residuals", maps)


def r_squared(bold: xr.Dataset | xr.DataArray, fit: xr.Dataset) -> xr.DataArray:
    """Share of a voxel's variance over time that a first-level fit explains.

    ``1 - SS(residuals) / SS(bold - mean)``, both in units of the signal. Coefficients of least squares make it as large
    as it can be, and not below 0 where the design holds the constant. Those of other noise models minimise the
    whitened residuals, so that theirs is smaller, and may be negative.

    Parameters
    ----------
    bold : Dataset or DataArray
        As for `residuals`.
    fit : Dataset
        As for `residuals`.

    Returns
    -------
    DataArray
        (voxel); NaN where the fit is.

    Raises
    ------
    InputError
        As `residuals`.
    """
    signal = _fitted_signal(bold, fit)
    block = partial(_r_squared_block, _design(fit), _is_percent(fit))
    return map_voxels(block, signal, fit["beta"], outputs={"r_squared": ()})["r_squared"]


def _predicted_block(X: FloatArray, beta: FloatArray) -> tuple[FloatArray]:
    return (X @ beta,)


def _residuals_block(
    X: FloatArray,
    percent: bool,
    name: str,
    scans: NDArray[np.int64],
    Y: NDArray[Any],
    beta: FloatArray,
    *noise: FloatArray,
) -> tuple[FloatArray]:
    left = kernel.residuals(X, Y, beta, percent=percent)
    return (noise_model(name).whiten(left, np.array(noise), scans) if noise else left,)


def _r_squared_block(X: FloatArray, percent: bool, Y: NDArray[Any], beta: FloatArray) -> tuple[FloatArray]:
    return (kernel.r_squared(X, Y, beta, percent=percent),)


def _design(fit: xr.Dataset) -> FloatArray:
    return np.asarray(fit["design"].transpose("time", "regressor"), dtype=np.float64)


def _is_percent(fit: xr.Dataset) -> bool:
    return "signal_scaling" in fit.attrs


def _T(fit: xr.Dataset) -> dict[str, int]:
    return {"time": fit.sizes["time"]}


def _series(fit: xr.Dataset, name: str, maps: dict[str, xr.DataArray]) -> xr.DataArray:
    """The one of the maps, with the times of the fit and its unit."""
    times = {coord: fit[coord] for coord in ("time", "volume") if coord in fit.coords}
    units = {"units": "percent"} if _is_percent(fit) else {}
    return maps[name].assign_coords(times).assign_attrs(units).transpose("voxel", "time")


def _fitted_signal(bold: xr.Dataset | xr.DataArray, fit: xr.Dataset) -> xr.DataArray:
    """The volumes of the data that were fitted, checked against the fit."""
    signal, fit = signal_of(bold), validate(fit, "fit", "fit")
    if not same_voxels(signal, fit):
        raise InputError("fit", "its voxels are not those of bold.", "Select the same voxels of both.")
    if "volume" not in fit.coords:
        raise InputError("fit", "has no coordinate `volume`.", "Take it from fit_first_level or Study.fit.")
    kept = fit["volume"].to_numpy()
    if kept[-1] < signal.sizes["time"]:
        signal = signal.isel(time=kept) if kept.size < signal.sizes["time"] else signal
        if "time" not in signal.coords or np.array_equal(signal["time"], fit["time"]):
            return signal
    raise InputError(
        "fit",
        f"its volumes are not those of bold, which has {signal.sizes['time']}.",
        "Give all volumes of the run that was fitted; the fit knows which were left out.",
    )
