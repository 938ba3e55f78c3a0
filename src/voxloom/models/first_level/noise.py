"""Noise parameters as maps: smoothed over the brain between two fits, or given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.first_level.noise_models import noise_model
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.volumes.smooth import smooth_within
from voxloom.schema import grid_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    from voxloom.kernels.first_level.noise_models import Convert, FloatArray


def smooth_noise(fit: xr.Dataset, fwhm: float) -> xr.Dataset:
    """Smooth the estimates of the noise over neighbouring voxels, to fit again with them.

    Estimates of one voxel are noisy (the standard deviation of rho is 0.1 at 150 volumes). Autocorrelations are
    averaged, not parameters: any mean of them is that of a stationary process.

    Parameters
    ----------
    fit : Dataset
        Of `fit_first_level`, on all voxels: voxels that are not in it do not count. A lazy one is computed as far as
        its noise goes, which reads the BOLD once.
    fwhm : float
        Full width at half maximum of the Gaussian, mm.

    Returns
    -------
    Dataset
        The noise parameters over ``voxel``, for ``fit_first_level(..., noise=)``; NaN where the fit has none.

    Raises
    ------
    InputError
        The fit's noise model has no parameters, or `fwhm` is not positive.
    """
    name = str(fit.attrs.get("noise_model"))
    model = noise_model(name)
    if not model.parameters:
        raise InputError("fit", f"its noise model {name!r} has no parameters to smooth.")
    if not fwhm > 0:
        raise InputError("fwhm", f"is {fwhm!r}.", "A width in mm is wanted.")
    grid, maps = grid_of(fit), fit[list(model.parameters)].compute()
    values = np.array([maps[parameter].to_numpy() for parameter in model.parameters])
    known = np.flatnonzero(np.isfinite(values).all(axis=0))
    rho = _by_blocks(model.autocorrelations, values[:, known])
    rho = smooth_within(rho, maps["voxel"].to_numpy()[known], grid.shape, fwhm, grid.voxel_sizes)
    values[:, known] = _by_blocks(model.from_autocorrelations, rho)
    smooth = {parameter: ("voxel", row) for parameter, row in zip(model.parameters, values)}
    return maps.drop_vars(list(model.parameters)).assign(smooth).assign_attrs(noise_model=name, smoothing_fwhm=fwhm)


def _by_blocks(convert: Convert, values: FloatArray) -> FloatArray:
    """Convert (m, V) some voxels at a time: on the way a voxel of ARMA(1, 1) takes a hundred numbers."""
    converted = np.empty_like(values)
    for block in sub_blocks(values.shape[1]):
        converted[:, block] = convert(values[:, block])
    return converted


def given_noise(noise: xr.Dataset, parameters: Sequence[str], signal: xr.DataArray) -> list[xr.DataArray]:
    """Maps of the parameters on the voxels of the signal.

    Raises
    ------
    InputError
        A parameter or a voxel is missing, or there are no parameters.
    """
    if not parameters:
        raise InputError("noise", "is given, but the noise model `ols` has no parameters.")
    missing = [name for name in parameters if name not in noise]
    if missing:
        raise InputError(
            "noise",
            f"has no variable `{missing[0]}`; it has {sorted(map(str, noise.data_vars))}.",
            "Smooth a fit of the same noise model with smooth_noise.",
        )
    if not same_voxels(noise, signal):
        raise InputError("noise", "its voxels are not those of bold.", "Select the same voxels of both.")
    return [noise[name] for name in parameters]


def same_voxels(*data: xr.Dataset | xr.DataArray) -> bool:
    """Whether two have the same number of voxels, and the same ones where both say which."""
    known: Any = [np.asarray(one.coords["voxel"]) for one in data if "voxel" in one.coords]
    return len({one.sizes["voxel"] for one in data}) == 1 and (len(known) < 2 or bool(np.array_equal(*known)))
