"""A fit against its data: residuals, prediction and explained variance, in the units of the data, block by block."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.glm.first_level import run_glm

from voxloom.errors import InputError
from voxloom.models.first_level.fit import fit_first_level
from voxloom.models.first_level.fitted import predicted, r_squared, residuals
from voxloom.schema import Grid, voxel_coords

T = 60
GRID = Grid.of((30, 30, 20), np.diag([3.0, 3, 3, 1]), "MNI")
MODELS = ["ols", "ar1", "ar1-yule-walker", "ar2", "arma11"]
KEEP = np.arange(T) % 11 != 5


def bold(V=50, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    Y = 800 + rng.standard_normal((V, T)).cumsum(axis=1) + 5 * rng.standard_normal((V, T))
    coords = {**voxel_coords(GRID, np.arange(V) * 7), "time": 2.0 * np.arange(T)}
    return xr.Dataset({"bold": (("voxel", "time"), Y.astype(dtype))}, coords=coords)


def design(seed=1):
    rng = np.random.default_rng(seed)
    columns = [rng.standard_normal(T), rng.standard_normal(T), np.linspace(-1, 1, T), np.ones(T)]
    return pd.DataFrame(np.column_stack(columns), columns=["face", "house", "drift", "constant"])


@pytest.mark.parametrize("noise_model", MODELS)
@pytest.mark.parametrize("sample_mask", [None, KEEP], ids=["all", "scrubbed"])
def test_data_are_prediction_and_residuals_at_the_volumes_that_were_kept(noise_model, sample_mask):
    data = bold()
    fit = fit_first_level(data, design(), noise_model=noise_model, sample_mask=sample_mask)
    kept = np.arange(T) if sample_mask is None else np.flatnonzero(sample_mask)
    X = design().to_numpy()[kept]
    left, there = residuals(data, fit), predicted(fit)
    np.testing.assert_allclose(there.values.T, X @ fit["beta"].values, rtol=1e-12)
    np.testing.assert_allclose((left + there).values, data["bold"].values[:, kept], rtol=1e-12)
    for series in (left, there):
        assert series.dims == ("voxel", "time")
        np.testing.assert_array_equal(series["volume"], kept)
        np.testing.assert_array_equal(series["time"], 2.0 * kept)
        xr.testing.assert_identical(series["grid"], data["grid"])


def test_ols_residuals_and_r_squared_are_nilearns():
    data = bold(dtype=np.float64)
    Y, X = data["bold"].values.T, design().to_numpy()
    fit = fit_first_level(data, design(), noise_model="ols")
    labels, results = run_glm(Y, X, noise_model="ols")
    theirs = results[labels[0]]
    np.testing.assert_allclose(residuals(data, fit).T, theirs.residuals, atol=1e-9)
    np.testing.assert_allclose(r_squared(data, fit), theirs.r_square, rtol=1e-7)
    np.testing.assert_allclose((residuals(data, fit) ** 2).sum("time"), fit["sigma2"] * (T - 4), rtol=1e-10)


@pytest.mark.parametrize("noise_model", MODELS)
@pytest.mark.parametrize("columns", [slice(None), slice(0, 3)], ids=["constant", "no_constant"])
@pytest.mark.parametrize(
    "options",
    [{}, {"sample_mask": KEEP, "signal_scaling": 0}, {"run_starts": (0, 25)}],
    ids=["all", "scrubbed_percent", "runs"],
)
def test_the_share_that_a_fit_keeps_is_that_of_its_data(noise_model, columns, options):
    data = bold()
    fit = fit_first_level(data, design().iloc[:, columns], noise_model=noise_model, **options)
    np.testing.assert_allclose(1 - fit["r_squared"], 1 - r_squared(data, fit), rtol=1e-9)


def test_ar_residuals_are_not_whitened_and_explain_no_more_than_least_squares():
    data = bold(dtype=np.float64)
    ols, ar1 = (fit_first_level(data, design(), noise_model=name) for name in ("ols", "ar1"))
    expected = data["bold"].values.T - design().to_numpy() @ ar1["beta"].values
    np.testing.assert_allclose(residuals(data, ar1).T, expected, atol=1e-9)
    Y = data["bold"].values
    total = ((Y - Y.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    np.testing.assert_allclose(r_squared(data, ar1), 1 - (expected**2).sum(axis=0) / total, rtol=1e-9)
    assert (r_squared(data, ar1) <= r_squared(data, ols) + 1e-12).all()


@pytest.mark.parametrize("noise_model", MODELS)
@pytest.mark.parametrize("options", [{}, {"sample_mask": KEEP, "signal_scaling": 0}], ids=["all", "scrubbed"])
def test_squares_of_whitened_residuals_are_those_that_the_fit_reports(noise_model, options):
    data = bold(dtype=np.float64)
    fit = fit_first_level(data, design(), noise_model=noise_model, **options)
    white = residuals(data, fit, whitened=True)
    dof = fit.sizes["time"] - 4
    np.testing.assert_allclose((white**2).sum("time"), fit["sigma2"] * dof, rtol=1e-8)
    lazy = residuals(data.chunk(voxel=20), fit.chunk(voxel=20), whitened=True)
    xr.testing.assert_allclose(lazy.compute(), white, rtol=1e-10)


def test_whitened_residuals_of_the_right_model_are_white():
    data, rng = bold(V=300, dtype=np.float64), np.random.default_rng(5)
    e = rng.standard_normal((T, 300))
    for t in range(1, T):
        e[t] += 0.6 * e[t - 1]
    data["bold"][:] = 500 + e.T
    fit = fit_first_level(data, design(), noise_model="ar1")
    raw, white = (residuals(data, fit, whitened=whitened).to_numpy() for whitened in (False, True))
    lags = [(r[:, 1:] * r[:, :-1]).sum() / (r**2).sum() for r in (raw, white)]
    assert lags[0] > 0.45
    assert abs(lags[1]) < 0.06


def test_a_scaled_fit_gives_residuals_in_percent():
    data = bold(dtype=np.float64)
    fit = fit_first_level(data, design(), noise_model="ar1", signal_scaling=0, sample_mask=KEEP)
    Y = data["bold"].values[:, KEEP].T
    percent = 100 * (Y / Y.mean(axis=0) - 1)
    left = residuals(data, fit)
    np.testing.assert_allclose(left.T, percent - design().to_numpy()[KEEP] @ fit["beta"].values, atol=1e-9)
    assert left.attrs["units"] == predicted(fit).attrs["units"] == "percent"
    assert "units" not in residuals(data, fit_first_level(data, design())).attrs
    plain = r_squared(data, fit_first_level(data, design(), noise_model="ar1", sample_mask=KEEP))
    np.testing.assert_allclose(r_squared(data, fit), plain, rtol=1e-6)


@pytest.mark.parametrize("lazy_fit", [True, False])
def test_a_block_is_computed_alone_and_chunks_do_not_matter(lazy_fit):
    data, seen = bold(), []
    whole = fit_first_level(data, design())

    def count(block):
        seen.append(block.shape)
        return block

    lazy = data.chunk(voxel=20, time=30)
    lazy["bold"] = lazy["bold"].copy(
        data=lazy["bold"].data.map_blocks(count, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    )
    fit = fit_first_level(lazy, design()) if lazy_fit else whole
    left, share = residuals(lazy, fit), r_squared(lazy, fit)
    assert not seen
    one = left.isel(voxel=slice(20, 40)).compute()
    assert seen == [(20, 30)] * 2  # one block of voxels, its two stretches of time, once
    xr.testing.assert_allclose(one, residuals(data, whole).isel(voxel=slice(20, 40)), rtol=1e-9, atol=1e-9)
    xr.testing.assert_allclose(left.compute(), residuals(data, whole), rtol=1e-9, atol=1e-9)
    xr.testing.assert_allclose(share.compute(), r_squared(data, whole), rtol=1e-9)


def test_voxels_that_the_fit_refuses_are_nan():
    data = bold(V=5)
    data["bold"][1] = 3.0
    data["bold"][2, 5] = np.nan
    fit = fit_first_level(data, design())
    for found in (residuals(data, fit).mean("time"), r_squared(data, fit)):
        assert list(np.isnan(found).values) == [False, True, True, False, False]


def test_a_fit_of_other_data_is_refused():
    data = bold()
    fit = fit_first_level(data, design(), sample_mask=KEEP)
    for wrong in (data.isel(time=slice(0, 50)), data.isel(time=KEEP), data.assign_coords(time=data["time"] + 1)):
        with pytest.raises(InputError, match="volumes are not those"):
            residuals(wrong, fit)
    with pytest.raises(InputError, match="voxels are not those"):
        r_squared(data.isel(voxel=slice(1, None)), fit)
    with pytest.raises(InputError, match="voxels are not those"):
        r_squared(data.isel(voxel=slice(1, None)), fit.isel(voxel=slice(0, -1)))
    with pytest.raises(InputError, match="no coordinate `volume`"):
        residuals(data, fit.drop_vars("volume"))
    with pytest.raises(InputError, match="no variable `beta`"):
        predicted(data)
