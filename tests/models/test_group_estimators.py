"""Group models with other estimators than least squares: lazily as in memory, and against independent programs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import xarray as xr
from scipy import stats

from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.models.contrasts import contrast
from voxloom.models.group.design import group_design
from voxloom.models.group.estimators import ESTIMATORS
from voxloom.models.group.fit import fit_group

MAPS = [f"sub-{i:02d}" for i in range(18)]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {"age": rng.uniform(20, 60, 18), "site": list("aabbccaabbccaabbcc"), "sex": list("fm" * 9)}, index=MAPS
    )


@pytest.fixture
def maps(table: pd.DataFrame) -> xr.Dataset:
    rng = np.random.default_rng(2)
    of_site = rng.standard_normal((3, 40))[table["site"].map({"a": 0, "b": 1, "c": 2})]
    effect = 1 + 0.02 * table["age"].to_numpy()[:, None] + of_site + rng.standard_normal((18, 40))
    effect[rng.random(effect.shape) < 0.03] = np.nan
    variance = rng.gamma(3.0, 0.2, effect.shape) + 0.05
    return xr.Dataset({"effect": (("map", "voxel"), effect), "variance": (("map", "voxel"), variance)}, {"map": MAPS})


def groups_for(name: str, table: pd.DataFrame) -> pd.Series | None:
    return None if ESTIMATORS[name].groups == "none" else table["site"]


def visits_for(name: str, table: pd.DataFrame) -> pd.Series | None:
    return table.groupby("site").cumcount() if ESTIMATORS[name].takes_visits else None


@pytest.mark.parametrize("name", ESTIMATORS)
def test_lazy_maps_in_any_chunks_give_what_maps_in_memory_give(name, maps, table):
    design, groups = group_design(table, "1 + age"), groups_for(name, table)
    whole = fit_group(maps, design, estimator=name, groups=groups)
    lazy = fit_group(maps.chunk(map=5, voxel=7), design, estimator=name, groups=groups)
    assert lazy["beta"].chunks is not None
    xr.testing.assert_allclose(lazy.compute(), whole, rtol=1e-10)
    for expression in ("age", np.eye(2)):
        xr.testing.assert_allclose(contrast(lazy, expression).compute(), contrast(whole, expression), rtol=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_voxels_with_too_few_maps_and_those_beside_them(name, maps, table):
    design, groups = group_design(table, "1 + age"), groups_for(name, table)
    expected = contrast(fit_group(maps, design, estimator=name, groups=groups), "age")
    maps["effect"][2:, 5] = np.nan
    found = contrast(fit_group(maps, design, estimator=name, groups=groups), "age")
    assert np.isnan(found["stat"][5])
    rest = np.arange(40) != 5
    xr.testing.assert_allclose(found.isel(voxel=rest), expected.isel(voxel=rest), rtol=1e-10)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_voxel_is_fitted_as_if_it_were_alone_with_the_maps_that_it_has(name, maps, table):
    rng = np.random.default_rng(5)
    maps["effect"].values[rng.random(maps["effect"].shape) < 0.2] = np.nan
    design, groups, visits = group_design(table, "1 + age"), groups_for(name, table), visits_for(name, table)
    found = contrast(fit_group(maps, design, estimator=name, groups=groups, visits=visits), "age")
    for v in range(12):
        there = np.isfinite(maps["effect"][:, v].to_numpy())
        alone = fit_group(
            maps.isel(map=there, voxel=[v]),
            design[there],
            estimator=name,
            groups=None if groups is None else groups[there],
            visits=None if visits is None else visits[there],
        )
        xr.testing.assert_allclose(contrast(alone, "age"), found.isel(voxel=[v]), rtol=1e-9)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_voxels_with_fewer_maps_than_wanted_are_left_out_and_counted(name, maps, table):
    maps["effect"][:5, 3], maps["effect"][:9, 4] = np.nan, np.nan
    n = np.isfinite(maps["effect"]).sum("map").to_numpy()
    how = {"estimator": name, "groups": groups_for(name, table)}
    design = group_design(table, "1 + age")
    for given in (maps, maps.chunk(voxel=7)):
        fit = fit_group(given, design, min_n=14, **how)
        expected = fit_group(maps, design, **how)
        np.testing.assert_array_equal(fit["n"], n)
        assert fit.attrs["n_too_few"] == (n < 14).sum() >= 2
        for variable in ("stat", "dof", "p_value"):
            answer = contrast(fit, "age")[variable]
            np.testing.assert_array_equal(np.isnan(answer), n < 14)
            np.testing.assert_allclose(answer[n >= 14], contrast(expected, "age")[variable][n >= 14], rtol=1e-9)
    with pytest.raises(InputError, match="min_n: is 19, but there are 18 maps"):
        fit_group(maps, design, min_n=19, **how)


def test_a_term_of_the_formula_is_tested_by_its_name(maps, table):
    design = group_design(table, "1 + age + C(site)")
    assert design.attrs["terms"]["C(site)"] == ["C(site)[T.b]", "C(site)[T.c]"]
    assert design.attrs["coding"]["C(site)"] == "treatment coding of a, b, c, reference a"
    found = contrast(fit_group(maps, design), "C(site)")
    for v in range(5):
        data = table.assign(y=maps["effect"][:, v].to_numpy()).dropna()
        expected = sm.stats.anova_lm(smf.ols("y ~ age + C(site)", data).fit(), typ=2).loc["C(site)"]
        np.testing.assert_allclose(found["stat"][v], expected["F"], rtol=1e-9)
        np.testing.assert_allclose(found["p_value"][v], expected["PR(>F)"], rtol=1e-9)


def test_a_two_sample_test_of_unequal_variances_is_welchs(maps, table):
    design = group_design(table, "0 + C(sex)")
    found = contrast(fit_group(maps, design, estimator="sandwich"), "`C(sex)[f]` - `C(sex)[m]`")
    for v in range(10):
        y = maps["effect"][:, v].to_numpy()
        f, m = (y[(table["sex"] == sex) & np.isfinite(y)] for sex in "fm")
        np.testing.assert_allclose(found["stat"][v], stats.ttest_ind(f, m, equal_var=False).statistic, rtol=1e-9)


def test_a_paired_design_is_a_t_of_the_differences():
    rng = np.random.default_rng(3)
    table = pd.DataFrame({"condition": ["a", "b"] * 8, "participant_id": np.repeat(list("ABCDEFGH"), 2)})
    effect = rng.standard_normal((16, 6)) + np.repeat(rng.standard_normal((8, 6)), 2, axis=0)
    maps = xr.DataArray(effect, dims=("map", "voxel"))
    found = contrast(fit_group(maps, group_design(table, "condition + C(participant_id)")), "condition")
    expected = stats.ttest_rel(effect[1::2], effect[::2])
    np.testing.assert_allclose(found["stat"], expected.statistic, rtol=1e-9)
    for name in ("random-intercept", "sandwich"):
        other = fit_group(maps, group_design(table, "condition"), estimator=name, groups=table["participant_id"])
        answer = contrast(other, "condition")
        np.testing.assert_allclose(answer["effect"], (effect[1::2] - effect[::2]).mean(axis=0), rtol=1e-9)
        if name == "sandwich":
            np.testing.assert_allclose(answer["stat"], expected.statistic, rtol=1e-8)
            np.testing.assert_allclose(answer["dof"], 7, rtol=1e-8)


def test_an_unpaired_subject_is_named(maps):
    table = pd.DataFrame({"condition": ["a", "b"] * 4 + ["a"], "participant_id": [*np.repeat(list("ABCD"), 2), "E"]})
    with pytest.warns(VoxloomWarning, match="maps 8 alone determine a regressor"):
        fit_group(maps["effect"][:9].drop_vars("map"), group_design(table, "condition + C(participant_id)"))


def test_groups_are_matched_by_label(maps, table):
    design = group_design(table, "1 + age")
    expected = fit_group(maps, design, estimator="random-intercept", groups=list(table["site"]))
    shuffled = table["site"].sample(frac=1, random_state=0)
    xr.testing.assert_identical(fit_group(maps, design, estimator="random-intercept", groups=shuffled), expected)


def test_visits_tell_the_maps_of_a_group_apart(maps, table):
    design, how = group_design(table, "1 + age"), {"estimator": "sandwich-homogeneous", "groups": table["site"]}
    visits = visits_for("sandwich-homogeneous", table)
    expected = contrast(fit_group(maps, design, **how), "age")
    xr.testing.assert_allclose(contrast(fit_group(maps, design, **how, visits=visits[::-1]), "age"), expected)
    with pytest.raises(InputError, match="visits: another map of the same group is of the kind of sub-01, sub-03"):
        fit_group(maps, design, **how, visits=[0] * 18)
    with pytest.raises(InputError, match="visits: is given, but the estimator takes none"):
        fit_group(maps, design, visits=visits)


def test_bad_input_is_refused_by_name(maps, table):
    design = group_design(table, "1 + age")
    with pytest.raises(InputError, match=r"estimator: 'remll' is unknown. Did you mean `reml`"):
        fit_group(maps, design, estimator="remll")
    with pytest.raises(InputError, match="has no `variance"):
        fit_group(maps["effect"], design, estimator="reml")
    with pytest.raises(InputError, match="groups: is missing, but 'random-intercept'"):
        fit_group(maps, design, estimator="random-intercept")
    with pytest.raises(InputError, match="'ols' takes none"):
        fit_group(maps, design, groups=table["site"])
    with pytest.raises(InputError, match="has no label for sub-03"):
        fit_group(maps, design, estimator="sandwich", groups=table["site"].rename({"sub-03": "other"}))
    maps["variance"][3, 7], maps["effect"][3, 7] = -1.0, 1.0
    with pytest.raises(InputError, match="negative or 0 at 1 values, in maps sub-03"):
        fit_group(maps, design, estimator="fixed")
    table.loc["sub-04", "age"] = np.inf
    with pytest.raises(DesignError, match="`age` is missing or not finite for sub-04"):
        group_design(table, "1 + age")
    assert "sub-04" not in group_design(table, "1 + age", missing="drop").index
    with pytest.raises(DesignError, match="has the one level a"):
        group_design(table.assign(site="a"), "1 + C(site)")


def test_a_map_outside_of_its_own_mask_is_missing_there(maps, table):
    """FSL writes 0 for effect and variance there."""
    design = group_design(table, "1 + age")
    gone = maps.copy(deep=True)
    gone["effect"][3, 7] = np.nan
    maps["effect"][3, 7], maps["variance"][3, 7] = 0.0, 0.0
    for name in ("fixed", "reml"):
        found, expected = (fit_group(ds, design, estimator=name) for ds in (maps, gone))
        xr.testing.assert_allclose(found, expected, rtol=1e-12)
