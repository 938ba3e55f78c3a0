"""ComBat on Datasets: any chunks, maps by label, new maps with old parameters."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from voxloom.errors import InputError
from voxloom.models.group.harmonise import apply_combat, fit_combat

NAMES = [f"sub-{i:02d}" for i in range(24)]


@pytest.fixture
def sites() -> pd.Series:
    return pd.Series(np.repeat(["x", "y", "z"], 8), index=NAMES).sample(frac=1, random_state=1)


@pytest.fixture
def covariates(sites) -> pd.DataFrame:
    return pd.DataFrame({"intercept": 1.0, "age": np.random.default_rng(1).standard_normal(24)}, index=NAMES)


@pytest.fixture
def maps(sites, covariates) -> xr.DataArray:
    rng = np.random.default_rng(2)
    shift = dict(zip("xyz", rng.standard_normal((3, 300)) * 2))
    effect = np.array([shift[sites[name]] for name in NAMES]) + rng.standard_normal((24, 300))
    effect += covariates["age"].to_numpy()[:, None]
    effect[4, 7] = np.nan
    return xr.DataArray(effect, dims=("map", "voxel"), coords={"map": NAMES}, name="effect")


def test_lazy_maps_in_any_chunks_give_what_maps_in_memory_give(maps, sites, covariates):
    expected = apply_combat(maps, fit_combat(maps, sites, covariates), sites, covariates)
    lazy = maps.chunk(map=9, voxel=70)
    found = apply_combat(lazy, fit_combat(lazy, sites, covariates), sites, covariates)
    assert found.chunks is not None
    xr.testing.assert_allclose(found.compute(), expected, rtol=1e-9)
    assert np.isnan(expected[4, 7])
    assert expected.isnull().sum() == 1


def test_sites_become_alike_and_age_stays(maps, sites, covariates):
    found = apply_combat(maps, fit_combat(maps, sites, covariates), sites, covariates)

    def between(values):
        rest = values - covariates["age"].to_numpy()[:, None]
        return np.nanvar([rest[(sites.loc[NAMES] == s).to_numpy()].mean("map") for s in "xyz"], axis=0).mean()

    assert between(found) < 0.1 * between(maps)
    slope = [np.polyfit(covariates["age"], found[:, v], 1)[0] for v in range(10, 300)]
    assert np.mean(slope) == pytest.approx(1.0, abs=0.1)


def test_parameters_of_some_maps_serve_others(maps, sites, covariates):
    """Only training maps are learned from; a map's own values do not matter to how it is adjusted."""
    train = [*NAMES[:10], *NAMES[12:]]
    combat = fit_combat(maps.sel(map=train), sites.loc[train], covariates.loc[train])
    new = apply_combat(maps.sel(map=NAMES[10:12]), combat, sites.loc[NAMES[10:12]], covariates.loc[NAMES[10:12]])
    twice = apply_combat(2 * maps.sel(map=NAMES[10:12]), combat, sites.loc[NAMES[10:12]], covariates.loc[NAMES[10:12]])
    scale = np.sqrt(combat["delta2"].sel(site=sites.loc[NAMES[10:12]].to_list()).to_numpy())
    np.testing.assert_allclose((twice - new) * scale, maps.sel(map=NAMES[10:12]), rtol=1e-9)


def test_bad_input_is_refused(maps, sites, covariates):
    combat = fit_combat(maps, sites, covariates)
    with pytest.raises(InputError, match=r"\['w'\] are none of those"):
        apply_combat(maps[:1], combat, ["w"], covariates.iloc[:1].assign(age=[1.0]))
    with pytest.raises(InputError, match=r"are \[\], but \['age'\] were fitted"):
        apply_combat(maps, combat, sites)
    with pytest.raises(InputError, match="has no label for sub-03"):
        fit_combat(maps, sites.where(sites.index != "sub-03"))
    with pytest.raises(InputError, match="23 labels"):
        fit_combat(maps, sites.iloc[1:])
