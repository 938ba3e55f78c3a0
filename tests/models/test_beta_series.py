"""Beta series: every trial as a refit of its own design gives it, nilearn's recipe, and what cannot be told."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.glm.first_level import make_first_level_design_matrix, run_glm

import voxloom
from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.models.design.matrix import design_matrix
from voxloom.models.first_level.beta_series import beta_series
from voxloom.models.first_level.fit import fit_first_level
from voxloom.schema import Grid, voxel_coords

T, T_R = 120, 2.0
GRID = Grid.of((10, 10, 10), np.diag([3.0, 3, 3, 1]))
TRIAL = "this_trial"


def events(n=18, seed=0, gap=(4.0, 9.0)):
    """Trials of three conditions, one of which has a single trial; responses overlap."""
    rng = np.random.default_rng(seed)
    onset = 6 + np.cumsum(rng.uniform(*gap, n))
    names = np.array(["face", "house"])[rng.integers(0, 2, n)]
    names[5] = "odd"
    return pd.DataFrame({"onset": onset, "duration": rng.uniform(0, 3, n), "trial_type": names})


def confounds(seed=1):
    return pd.DataFrame(np.random.default_rng(seed).standard_normal((T, 4)).cumsum(axis=0), columns=list("abcd"))


def bold(V=40, seed=2, dtype=np.float64):
    rng = np.random.default_rng(seed)
    Y = 900 + rng.standard_normal((V, T)).cumsum(axis=1) + 6 * rng.standard_normal((V, T))
    coords = {**voxel_coords(GRID, np.arange(V)), "time": T_R * np.arange(T)}
    return xr.Dataset({"bold": (("voxel", "time"), Y.astype(dtype))}, coords=coords)


def separate(table, i, others="condition"):
    """The events of trial i's design: nilearn's `lss_transformer`."""
    names = table["trial_type"].copy() if others == "condition" else pd.Series("rest", index=table.index)
    names.iloc[i] = TRIAL
    return table.assign(trial_type=names)


def refitted(data, table, i, others="condition", hrf_model="spm", **fit):
    X = design_matrix(data.time, separate(table, i, others), hrf_model=hrf_model, add_regs=confounds())
    return fit_first_level(data, X, noise_model="ols", **fit)["beta"].sel(regressor=TRIAL).to_numpy()


@pytest.mark.parametrize("others", ["condition", "all"])
@pytest.mark.parametrize("hrf_model", ["spm", "glover + derivative + dispersion"])
@pytest.mark.parametrize("fit", [{}, {"signal_scaling": 0}, {"sample_mask": np.arange(T) % 13 != 4}], ids=str)
def test_lss_is_a_refit_of_every_trials_own_design(others, hrf_model, fit):
    data, table = bold(), events()
    found = beta_series(data, table, hrf_model=hrf_model, confounds=confounds(), others=others, **fit)
    expected = np.array([refitted(data, table, i, others, hrf_model, **fit) for i in range(len(table))])
    assert found["beta"].dims == ("trial", "voxel")
    np.testing.assert_allclose(found["beta"], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


@pytest.mark.parametrize("noise_model", ["ols", "ar1", "arma11"])
def test_lsa_is_the_fit_of_one_design_with_a_regressor_per_trial(noise_model):
    data, table = bold(), events()
    keep = np.arange(T) % 17 != 3
    named = table.assign(trial_type=[f"t{i:02d}" for i in range(len(table))])
    X = design_matrix(data.time, named, hrf_model="spm + derivative", add_regs=confounds())
    fit = fit_first_level(data, X, noise_model=noise_model, sample_mask=keep)
    found = beta_series(
        data,
        table,
        method="lsa",
        hrf_model="spm + derivative",
        confounds=confounds(),
        noise_model=noise_model,
        sample_mask=keep,
    )
    expected = fit["beta"].sel(regressor=list(named["trial_type"]))
    np.testing.assert_allclose(found["beta"], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_the_recipe_of_nilearns_documents_gives_the_same_numbers():
    data, table = bold(), events()
    found = beta_series(data, table, hrf_model="glover", drift_model="polynomial", drift_order=2)
    for i in range(len(table)):
        X = make_first_level_design_matrix(
            data["time"].values, separate(table, i), hrf_model="glover", drift_model="polynomial", drift_order=2
        )
        labels, results = run_glm(data["bold"].values.T, X.to_numpy(), noise_model="ols")
        theta = results[labels[0]].theta[list(X.columns).index(TRIAL)]
        np.testing.assert_allclose(found["beta"][i], theta, rtol=1e-8, atol=1e-8 * np.abs(theta).max())


def test_trials_carry_their_events_in_the_order_given():
    table = events().sample(frac=1, random_state=0).reset_index(drop=True)
    found = beta_series(bold(), table)
    assert list(found["trial_type"].values) == list(table["trial_type"])
    np.testing.assert_array_equal(found["onset"], table["onset"])
    np.testing.assert_array_equal(found["duration"], table["duration"])
    assert found["trial_type"].dims == ("trial",)
    ordered = beta_series(bold(), table.sort_values("onset"))
    np.testing.assert_allclose(found.sortby("onset")["beta"], ordered["beta"], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("options", [{}, {"method": "lsa"}, {"method": "lsa", "noise_model": "ar1"}], ids=str)
@pytest.mark.parametrize("chunk", [7, 23])
def test_chunks_do_not_matter_and_a_block_is_computed_alone(options, chunk):
    data, table = bold(dtype=np.float32), events()
    whole = beta_series(data, table, **options)
    seen = []

    def count(block):
        seen.append(block.shape)
        return block

    lazy = data.chunk(voxel=chunk)
    lazy["bold"] = lazy["bold"].copy(
        data=lazy["bold"].data.map_blocks(count, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    )
    found = beta_series(lazy, table, **options)
    assert not seen
    one = found["beta"].isel(voxel=slice(0, chunk)).compute()
    assert seen == [(chunk, T)]
    np.testing.assert_allclose(one, whole["beta"][:, :chunk], rtol=1e-10, atol=1e-10)
    xr.testing.assert_allclose(found.compute(), whole, rtol=1e-10, atol=1e-10)


def test_voxels_that_a_fit_refuses_are_nan():
    data = bold(V=8)
    data["bold"][1] = 5.0
    data["bold"][2, 7] = np.nan
    data["bold"][3, 7] = np.inf
    data["bold"][4] -= 2000.0  # a negative mean has no percent
    for method in ("lss", "lsa"):
        plain = beta_series(data, events(), method=method)["beta"]
        assert np.isnan(plain[:, 1:4]).all()
        assert np.isfinite(plain[:, [0, 4, 5, 6, 7]]).all()
        percent = beta_series(data, events(), method=method, signal_scaling=0)["beta"]
        assert np.isnan(percent[:, 1:5]).all()
        assert np.isfinite(percent[:, [0, 5, 6, 7]]).all()


def test_trials_outside_the_run_are_nan_and_named_and_others_do_not_see_them():
    table = events()
    late = pd.DataFrame({"onset": [900.0], "duration": 1.0, "trial_type": "face"})
    with (
        pytest.warns(VoxloomWarning, match="after the end of the run"),
        pytest.warns(VoxloomWarning, match=r"trials 18 \(face at 900 s\) cannot be estimated"),
    ):
        found = beta_series(bold(), pd.concat([table, late], ignore_index=True))
    assert np.isnan(found["beta"][18]).all()
    np.testing.assert_array_equal(found["beta"][:18], beta_series(bold(), table)["beta"])


def test_simultaneous_trials_are_nan_and_named_where_the_design_cannot_part_them():
    table = events()
    table.loc[9, ["onset", "duration", "trial_type"]] = [*table.loc[8, ["onset", "duration"]], "odd"]
    table.loc[8, "trial_type"] = "face"
    with pytest.warns(VoxloomWarning, match=r"trials 8 \(face at .* s\), 9 \(odd at .* s\) cannot"):
        together = beta_series(bold(), table, method="lsa")["beta"]
    assert list(np.flatnonzero(np.isnan(together).all("voxel"))) == [8, 9]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart = beta_series(bold(), table, confounds=confounds())["beta"]  # the sums differ though the two do not
    expected = refitted(bold(), table, 8)
    np.testing.assert_allclose(apart[8], expected, rtol=1e-8, atol=1e-8 * np.abs(expected).max())


def test_a_trial_that_a_confound_repeats_is_nan_under_lss():
    table = events()
    alone = design_matrix(bold().time, table.iloc[[3]], drift_model=None).iloc[:, :1].to_numpy()
    with pytest.warns(VoxloomWarning, match=r"trials 3 \("):
        found = beta_series(bold(), table, confounds=alone + 1e-13)
    assert list(np.flatnonzero(np.isnan(found["beta"]).all("voxel"))) == [3]


def test_a_modulation_column_is_not_used():
    table = events()
    modulated = table.assign(modulation=np.where(np.arange(len(table)) == 2, np.nan, 7.0))
    xr.testing.assert_identical(beta_series(bold(), modulated), beta_series(bold(), table))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "lsx"}, InputError, "'lsx' is unknown"),
        ({"others": "none"}, InputError, "'none' is unknown"),
        ({"noise_model": "ar1"}, InputError, "not for lss"),
        ({"method": "lsa", "noise_model": "ar99"}, InputError, "'ar99' is unknown"),
        ({"hrf_model": "FIR"}, DesignError, "no one amplitude"),
        ({"signal_scaling": 3}, InputError, "3 is unknown"),
        ({"sample_mask": np.arange(40, 46)}, DesignError, "degrees of freedom"),
    ],
    ids=str,
)
def test_what_is_refused(options, error, message):
    with pytest.raises(error, match=message):
        beta_series(bold(), events(), **options)


def test_volumes_need_times_and_lsa_needs_more_volumes_than_trials():
    with pytest.raises(InputError, match="no coordinate `time`"):
        beta_series(bold().drop_vars("time"), events())
    many = pd.DataFrame({"onset": np.linspace(0, 230, 125), "duration": 1.0, "trial_type": "a"})
    with pytest.raises(DesignError, match="degrees of freedom"):
        beta_series(bold(), many, method="lsa")
    assert np.isfinite(voxloom.beta_series(bold(), many)["beta"]).all()
