"""Permutation tests against brute force, SciPy and nilearn; their laws; and the error rate they promise."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.mass_univariate import permuted_ols
from scipy import stats

from voxloom.errors import ContrastError, DesignError, InputError, VoxloomWarning
from voxloom.models.contrasts import contrast
from voxloom.models.group.fit import fit_group
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import (
    fwe_p,
    null_max_stat,
    observed_stat,
    prepare_test,
)
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.schema import Grid, grid_of, voxel_coords


def group_maps(n: int, n_voxels: int, seed: int = 0, shift: float = 0.0) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, n_voxels))
    Y[:, : n_voxels // 10] += shift
    grid = Grid.of((20, 20, 20), np.eye(4))
    coords = {"map": [f"sub-{i}" for i in range(n)], **voxel_coords(grid, np.arange(n_voxels))}
    return xr.Dataset({"effect": (("map", "voxel"), Y)}, coords=coords)


def two_groups(n: int, first: int, seed: int | None = None) -> pd.DataFrame:
    side = (np.arange(n) < first).astype(float)
    design = pd.DataFrame({"a": side, "b": 1 - side})
    if seed is not None:
        design["age"] = np.random.default_rng(seed).standard_normal(n)
    return design


@pytest.mark.parametrize("two_sided", [True, False])
def test_exhaustive_flips_equal_brute_force(two_sided):
    maps = group_maps(9, 300, shift=1.2)
    found = permutation_test(maps, n_perm=512, two_sided=two_sided)
    Y = maps["effect"].values
    t = np.stack([stats.ttest_1samp(Y * np.array(signs)[:, None], 0).statistic for signs in product([1, -1], repeat=9)])
    height = np.abs(t) if two_sided else t
    np.testing.assert_allclose(found["stat"], t[0], rtol=1e-10)
    np.testing.assert_allclose(np.sort(found["null_max_stat"]), np.sort(height.max(axis=1)), rtol=1e-10)
    expected = (height.max(axis=1)[:, None] >= height[0] * (1 - 1e-9)).mean(axis=0)
    if not two_sided:
        expected = (height.max(axis=1)[:, None] >= height[0] - 1e-9).mean(axis=0)
    np.testing.assert_allclose(found["p_max_stat"], expected, rtol=1e-12)
    assert found.attrs["exhaustive"] is True
    assert found.attrs["scheme"] == "flip"
    assert found.attrs["p_method"].startswith("b / N")
    assert found["null_max_stat"][0] == height[0].max() or np.isclose(found["null_max_stat"][0], height[0].max())


def test_exhaustive_two_groups_equal_brute_force():
    maps = group_maps(10, 200, shift=1.5)
    found = permutation_test(maps, two_groups(10, 4), "a - b", n_perm=1000)
    Y = maps["effect"].values
    null = []
    for chosen in combinations(range(10), 4):
        rest = np.setdiff1d(np.arange(10), chosen)
        null.append(np.abs(stats.ttest_ind(Y[list(chosen)], Y[rest]).statistic).max())
    assert found.sizes["permutation"] == 210
    assert found.attrs["scheme"] == "permute"
    np.testing.assert_allclose(np.sort(found["null_max_stat"]), np.sort(null), rtol=1e-10)


def test_one_voxel_equals_scipy():
    maps = group_maps(9, 1, seed=4)
    found = permutation_test(maps, two_groups(9, 4), "a - b", two_sided=False)
    a, b = np.split(maps["effect"].values[:, 0], [4])
    expected = stats.permutation_test(
        (a, b), lambda x, y: stats.ttest_ind(x, y).statistic, alternative="greater", n_resamples=np.inf
    )
    np.testing.assert_allclose(found["p_max_stat"], expected.pvalue, rtol=1e-12)


def test_stat_is_that_of_the_group_model():
    maps, design = group_maps(14, 50), two_groups(14, 6, seed=3)
    found = permutation_test(maps, design, "a - b", n_perm=10)
    expected = contrast(fit_group(maps, design), "a - b")
    assert set(found) == {"stat", "z_score", "n", "p_uncorrected", "p_max_stat", "null_max_stat"}
    for name in ("stat", "z_score"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-9)
    assert (expected["dof"] == found.attrs["dof"]).all()
    assert grid_of(found) == grid_of(maps)
    by_weights = permutation_test(maps, design, [1, -1, 0], n_perm=10)
    np.testing.assert_array_equal(by_weights["null_max_stat"], found["null_max_stat"])


@pytest.mark.parametrize("case", ["one sample", "covariate"])
def test_nilearn_agrees_within_binomial_error(case):
    n, n_perm = 20, 2000
    maps = group_maps(n, 150, seed=6, shift=0.9)
    age = np.random.default_rng(2).standard_normal((n, 1))
    if case == "one sample":
        design, tested, weights = None, np.ones((n, 1)), [1.0]
    else:
        maps = maps + 0.8 * xr.DataArray(age[:, 0], dims="map") * (maps["voxel"] < 15)
        design, tested, weights = pd.DataFrame(np.c_[np.ones(n), age], columns=["mean", "age"]), age, [0.0, 1.0]
    found = permutation_test(maps, design, weights, n_perm=n_perm)
    oracle = permuted_ols(
        tested,
        maps["effect"].values,
        model_intercept=case != "one sample",
        n_perm=n_perm,
        two_sided_test=True,
        random_state=0,
        output_type="dict",
        verbose=0,
    )
    np.testing.assert_allclose(found["stat"], oracle["t"][0], rtol=1e-8)
    p = found["p_max_stat"].values
    error = np.sqrt(2 * p * (1 - p) / n_perm) + 1 / n_perm
    assert np.abs(p - 10.0 ** -oracle["logp_max_t"][0]).max() < 4 * error.max()
    assert (p < 0.05).any()


@pytest.mark.parametrize("design", [None, two_groups(12, 6, seed=0)])
@pytest.mark.parametrize("voxels", [1, 37, 400])
def test_lazy_and_in_memory_give_the_same_bits(design, voxels):
    maps = group_maps(12, 400)
    weights = [1.0] if design is None else [1, -1, 0]
    found, expected = (
        permutation_test(m, design, weights, n_perm=300, seed=5) for m in (maps.chunk(voxel=voxels, map=5), maps)
    )
    xr.testing.assert_identical(found, expected)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), chunk=st.integers(1, 90), scale=st.sampled_from([1e-120, -1.0, 3e100]))
def test_chunks_order_and_units_do_not_matter(seed, chunk, scale):
    maps, design = group_maps(11, 90, seed), two_groups(11, 5, seed=seed)
    whole = permutation_test(maps, design, "age", n_perm=60)
    order = np.random.default_rng(seed).permutation(90)
    turned = permutation_test(maps.isel(voxel=order).chunk(voxel=chunk), design, "age", n_perm=60)
    xr.testing.assert_identical(turned, whole.isel(voxel=order))
    scaled = permutation_test(scale * maps, design, "age", n_perm=60)
    np.testing.assert_allclose(scaled["stat"], np.sign(scale) * whole["stat"], rtol=1e-9)
    np.testing.assert_allclose(scaled["null_max_stat"], whole["null_max_stat"], rtol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint16", ">f4", ">i2"])
def test_any_dtype_is_read_exactly(dtype):
    maps = (100 * group_maps(12, 30) + 500).astype(dtype)
    found, expected = permutation_test(maps, n_perm=40), permutation_test(maps.astype(np.float64), n_perm=40)
    xr.testing.assert_identical(found, expected)
    xr.testing.assert_identical(fit_group(maps), fit_group(maps.astype(np.float64)))


def test_lazy_maps_are_read_in_stretches(monkeypatch):
    monkeypatch.setattr("voxloom.models.inference.run_test.MAP_SHARD_VOXELS", 100)
    maps = group_maps(12, 400)
    for chunks in (30, 99, 100, 150):
        found = permutation_test(maps.chunk(voxel=chunks), n_perm=50)
        xr.testing.assert_identical(found, permutation_test(maps, n_perm=50))


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("n_perm", [128, 200])
def test_shards_and_batches_merge_to_the_whole(two_sided, n_perm):
    Y = group_maps(7, 500).effect.values  # 2^7 flips: exhaustive in both
    test = prepare_test(pd.DataFrame({"m": np.ones(7)}), "m", n_perm=n_perm, two_sided=two_sided)
    whole = null_max_stat(test, Y)
    shards = [null_max_stat(test, Y[:, v : v + 130]) for v in range(0, 500, 130)]
    np.testing.assert_array_equal(np.maximum.reduce(shards), whole)
    batches = [null_max_stat(test, Y, start=i, stop=min(i + 50, test.n_perm)) for i in range(0, test.n_perm, 50)]
    np.testing.assert_array_equal(np.concatenate(batches), whole)
    assert (null_max_stat(test, np.zeros((7, 3))) == -np.inf).all()


def test_a_longer_test_begins_with_the_shorter():
    maps, design = group_maps(16, 100), two_groups(16, 8, seed=1)
    short, long = (permutation_test(maps, design, "age", n_perm=n, seed=9) for n in (100, 400))
    np.testing.assert_array_equal(long["null_max_stat"][:100], short["null_max_stat"])
    other = permutation_test(maps, design, "age", n_perm=100, seed=10)
    assert not np.isin(other["null_max_stat"][1:], short["null_max_stat"][1:]).any()


def test_p_counts_the_observed_and_ties():
    test = prepare_test(pd.DataFrame({"m": np.ones(30)}), "m", n_perm=5)
    null = np.array([4.0, 2, 3, 1, 5])
    np.testing.assert_allclose(
        fwe_p(test, [6, 5, -4 * (1 + 1e-13), 4.1, 0, np.nan], null), [0.2, 0.2, 0.4, 0.2, 1, np.nan]
    )
    one_sided = prepare_test(pd.DataFrame({"m": np.ones(30)}), "m", n_perm=5, two_sided=False)
    np.testing.assert_allclose(fwe_p(one_sided, [-4.0, 4.0], null), [1, 0.4])


def test_untested_voxels_are_nan_and_counted():
    maps = group_maps(12, 40)
    maps["effect"][:11, 5], maps["effect"][:, 6], maps["effect"][:, 7] = np.nan, 0, 2.5
    with pytest.warns(VoxloomWarning, match="3 of 40 voxels"):
        found = permutation_test(maps, n_perm=50)
    for name in ("stat", "z_score", "p_max_stat"):
        np.testing.assert_array_equal(np.flatnonzero(found[name].isnull()), [5, 6, 7])
    rest = permutation_test(maps.drop_isel(voxel=[5, 6, 7]), n_perm=50)
    np.testing.assert_array_equal(found["null_max_stat"], rest["null_max_stat"])
    alone = maps.where(xr.DataArray(np.arange(12)[:, None] == np.arange(40) % 12, dims=("map", "voxel")))
    with pytest.raises(InputError, match="none of the 40 voxels"):
        permutation_test(alone)


@pytest.mark.parametrize("chunks", [None, 7])
def test_maps_without_values_and_maps_given_twice_are_named(chunks):
    for value, words in ((np.nan, "sub-3, sub-5 hold no number"), (0.0, "sub-3, sub-5 are 0 everywhere")):
        maps = group_maps(12, 40)
        maps["effect"][[3, 5]] = value
        with pytest.raises(InputError, match=words):
            permutation_test(maps if chunks is None else maps.chunk(voxel=chunks), n_perm=50)
    maps = group_maps(12, 40)
    maps["effect"][7] = maps["effect"][2]
    with pytest.raises(InputError, match="sub-7 is sub-2 again"):
        permutation_test(maps if chunks is None else maps.chunk(voxel=chunks), n_perm=50)


def test_bad_arguments():
    maps, design = group_maps(8, 20), two_groups(8, 4)
    with pytest.raises(ContrastError, match="'a', 'b'"):
        permutation_test(maps, design, "c")
    with pytest.warns(VoxloomWarning, match="'one'"), pytest.raises(ContrastError, match="not estimable"):
        permutation_test(maps, design.assign(one=1.0), "a")
    with pytest.raises(DesignError, match="2 maps cannot determine 2"):
        permutation_test(maps.isel(map=[0, 7]), two_groups(2, 1), "a - b")
    with pytest.raises(InputError, match=r"'tfcee' is no statistic. Did you mean `tfce`"):
        permutation_test(maps, statistics=("max_stat", "tfcee"))
    with pytest.raises(InputError, match="tail: 'pareto' is unknown"):
        permutation_test(maps, tail="pareto")
    with pytest.raises(InputError, match="n_perm"):
        permutation_test(maps, n_perm=0)
    with pytest.raises(InputError, match="seed"):
        permutation_test(maps, seed=-1)
    with pytest.raises(InputError, match="scheme 'all'"):
        Exchangeability(scheme="all")
    with pytest.raises(InputError, match="permuting changes nothing"):
        permutation_test(maps, exchangeability=Exchangeability(scheme="permute"))
    test = prepare_test(design, "a - b")
    with pytest.raises(InputError, match=r"\(8, voxels\) is wanted"):
        observed_stat(test, np.zeros((7, 3)))


def test_forced_scheme_is_used():
    maps, design = group_maps(20, 20), two_groups(20, 10)
    found = permutation_test(maps, design, "a - b", n_perm=30, exchangeability=Exchangeability(scheme="flip"))
    assert found.attrs["scheme"] == found["p_max_stat"].attrs["scheme"] == "flip"
    assert found.attrs["p_method"].startswith("(b + 1) / (m + 1)")


def false_positives(n_sims: int, n_perm: int, *, case: str) -> int:
    """Number of null data sets, smooth over 30 voxels with heavy tails, with any p <= 0.05."""
    n, found = 14, 0
    rng = np.random.default_rng(11)
    design = None if case == "one sample" else two_groups(n, 6, seed=2)
    weights = [1.0] if design is None else ([1, -1, 0] if case == "two groups" else [0, 0, 1])
    frame = pd.DataFrame({"m": np.ones(n)}) if design is None else design
    for seed in range(n_sims):
        noise = rng.standard_t(5, (n, 34))
        Y = np.lib.stride_tricks.sliding_window_view(noise, 5, axis=1).mean(axis=-1)
        if design is not None:
            Y = Y + 3 * frame[["age"]].to_numpy() * (case == "two groups") + 2
        test = prepare_test(frame, weights, n_perm=n_perm, seed=seed)
        found += fwe_p(test, observed_stat(test, Y), null_max_stat(test, Y)).min() <= 0.05
    return found


@pytest.mark.parametrize("case", ["one sample", "two groups", "covariate"])
def test_null_calibration_small(case):
    assert stats.binomtest(false_positives(400, 200, case=case), 400, 0.05).pvalue > 0.001


@pytest.mark.slow
@pytest.mark.parametrize("case", ["one sample", "two groups", "covariate"])
def test_null_calibration(case):
    found = false_positives(3000, 500, case=case)
    assert stats.binomtest(found, 3000, 0.05).pvalue > 0.01, f"family-wise error {found / 3000:.4f}"
