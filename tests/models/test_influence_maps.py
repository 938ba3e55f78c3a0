"""Influence maps and tables: lazily as in memory, and an outlier found by name."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import xarray as xr

from voxloom.errors import ContrastError, InputError
from voxloom.models.group.fit import fit_group
from voxloom.models.group.influence import group_influence, influential_maps


@pytest.fixture
def maps() -> xr.DataArray:
    rng = np.random.default_rng(1)
    effect = rng.standard_normal((16, 50))
    effect[6] += 8
    effect[rng.random(effect.shape) < 0.03] = np.nan
    return xr.DataArray(effect, dims=("map", "voxel"), coords={"map": [f"sub-{i:02d}" for i in range(16)]})


@pytest.fixture
def design(maps) -> pd.DataFrame:
    age = np.random.default_rng(2).standard_normal(16)
    return pd.DataFrame({"intercept": 1.0, "age": age}, index=maps["map"].to_index())


def test_each_voxel_has_the_influence_that_statsmodels_finds(maps, design):
    found = group_influence(fit_group(maps, design), maps, "age")
    for v in range(0, 50, 7):
        rows = np.isfinite(maps[:, v].to_numpy())
        expected = sm.OLS(maps[rows, v].to_numpy(), design[rows].to_numpy()).fit().get_influence()
        np.testing.assert_allclose(found["cooks_distance"][rows, v], expected.cooks_distance[0], rtol=1e-9)
        np.testing.assert_allclose(found["dfbetas"][rows, v], expected.dfbetas[:, 1], rtol=1e-9)
        np.testing.assert_allclose(found["leverage"][rows, v], expected.hat_matrix_diag, rtol=1e-9)
        assert found["leverage"][~rows, v].isnull().all()


def test_lazy_influence_is_that_in_memory(maps, design):
    lazy = maps.chunk(map=4, voxel=13)
    found = group_influence(fit_group(lazy, design), lazy, "age")
    assert found["dfbeta"].chunks is not None
    expected = group_influence(fit_group(maps, design), maps, "age")
    xr.testing.assert_allclose(found.compute(), expected)
    pd.testing.assert_frame_equal(influential_maps(found), influential_maps(expected))


def test_an_outlier_leads_the_table(maps, design):
    table = influential_maps(group_influence(fit_group(maps, design), maps, "intercept"), n=3)
    assert table.index[0] == "sub-06"
    assert len(table) == 3
    assert table["mean_cooks_distance"].is_monotonic_decreasing
    assert table["largest_dfbetas"].iloc[0] > 1


def test_bad_input_is_refused(maps, design):
    fit = fit_group(maps, design)
    with pytest.raises(ContrastError, match="several rows"):
        group_influence(fit, maps, np.eye(2))
    with pytest.raises(InputError, match="are 15, but the fit is to 16"):
        group_influence(fit, maps[1:], "age")
    with pytest.raises(InputError, match="not by least squares"):
        group_influence(fit_group(maps, design, estimator="sandwich"), maps, "age")
