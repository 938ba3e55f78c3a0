"""Sums of sites: the pooled fit without pooled maps, and people who join and leave."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from voxloom.errors import InputError
from voxloom.models.contrasts import contrast
from voxloom.models.group.fit import fit_group
from voxloom.models.group.sums import fit_sums, group_sums, merge_sums, subtract_sums
from voxloom.schema import Grid, voxel_coords

SITES = np.repeat(["a", "b", "c"], [8, 6, 10])


@pytest.fixture
def maps() -> xr.DataArray:
    rng = np.random.default_rng(1)
    effect = rng.standard_normal((24, 30)) + 2
    effect[rng.random(effect.shape) < 0.05] = np.nan
    grid = Grid.of((5, 3, 2), np.eye(4))
    return xr.DataArray(effect, dims=("map", "voxel"), coords=voxel_coords(grid, np.arange(30)), name="effect")


@pytest.fixture
def design() -> pd.DataFrame:
    age = np.random.default_rng(2).uniform(20, 70, 24)
    return pd.DataFrame({"intercept": 1.0, "age": age, "b": SITES == "b", "c": SITES == "c"}).astype(float)


def of_sites(maps, design, **kwargs):
    return [group_sums(maps[s == SITES], design[s == SITES].reset_index(drop=True), **kwargs) for s in "abc"]


@pytest.mark.parametrize("expression", ["age", "b - c", [[0, 0, 1, 0], [0, 0, 0, 1]]])
def test_merged_sums_of_sites_are_the_pooled_fit(maps, design, expression):
    expected = contrast(fit_group(maps, design), expression)
    found = contrast(fit_sums(merge_sums(*of_sites(maps, design))), expression)
    xr.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_person_who_leaves_leaves_the_others_fit(maps, design):
    rest = np.arange(24) != 5
    sums = subtract_sums(group_sums(maps, design), group_sums(maps[5:6], design[5:6].reset_index(drop=True)))
    expected = group_sums(maps[rest], design[rest].reset_index(drop=True))
    xr.testing.assert_equal(sums.sel(part="high"), expected.sel(part="high"))
    xr.testing.assert_allclose(
        contrast(fit_sums(sums), "age"), contrast(fit_group(maps[rest], design[rest].reset_index(drop=True)), "age")
    )
    with pytest.raises(InputError, match="fewer maps than are taken away"):
        subtract_sums(expected, group_sums(maps, design))


def test_lazy_sums_are_those_in_memory(maps, design):
    whole, lazy = group_sums(maps, design), group_sums(maps.chunk(map=7, voxel=11), design)
    assert lazy["xtx"].chunks is not None
    xr.testing.assert_equal(lazy.compute(), whole)
    xr.testing.assert_allclose(contrast(fit_sums(lazy), "age").compute(), contrast(fit_sums(whole), "age"))


def test_a_contrast_that_a_voxel_cannot_tell_is_nan_there(maps, design):
    maps[SITES == "c", 4] = np.nan
    found = contrast(fit_sums(group_sums(maps, design)), "c")
    assert np.isnan(found["stat"][4])
    assert np.isfinite(found["stat"][5])
    assert np.isfinite(contrast(fit_sums(group_sums(maps, design)), "age")["stat"][4])


def test_small_cells_are_not_told(maps, design):
    with pytest.raises(InputError, match=r"fewer than 7 maps \(maps: 6, intercept: 6, b: 6,"):
        of_sites(maps, design, min_n=7)
    maps[1:, 3] = np.nan
    sums = group_sums(maps, design, min_n=5)
    assert sums["n"][3] == 0
    assert (sums["xty"][..., 3] == 0).all()


def test_sums_that_do_not_fit_together_are_refused(maps, design):
    one = group_sums(maps, design)
    with pytest.raises(InputError, match="are of the designs"):
        merge_sums(one, group_sums(maps, design.rename(columns={"age": "years"})))
    coded = design.copy()
    coded.attrs = {"coding": {"center(age)": "center 40"}}
    with pytest.raises(InputError, match="are coded as"):
        merge_sums(one, group_sums(maps, coded))
    with pytest.raises(InputError, match="other voxels"):
        merge_sums(one, group_sums(maps[:, ::-1], design))
    moved = maps.assign_coords(voxel_coords(Grid.of((5, 3, 2), np.diag([2, 2, 2, 1])), np.arange(30)))
    with pytest.raises(InputError, match="is wanted"):
        merge_sums(one, group_sums(moved, design))
    with pytest.raises(InputError, match="version 0"):
        merge_sums(one, one.assign_attrs(sums_version=0))
