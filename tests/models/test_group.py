"""Group models: designs from tables, rows matched with maps, lazy as in memory, against statsmodels."""

from __future__ import annotations

import dask
import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from voxloom.errors import DesignError, VoxloomWarning
from voxloom.models.contrasts import contrast
from voxloom.models.group.design import group_design
from voxloom.models.group.fit import fit_group
from voxloom.schema import Grid, validate, voxel_coords

SUBJECTS = [f"sub-{i:02d}" for i in range(1, 15)]


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "age": rng.uniform(20, 60, 14),
            "group": np.where(np.arange(14) % 3, "a", "b"),
            "site no": np.arange(14.0) % 4,
        },
        index=SUBJECTS,
    )


@pytest.fixture
def maps() -> xr.Dataset:
    rng = np.random.default_rng(1)
    Y = rng.standard_normal((14, 90)) + 1
    Y[rng.random(Y.shape) < 0.03] = np.nan
    grid = Grid.of((5, 6, 4), np.diag([2.0, 2, 2, 1]))
    return xr.Dataset(
        {"effect": (("map", "voxel"), Y)}, coords={"map": SUBJECTS, **voxel_coords(grid, np.arange(3, 93))}
    )


def test_contrasts_with_missing_maps_equal_statsmodels(maps, table):
    fit = fit_group(maps, group_design(table, "1 + age + C(group)"))
    validate(fit, "group_fit")
    answer = contrast(fit, "`C(group)[T.b]`")
    t = [smf.ols("y ~ age + C(group)", table.assign(y=y), missing="drop").fit() for y in maps["effect"].values.T]
    np.testing.assert_allclose(answer["stat"], [r.tvalues["C(group)[T.b]"] for r in t], rtol=1e-8)
    np.testing.assert_allclose(answer["dof"], [r.df_resid for r in t])
    np.testing.assert_allclose(fit["n"], [r.nobs for r in t])
    np.testing.assert_allclose(answer["effect"], [r.params["C(group)[T.b]"] for r in t], rtol=1e-8)
    assert answer.coords["grid"].attrs["shape"] == [5, 6, 4]


@pytest.mark.parametrize("chunks", [{"voxel": 7}, {"voxel": 90}, {"voxel": 31, "map": 4}])
def test_lazy_equals_in_memory_whatever_the_chunks(maps, table, chunks):
    design = group_design(table, "age")
    expected = fit_group(maps, design)
    fit = fit_group(maps.chunk(chunks), design)
    assert fit["beta"].chunks is not None
    answer = contrast(fit, "age")
    assert answer["stat"].chunks is not None
    xr.testing.assert_equal(
        fit["pattern"].drop_vars(["voxel", "grid"], errors="ignore"),
        expected["pattern"].drop_vars(["voxel", "grid"], errors="ignore"),
    )
    xr.testing.assert_equal(fit["present"], expected["present"])
    xr.testing.assert_allclose(answer.compute(), contrast(expected, "age"), rtol=1e-10)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), chunk=st.integers(1, 90), scale=st.sampled_from([1e-100, -2.0, 1e90]))
def test_chunks_order_and_units_do_not_matter(maps, table, seed, chunk, scale):
    design, order = group_design(table, "age"), np.random.default_rng(seed).permutation(90)
    expected = contrast(fit_group(maps, design), "age").isel(voxel=order)
    found = contrast(fit_group((scale * maps).isel(voxel=order).chunk(voxel=chunk), design), "age").compute()
    np.testing.assert_allclose(found["stat"], np.sign(scale) * expected["stat"], rtol=1e-9)
    np.testing.assert_allclose(found["effect"] / scale, expected["effect"], rtol=1e-9)
    np.testing.assert_array_equal(found["dof"], expected["dof"])


def test_only_the_pattern_is_computed_at_the_call(maps):
    calls = []
    effect = maps["effect"].chunk(voxel=30)
    effect = effect.copy(data=effect.data.map_blocks(lambda block: calls.append(block.shape) or block, dtype=float))
    with dask.config.set(scheduler="synchronous"):
        calls.clear()
        fit = fit_group(effect)
        assert calls == [(14, 30)] * 3
        fit["sigma2"].isel(voxel=slice(0, 10)).compute()
        assert len(calls) == 4


def test_rows_are_matched_by_label(maps, table):
    design = group_design(table, "age")
    xr.testing.assert_allclose(fit_group(maps, design.iloc[::-1]), fit_group(maps, design))
    counted = design.reset_index(drop=True)
    xr.testing.assert_allclose(fit_group(maps, counted), fit_group(maps, design))
    with pytest.raises(DesignError, match="no row for sub-03"):
        fit_group(maps, design.rename(index={"sub-03": "sub-30"}))
    with pytest.raises(DesignError, match="repeats labels"):
        fit_group(maps.assign_coords(map=["sub-01", *SUBJECTS[:-1]]), design.iloc[[0, *range(13)]].iloc[::-1])


def test_no_design_is_the_mean(maps):
    answer = contrast(fit_group(maps), "intercept")
    np.testing.assert_allclose(answer["effect"], np.nanmean(maps["effect"], axis=0))
    xr.testing.assert_equal(answer, contrast(fit_group(maps["effect"]), [1.0]).assign_attrs(answer.attrs))


def test_bad_designs(maps, table):
    design = group_design(table, "age")
    with pytest.raises(DesignError, match="13 rows, but there are 14 maps"):
        fit_group(maps, design.iloc[1:])
    with pytest.raises(DesignError, match=r"3 maps cannot determine 3 independent regressors"):
        fit_group(maps.isel(map=slice(0, 3)), pd.DataFrame(np.eye(3)))
    with pytest.raises(DesignError, match=r"\['age'\] hold no finite number for sub-02"):
        fit_group(maps, design.assign(age=design["age"].where(design.index != "sub-02")))
    with pytest.raises(DesignError, match="group_design codes categories"):
        fit_group(maps, table)
    with pytest.warns(VoxloomWarning, match=r"\['twice'\] depend"):
        fit = fit_group(maps, design.assign(twice=2 * design["age"]))
    np.testing.assert_allclose(
        contrast(fit, "intercept")["stat"], contrast(fit_group(maps, design), "intercept")["stat"], rtol=1e-8
    )


def test_designs_from_tables(table):
    assert list(group_design(table).columns) == ["intercept"]
    assert list(group_design(table, "age").columns) == ["intercept", "age"]
    assert list(group_design(table, ["site no", "age"]).columns) == ["intercept", "site no", "age"]
    means = group_design(table, "0 + C(group)")
    np.testing.assert_array_equal(means.to_numpy(), pd.get_dummies(table["group"]).to_numpy(dtype=float))
    assert means.index.tolist() == SUBJECTS
    centred = group_design(table, "center(age)")
    np.testing.assert_allclose(centred["center(age)"], table["age"] - table["age"].mean())


def test_bad_formulas(table):
    table.loc[["sub-04", "sub-09"], "age"] = np.nan
    with pytest.raises(DesignError, match="`age` is missing or not finite for sub-04, sub-09"):
        group_design(table, "1 + age")
    with pytest.raises(DesignError, match=r"no column is named \['height'\]"):
        group_design(table, "height")
    with pytest.raises(DesignError, match="cannot be used"):
        group_design(table, "1 + + (")
    with pytest.raises(DesignError, match="left-hand side"):
        group_design(table, "age ~ group")
    assert len(group_design(table, "group")) == 14
