"""Concatenated runs: equal to separate fits where they must be, and no noise from one run to the next."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from test_first_level import bold, design

from voxloom.errors import DesignError, InputError
from voxloom.models.contrasts import contrast
from voxloom.models.design.concatenation import concatenate_runs
from voxloom.models.first_level.fit import fit_first_level

SHARED = ["face", "house"]


def runs(n: int = 2, **options):
    """Runs of 60, 50, ... volumes."""
    bolds = [bold(i, dtype=np.float64).isel(time=slice(0, 60 - 10 * i)) for i in range(n)]
    designs = [design(seed=i).iloc[: 60 - 10 * i] for i in range(n)]
    return bolds, designs, concatenate_runs(bolds, designs, **options)


def test_unshared_runs_have_the_estimates_of_separate_fits_and_the_sum_of_their_degrees_of_freedom():
    bolds, designs, (whole, X, starts) = runs(3)
    fit = fit_first_level(whole, X, noise_model="ols", run_starts=starts)
    alone = [fit_first_level(b, d, noise_model="ols") for b, d in zip(bolds, designs)]
    pooled, dof = 0.0, 0.0
    for i, one in enumerate(alone, 1):
        own = fit["beta"].sel(regressor=[f"{c}_run-{i}" for c in designs[0]])
        np.testing.assert_allclose(own, one["beta"], rtol=1e-9, atol=1e-9)
        left = one.sizes["time"] - 4
        pooled, dof = pooled + left * one["sigma2"], dof + left
    np.testing.assert_allclose(fit["sigma2"], pooled / dof, rtol=1e-9)
    assert (contrast(fit, "face_run-1")["dof"] == dof).all()


@pytest.mark.parametrize("noise_model", ["ar1", "ar2", "arma11"])
def test_noise_of_one_run_does_not_reach_the_next(noise_model):
    """Given the noise, REML of runs end to end is that of each: estimates do not know the order of the runs."""
    bolds, designs, (whole, X, starts) = runs(2, names=["a", "b"])
    fit = fit_first_level(whole, X, noise_model=noise_model, run_starts=starts)
    turned, Z, others = concatenate_runs(bolds[::-1], designs[::-1], names=["b", "a"])
    other = fit_first_level(turned, Z, noise_model=noise_model, run_starts=others)
    names = [str(name) for name in fit.regressor.values]
    np.testing.assert_allclose(fit["beta"], other["beta"].sel(regressor=names), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(fit["sigma2"], other["sigma2"], rtol=1e-6)
    across = fit_first_level(whole, X, noise_model=noise_model)
    assert np.abs(across["beta"] - fit["beta"]).max() > 1e-3


def test_given_the_same_noise_ar1_estimates_are_those_of_separate_fits():
    bolds, designs, (whole, X, starts) = runs(2)
    noise = xr.Dataset({"rho": ("voxel", np.full(whole.sizes["voxel"], 0.3))})
    fit = fit_first_level(whole, X, noise=noise, run_starts=starts)
    for i, (b, d) in enumerate(zip(bolds, designs), 1):
        alone = fit_first_level(b, d, noise=noise)
        own = fit["beta"].sel(regressor=[f"{c}_run-{i}" for c in d])
        np.testing.assert_allclose(own, alone["beta"], rtol=1e-8, atol=1e-8)


def test_shared_conditions_are_the_least_squares_of_all_volumes():
    bolds, designs, (whole, X, starts) = runs(2, shared=SHARED)
    assert list(X)[:2] == SHARED
    fit = fit_first_level(whole, X, noise_model="ols", run_starts=starts)
    blocks = [d.drop(columns=SHARED).to_numpy() for d in designs]
    full = np.zeros((110, 6))
    full[:, :2] = np.vstack([d[SHARED] for d in designs])
    full[:60, 2:4], full[60:, 4:] = blocks
    Y = np.hstack([b["bold"].transpose("voxel", "time").values for b in bolds])
    np.testing.assert_allclose(fit["beta"], np.linalg.lstsq(full, Y.T, rcond=None)[0], rtol=1e-8, atol=1e-8)


def test_a_condition_that_one_run_lacks_is_zero_there():
    bolds, designs, _ = runs(2)
    designs[1] = designs[1].drop(columns="house")
    whole, X, starts = concatenate_runs(bolds, designs, shared=SHARED)
    assert (X["house"].iloc[60:] == 0).all()
    fit = fit_first_level(whole, X, run_starts=starts)
    assert np.isfinite(contrast(fit, "face - house")["stat"]).all()


def test_percent_is_of_each_runs_own_mean():
    bolds, designs, _ = runs(2)
    bolds = [b + 100 * (1 + i) for i, b in enumerate(bolds)]
    whole, X, starts = concatenate_runs(bolds, designs, percent=True)
    fit = fit_first_level(whole, X, noise_model="ols", run_starts=starts)
    for i, (b, d) in enumerate(zip(bolds, designs), 1):
        alone = fit_first_level(b, d, noise_model="ols", signal_scaling=0)
        own = fit["beta"].sel(regressor=[f"{c}_run-{i}" for c in d])
        np.testing.assert_allclose(own, alone["beta"], rtol=1e-7, atol=1e-7)


def test_volumes_left_out_at_the_ends_of_runs_are_those_of_shorter_runs():
    bolds, designs, (whole, X, starts) = runs(2, shared=SHARED)
    keep = np.ones(110, bool)
    keep[[0, 59, 60, 61]] = False
    pieces = [keep[:60], keep[60:]]
    short = concatenate_runs(
        [b.isel(time=k) for b, k in zip(bolds, pieces)], [d[k] for d, k in zip(designs, pieces)], shared=SHARED
    )
    found = fit_first_level(whole, X, sample_mask=keep, run_starts=starts)
    expected = fit_first_level(short.bold, short.design, run_starts=short.run_starts)
    np.testing.assert_allclose(found["sigma2"], expected["sigma2"], rtol=1e-9)
    np.testing.assert_allclose(found["beta"], expected["beta"], rtol=1e-9, atol=1e-9)


def test_concatenation_is_lazy():
    bolds, designs, (whole, X, starts) = runs(2)
    lazy = concatenate_runs([b.chunk(voxel=50) for b in bolds], designs)
    assert lazy.bold["bold"].chunks
    xr.testing.assert_identical(lazy.bold.compute(), whole)
    found = fit_first_level(lazy.bold, X, run_starts=starts)
    xr.testing.assert_allclose(found.compute(), fit_first_level(whole, X, run_starts=starts))


def test_bad_runs_are_told():
    bolds, designs, (whole, X, _) = runs(2)
    with pytest.raises(InputError, match="1 designs"):
        concatenate_runs(bolds, designs[:1])
    with pytest.raises(InputError, match="0 runs"):
        concatenate_runs([], [])
    with pytest.raises(InputError, match="names"):
        concatenate_runs(bolds, designs, names=["a", "a"])
    with pytest.raises(DesignError, match="run-1: 60 volumes, but its design has 50 rows"):
        concatenate_runs(bolds, designs[::-1])
    with pytest.raises(DesignError, match=r"no run has the columns \['cat'\]"):
        concatenate_runs(bolds, designs, shared=["cat"])
    with pytest.raises(InputError, match="voxels of the runs differ"):
        concatenate_runs([bolds[0], bolds[1].isel(voxel=slice(0, 5))], designs)
    for starts in ([], [1], [0, 0], [0, 110]):
        with pytest.raises(InputError, match="run_starts"):
            fit_first_level(whole, X, run_starts=starts)
    assert isinstance(X, pd.DataFrame)
