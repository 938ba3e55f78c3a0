"""Noise parameters smoothed over the brain between two fits."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter

from voxloom.errors import InputError
from voxloom.kernels.first_level.glm import fit_ar, fit_ar1
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.kernels.noise.ar import is_stationary
from voxloom.kernels.volumes.smooth import FWHM_PER_SIGMA
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fit_first_level
from voxloom.models.first_level.noise import smooth_noise
from voxloom.schema import Grid, voxel_coords

SHAPE = (9, 8, 7)
GRID = Grid.of(SHAPE, np.diag([3.0, 3, 4, 1]), "MNI")
MODELS = [name for name, model in NOISE_MODELS.items() if model.parameters]


def brain():
    """A ball in the volume."""
    i, j, k = np.indices(SHAPE)
    return ((i - 4) ** 2 + (j - 4) ** 2 + (k - 3) ** 2) < 14


def data(T=80, rho=0.5, seed=0):
    voxel = np.flatnonzero(brain())
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((T, voxel.size))
    for t in range(1, T):
        Y[t] += rho * Y[t - 1]
    coords = {**voxel_coords(GRID, voxel), "time": 2.0 * np.arange(T)}
    bold = xr.Dataset({"bold": (("voxel", "time"), (100 + Y).T)}, coords=coords)
    X = np.column_stack([rng.standard_normal(T), np.linspace(-1, 1, T), np.ones(T)])
    return bold, pd.DataFrame(X, columns=["a", "drift", "constant"])


def test_smoothing_is_a_gaussian_mean_within_the_mask():
    bold, X = data()
    fit = fit_first_level(bold, X)
    smooth = smooth_noise(fit, 6.0)
    sigma = 6.0 / FWHM_PER_SIGMA / np.array([3, 3, 4])
    volume, mask = np.zeros(SHAPE), brain().astype(float)
    volume[brain()] = fit["rho"]
    expected = gaussian_filter(volume, sigma) / gaussian_filter(mask, sigma)
    np.testing.assert_allclose(smooth["rho"], expected[brain()], rtol=1e-12)
    assert smooth["rho"].std() < 0.5 * fit["rho"].std()


@pytest.mark.parametrize("noise_model", MODELS)
def test_equal_noise_stays_as_it_is(noise_model):
    bold, X = data()
    one = fit_first_level(bold.isel(voxel=[7]), X, noise_model=noise_model)
    fit = (
        xr.concat([one.isel(voxel=0)] * bold.sizes["voxel"], "voxel").assign_coords(bold.coords).assign_attrs(one.attrs)
    )
    smooth = smooth_noise(fit, 8.0)
    for name in NOISE_MODELS[noise_model].parameters:
        np.testing.assert_allclose(smooth[name], fit[name], atol=1e-9)


@pytest.mark.parametrize("noise_model", ["ar3", "arma11"])
def test_smooth_parameters_are_those_of_a_process(noise_model):
    bold, X = data(T=30)
    smooth = smooth_noise(fit_first_level(bold, X, noise_model=noise_model), 5.0)
    if noise_model == "ar3":
        assert is_stationary(np.array([smooth[f"phi_{k}"] for k in (1, 2, 3)]).T).all()
    else:
        assert (np.abs(smooth["ar"]) < 1).all()
        assert (smooth["ma"] + smooth["ar"] >= 0).all()


def test_the_second_fit_and_its_contrasts_use_the_smooth_values():
    bold, X = data()
    smooth = smooth_noise(fit_first_level(bold, X), 8.0)
    fit = fit_first_level(bold, X, noise=smooth)
    assert np.abs(fit["rho"] - smooth["rho"]).max() < 0.00501
    wanted = fit_ar1(X.to_numpy(), bold["bold"].values.T, noise=smooth["rho"].values[None])
    np.testing.assert_array_equal(fit["beta"], wanted.beta)
    maps = contrast(fit, "a")
    flat = fit.assign(rho=fit["rho"] * 0 + np.round(float(fit["rho"][0]), 2))
    assert maps["dof"][0] == contrast(flat, "a")["dof"][0]
    two = smooth_noise(fit_first_level(bold, X, noise_model="ar2"), 8.0)
    again = fit_first_level(bold, X, noise_model="ar2", noise=two)
    xr.testing.assert_equal(again[["phi_1", "phi_2"]], two[["phi_1", "phi_2"]])
    direct = fit_ar(2, X.to_numpy(), bold["bold"].values.T, noise=np.array([two["phi_1"], two["phi_2"]]))
    np.testing.assert_array_equal(again["sigma2"], direct.sigma2)


def test_lost_voxels_neither_get_nor_give():
    bold, X = data()
    bold["bold"][3] = 5.0
    fit = fit_first_level(bold, X)
    smooth = smooth_noise(fit, 6.0)
    assert np.flatnonzero(np.isnan(smooth["rho"])).tolist() == [3]
    kept = np.delete(np.arange(bold.sizes["voxel"]), 3)
    xr.testing.assert_allclose(smooth_noise(fit.isel(voxel=kept), 6.0), smooth.isel(voxel=kept))
    assert np.flatnonzero(np.isnan(fit_first_level(bold, X, noise=smooth)["sigma2"])).tolist() == [3]


def test_in_one_call_and_lazily():
    bold, X = data()
    twice = fit_first_level(bold, X, noise=smooth_noise(fit_first_level(bold, X), 6.0))
    once = fit_first_level(bold, X, noise_smoothing_fwhm=6.0)
    xr.testing.assert_equal(once, twice)
    assert once.attrs["noise_smoothing_fwhm"] == 6.0
    lazy = fit_first_level(bold.chunk(voxel=50), X, noise_smoothing_fwhm=6.0)
    assert lazy["beta"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), once, rtol=1e-12)


def test_what_cannot_be_smoothed_or_given():
    bold, X = data()
    ols, fit = fit_first_level(bold, X, noise_model="ols"), fit_first_level(bold, X)
    with pytest.raises(InputError, match="'ols' has no parameters"):
        smooth_noise(ols, 5.0)
    with pytest.raises(InputError, match=r"fwhm.*mm"):
        smooth_noise(fit, 0.0)
    with pytest.raises(InputError, match="`ols` has no parameters"):
        fit_first_level(bold, X, noise_model="ols", noise=fit)
    with pytest.raises(InputError, match="no variable `phi_1`"):
        fit_first_level(bold, X, noise_model="ar2", noise=fit)
    with pytest.raises(InputError, match="voxels are not those"):
        fit_first_level(bold.isel(voxel=slice(1, None)), X, noise=fit)
    with pytest.raises(InputError, match="both"):
        fit_first_level(bold, X, noise=fit, noise_smoothing_fwhm=5.0)
