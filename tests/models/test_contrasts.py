"""Contrasts on Datasets: t and F against nilearn and full matrices, groups with missing maps, errors."""

from __future__ import annotations

import pickle
import warnings

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy import stats
from test_first_level import MODELS, bold, design

from voxloom.errors import ContrastError, InputError
from voxloom.kernels.first_level.contrast_tables import ar1_table
from voxloom.kernels.noise.rho_grid import grid_index
from voxloom.models.contrasts import combine_f, contrast, contrast_rows
from voxloom.models.first_level.fit import fit_first_level, fixed_effects
from voxloom.schema import validate


@pytest.mark.parametrize(("ours", "theirs"), [("ols", "ols"), ("ar1-yule-walker", "ar1")])
def test_f_is_nilearns(ours, theirs):
    data, X = bold(dtype=np.float64), design()
    found = validate(contrast(fit_first_level(data, X, noise_model=ours), ["face", "house"]), "contrast")
    labels, results = run_glm(data["bold"].values.T, X.to_numpy(), noise_model=theirs)
    expected = compute_contrast(labels, results, np.eye(4)[:2], "F")
    np.testing.assert_allclose(found["stat"], expected.stat(), rtol=1e-7)
    np.testing.assert_allclose(found["p_value"], expected.p_value(), rtol=1e-6)
    assert found.attrs == {"stat_type": "F", "contrast": "face; house", "df1": 2}
    assert "effect" not in found


def test_ar1_takes_variance_and_dof_from_the_table_of_its_rho():
    fit = fit_first_level(bold(), design())
    found = contrast(fit, "face - house")
    C = np.array([[1.0, -1, 0, 0]])
    table, case = ar1_table(design().to_numpy(), C), grid_index(fit["rho"].values)
    np.testing.assert_allclose(found["dof"], table.dof[case])
    np.testing.assert_allclose(found["variance"], fit["sigma2"] * table.cov[case, 0, 0])
    np.testing.assert_allclose(found["p_value"], stats.t.sf(found["stat"], found["dof"]), rtol=1e-9)
    assert len(np.unique(found["dof"])) > 10


def test_expressions_and_weights_are_the_same_contrast():
    fit = fit_first_level(bold(), design())
    by_name, by_weight = contrast(fit, "face - 0.5 * house"), contrast(fit, [1, -0.5, 0, 0])
    xr.testing.assert_equal(by_name, by_weight)
    assert (by_name.attrs["contrast"], by_weight.attrs["contrast"]) == ("face - 0.5 * house", "1 -0.5 0 0")


def test_f_does_not_depend_on_how_its_rows_are_written():
    fit = fit_first_level(bold(), design())
    a = contrast(fit, ["face", "house"])
    for rows in (["face + house", "face - house"], ["face", "house", "2 * face - house"], np.eye(4)[[1, 0]]):
        b = contrast(fit, rows)
        np.testing.assert_allclose(b["stat"], a["stat"], rtol=1e-8)
        np.testing.assert_allclose(b["dof"], a["dof"], rtol=1e-8)
        assert b.attrs["df1"] == 2


def test_f_of_one_row_is_t_squared():
    fit = fit_first_level(bold(), design())
    np.testing.assert_allclose(contrast(fit, "face", stat_type="F")["stat"], contrast(fit, "face")["stat"] ** 2)


def test_f_over_runs_is_that_of_the_mean_effect():
    fits = [fit_first_level(bold(seed), design(seed=seed)) for seed in range(3)]
    rows = [contrast_rows(fit, ["face", "house"]) for fit in fits]
    found = validate(combine_f(rows), "contrast")
    effect = np.mean([r["effect"].values for r in rows], axis=0)
    covariance = np.sum([r["covariance"].values for r in rows], axis=0) / 9
    for v in (0, 100):
        F = effect[:, v] @ np.linalg.inv(covariance[:, :, v]) @ effect[:, v] / 2
        np.testing.assert_allclose(found["stat"][v], F)
        dof = sum(float(r["dof"][v]) for r in rows)
        np.testing.assert_allclose(found["p_value"][v], stats.f.sf(F, 2, dof), rtol=1e-9)
    stacked = xr.concat(rows, dim="run", combine_attrs="override")
    xr.testing.assert_allclose(combine_f(stacked.chunk(voxel=90)).compute(), found)


@pytest.mark.parametrize("rows", [["face", "house"], ["face - house", "face + house"]])
def test_f_over_runs_whose_designs_have_other_columns(rows):
    """Confounds that move the conditions to other places must not turn the rows of one run against another's."""
    X = design()
    noise = np.random.default_rng(7).standard_normal((60, 9))
    wide = pd.DataFrame(noise, columns=[f"w{i}" for i in range(9)], index=X.index)
    designs = [X, pd.concat([wide.iloc[:, :1], X], axis=1), pd.concat([X["face"], wide, X.iloc[:, 1:]], axis=1)]
    fits = [fit_first_level(bold(seed), other) for seed, other in enumerate(designs)]
    found = combine_f([contrast_rows(fit, rows) for fit in fits])
    effects = np.mean([[fit["beta"].sel(regressor=name) for name in ("face", "house")] for fit in fits], axis=0)
    covariance = 0.0
    for fit in fits:
        maps = [contrast(fit, text) for text in ("face", "house", "face + house")]
        a, b, both = (np.asarray(one["variance"]) for one in maps)
        cross = (both - a - b) / 2
        covariance = covariance + np.array([[a, cross], [cross, b]]) / 9
    solved = np.linalg.solve(np.moveaxis(covariance, -1, 0), effects.T[:, :, None])[:, :, 0]
    # Kenward and Roger's scale is within 2 % of 1 here; rows of unequal sign were wrong by factors
    np.testing.assert_allclose(found["stat"], (solved * effects.T).sum(axis=1) / 2, rtol=0.05)


