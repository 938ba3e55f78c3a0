"""Thresholds and adjusted p of z maps against nilearn and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm import fdr_threshold
from scipy import stats
from statsmodels.stats.multitest import multipletests

from voxloom.errors import InputError
from voxloom.models.inference.multiplicity import bonferroni, fdr, threshold
from voxloom.schema import Grid, voxel_coords


def z_map(seed: int = 0, n: int = 2000, signal: float = 4.0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    z = rng.standard_normal(n)
    z[: n // 20] += signal
    z[n // 20 : n // 10] -= signal
    return xr.DataArray(z, dims="voxel", name="z_score", attrs={"contrast": "a"})


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    alpha=st.sampled_from([0.001, 0.05, 0.3]),
    signal=st.sampled_from([0.0, 2.0, 5.0]),
    two_sided=st.booleans(),
)
def test_fdr_threshold_is_nilearns(seed, alpha, signal, two_sided):
    z = z_map(seed, 400, signal)
    height = np.abs(z.values) if two_sided else z.values
    expected = fdr_threshold(height, alpha / 2 if two_sided else alpha)
    found = threshold(z, alpha=alpha, method="fdr", two_sided=two_sided)
    np.testing.assert_allclose(found.attrs["threshold"], expected, atol=1e-11)
    np.testing.assert_array_equal(found != 0, height >= found.attrs["threshold"])


@pytest.mark.parametrize("two_sided", [True, False])
def test_fpr_and_bonferroni_are_quantiles(two_sided):
    z, side = z_map(), 2 if two_sided else 1
    fpr = threshold(z, alpha=0.001, method="fpr", two_sided=two_sided)
    np.testing.assert_allclose(fpr.attrs["threshold"], stats.norm.isf(0.001 / side), rtol=1e-12)
    fwe = threshold(z, alpha=0.05, method="bonferroni", two_sided=two_sided)
    np.testing.assert_allclose(fwe.attrs["threshold"], stats.norm.isf(0.05 / side / 2000), rtol=1e-12)
    assert fwe.attrs["method"] == "bonferroni"
    assert fwe.attrs["contrast"] == "a"
    assert (fpr.values[fpr != 0] < 0).any() == two_sided


@pytest.mark.parametrize("method", ["fpr", "bonferroni", "fdr"])
@pytest.mark.parametrize("two_sided", [True, False])
def test_thresholds_agree_with_adjusted_p(method, two_sided):
    z = z_map(3)
    adjusted = {
        "bonferroni": lambda: bonferroni(z, two_sided=two_sided),
        "fdr": lambda: fdr(z, two_sided=two_sided),
        "fpr": lambda: 2 * stats.norm.sf(np.abs(z)) if two_sided else stats.norm.sf(z),
    }[method]()
    kept = threshold(z, alpha=0.05, method=method, two_sided=two_sided) != 0
    np.testing.assert_array_equal(kept, adjusted < 0.05)


def test_adjusted_p_of_z_and_of_p():
    z = z_map()
    p = 2 * stats.norm.sf(np.abs(z.values))
    np.testing.assert_allclose(fdr(z), multipletests(p, method="fdr_bh")[1], rtol=1e-10)
    np.testing.assert_allclose(bonferroni(z), multipletests(p, method="bonferroni")[1], rtol=1e-10)
    np.testing.assert_allclose(fdr(z.copy(data=p), kind="p"), fdr(z), rtol=1e-10)
    np.testing.assert_array_equal(fdr(z, method="bky") <= 0.05, multipletests(p, 0.05, method="fdr_tsbky")[0])
    assert fdr(z, method="bky").attrs["p_method"] == "Benjamini-Krieger-Yekutieli"
    assert fdr(z).name == "p_fdr"
    assert fdr(z).attrs == {"p_method": "Benjamini-Hochberg", "n_tests": 2000, "two_sided": True}


def test_nan_is_no_test_and_lazy_is_the_same():
    z = z_map(n=300)
    holes = xr.concat([z, xr.full_like(z, np.nan)], "voxel")
    for method in ("bonferroni", "fdr"):
        found = threshold(holes.chunk(voxel=77), alpha=0.05, method=method)
        expected = threshold(z, alpha=0.05, method=method)
        assert found.attrs["threshold"] == expected.attrs["threshold"]
        np.testing.assert_array_equal(found[:300], expected)
        assert found[300:].isnull().all()
    np.testing.assert_array_equal(fdr(holes.chunk(voxel=77))[:300], fdr(z))


def test_p_is_never_zero_and_far_z_keep_their_order():
    z = xr.DataArray([60.0, -50.0, 45.0, 0.1], dims="voxel", name="z_score")
    assert (bonferroni(z) > 0).all()
    assert (fdr(z) > 0).all()
    found = threshold(z, alpha=1e-300, method="fdr")
    assert found.attrs["threshold"] == 45.0


def test_nothing_found_is_an_infinite_threshold():
    found = threshold(xr.DataArray(np.zeros(5), dims="voxel"), alpha=0.05, method="fdr")
    assert found.attrs["threshold"] == np.inf
    assert (found == 0).all()


def test_bad_arguments():
    z = z_map()
    with pytest.raises(InputError, match="One of"):
        threshold(z, method="fwer")
    with pytest.raises(InputError, match="between 0 and 1"):
        threshold(z, alpha=3.1, method="fpr")
    with pytest.raises(InputError, match="outside"):
        fdr(z, kind="p")
    with pytest.raises(InputError, match="a map of p by its name"):
        fdr(z.rename("p_value"))
    with pytest.raises(InputError, match="unknown"):
        bonferroni(z, kind="t")
    with pytest.raises(InputError, match="One of"):
        fdr(z, method="by")
    with pytest.raises(InputError, match="of no use"):
        threshold(z, method="fdr", p=z)
    with pytest.raises(InputError, match="voxels"):
        threshold(z, method="fwe", p=z[1:])


def test_fwe_says_which_procedure_it_was():
    z = z_map()
    alone = threshold(z, method="fwe")
    xr.testing.assert_equal(alone, threshold(z, method="bonferroni"))
    assert alone.attrs["height_control"] == "Bonferroni"
    p = xr.DataArray(np.where(np.abs(z) > 4.1, 0.01, 0.2), dims="voxel", name="p_max_stat", attrs={"p_method": "b / N"})
    for two_sided in (True, False):
        found = threshold(z, method="fwe", p=p, two_sided=two_sided)
        np.testing.assert_array_equal(found, np.where((np.abs(z) if two_sided else z) > 4.1, z, 0.0))
        assert found.attrs["height_control"] == "b / N"
        assert found.attrs["threshold"] == np.abs(found.values[found != 0]).min()
    assert threshold(z, method="fwe", p=p * 0 + 1).attrs["threshold"] == np.inf


def test_small_clusters_are_cut_and_signs_do_not_join():
    volume = np.zeros((6, 5, 4))
    volume[:3, 0, 0], volume[3:5, 0, 0], volume[5, 4, 3], volume[1, 3, 3] = 5.0, -5.0, 7.0, np.nan
    voxel = np.arange(volume.size)
    z = xr.DataArray(volume.ravel(), dims="voxel", coords=voxel_coords(Grid.of(volume.shape, np.eye(4)), voxel))
    found = threshold(z, alpha=0.01, method="fpr", min_cluster_size=3)
    np.testing.assert_array_equal(found, np.where(z == -5, 0.0, np.where(z == 7, 0.0, z)))
    assert found.attrs["min_cluster_size"] == 3
    xr.testing.assert_equal(threshold(z, method="fpr", min_cluster_size=1), threshold(z, method="fpr"))