def test_f_of_one_run_is_its_own_contrast():
    fit = fit_first_level(bold(), design())
    xr.testing.assert_allclose(combine_f(contrast_rows(fit, ["face", "house"])), contrast(fit, ["face", "house"]))


def group_fit():
    """Two groups of four; at the second half of the voxels one map is missing, at the last a whole group."""
    rng = np.random.default_rng(0)
    X = np.column_stack([np.repeat([1.0, 0], 4), np.repeat([0.0, 1], 4)])
    present = np.array([[True] * 8, [True] * 7 + [False], [True] * 4 + [False] * 4])
    pattern = np.array([0, 0, 1, 1, 2], dtype=np.int32)
    Y = rng.standard_normal((8, 5))
    beta, sigma2 = np.empty((2, 5)), np.empty(5)
    for v, p in enumerate(pattern):
        rows = present[p]
        beta[:, v] = np.linalg.pinv(X[rows]) @ Y[rows, v]
        rank = np.linalg.matrix_rank(X[rows])
        sigma2[v] = np.sum((Y[rows, v] - X[rows] @ beta[:, v]) ** 2) / (rows.sum() - rank)
    fit = xr.Dataset(
        {
            "beta": (("regressor", "voxel"), beta),
            "sigma2": ("voxel", sigma2),
            "n": ("voxel", present[pattern].sum(axis=1)),
            "pattern": ("voxel", pattern),
            "present": (("pattern_id", "map"), present),
            "design": (("map", "regressor"), X),
        },
        coords={"regressor": ["patients", "controls"], "voxel": np.arange(5)},
        attrs={"noise_model": "group-ols"},
    )
    return validate(fit, "group_fit"), Y


def test_group_contrasts_are_t_tests_of_the_maps_that_are_there():
    fit, Y = group_fit()
    found = contrast(fit, "patients - controls")
    for v, last in [(0, 8), (1, 8), (2, 7), (3, 7)]:
        expected = stats.ttest_ind(Y[:4, v], Y[4:last, v])
        np.testing.assert_allclose(found["stat"][v], expected.statistic)
        assert found["dof"][v] == expected.df
    assert all(np.isnan(found[name][4]) for name in found)
    alone = contrast(fit, "patients")
    np.testing.assert_allclose(alone["stat"][4], stats.ttest_1samp(Y[:4, 4], 0).statistic)


def test_group_contrasts_may_be_lazy():
    fit, _ = group_fit()
    lazy = fit.chunk(voxel=2)
    xr.testing.assert_identical(contrast(lazy, "patients").compute(), contrast(fit, "patients"))


def test_unestimable_contrasts_name_the_dependent_columns():
    X = design()
    X = X.assign(both=X["face"] + X["house"])
    fit = fit_first_level(bold(), X)
    with pytest.raises(ContrastError, match=r"not estimable: the columns \['both'\]"):
        contrast(fit, "face")
    with pytest.raises(ContrastError, match="not estimable"):
        contrast(fit, ["drift", "both"])
    reduced = fit_first_level(bold(), design())
    xr.testing.assert_allclose(contrast(fit, "face - house"), contrast(reduced, "face - house"), rtol=1e-7)
    xr.testing.assert_allclose(contrast(fit, "face + both"), contrast(reduced, "face"), rtol=1e-7)


def test_bad_contrasts_are_told():
    fit = fit_first_level(bold(), design())
    with pytest.raises(ContrastError, match="house"):
        contrast(fit, "faces - house")
    with pytest.raises(ContrastError, match="4 columns"):
        contrast(fit, [1, -1])
    with pytest.raises(ContrastError, match="too many for a t"):
        contrast(fit, ["face", "house"], stat_type="t")
    with pytest.raises(ContrastError, match="'z' is unknown"):
        contrast(fit, "face", stat_type="z")
    with pytest.raises(InputError, match="noise model None is unknown"):
        contrast(fit.drop_attrs(), "face")


@pytest.mark.parametrize("expression", ["face", ["face", "house"]])
def test_lazy_contrasts_run_in_other_processes(expression):
    fits = [fit_first_level(bold(dtype=np.float64), design(), noise_model=name) for name in MODELS]
    group, _ = group_fit()
    group = group.assign_coords(regressor=["face", "house"])
    lazy = [contrast(fit.chunk(voxel=150), expression) for fit in fits]
    lazy += [contrast(group.chunk(voxel=3), expression), fixed_effects([contrast(fits[0].chunk(voxel=9), "face")] * 2)]
    for each in lazy:
        pickle.loads(pickle.dumps(each))  # without cloudpickle: nothing in the graph is local or nameless
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dask.compute(*lazy, scheduler="processes", num_workers=1)
    for there, here in zip(found, dask.compute(*lazy, scheduler="synchronous")):
        xr.testing.assert_identical(there, here)


def test_a_lost_voxel_is_nan_in_all_maps():
    data = bold()
    data["bold"][3] = 5
    for noise_model in MODELS:
        fit = fit_first_level(data, pd.DataFrame(design()), noise_model=noise_model)
        for found in (contrast(fit, "face"), contrast(fit, ["face", "house"])):
            for name in found:
                assert np.flatnonzero(np.isnan(found[name])).tolist() == [3]
