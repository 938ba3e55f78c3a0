"""Group least squares against statsmodels, with maps missing here and there."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.kernels.group.ols import fit_ols
from voxloom.kernels.group.patterns import group_patterns, pattern_bits


def holey(seed: int, n: int, n_voxels: int, share: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    Y = rng.standard_normal((n, n_voxels)) + 3
    Y[rng.random(Y.shape) < share] = np.nan
    return Y


def fit(X: np.ndarray, Y: np.ndarray):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    return fit_ols(X, Y, pattern, present)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(1, 20),
    n_voxels=st.integers(1, 30),
    share=st.sampled_from([0, 0.05, 0.5]),
)
def test_patterns_tell_what_is_present(seed, n, n_voxels, share):
    Y = holey(seed, n, n_voxels, share)
    pattern, present = group_patterns(pattern_bits(Y), n)
    np.testing.assert_array_equal(present[pattern].T, np.isfinite(Y))
    assert len(np.unique(present, axis=0)) == len(present) == pattern.max() + 1
    # the order is one of patterns, not of voxels: fullest first
    assert sorted(map(tuple, present.tolist()), reverse=True) == list(map(tuple, present.tolist()))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4])
def test_equal_to_statsmodels(share):
    rng = np.random.default_rng(1)
    X = np.c_[np.ones(12), rng.standard_normal((12, 2))]
    Y = holey(2, 12, 60, share)
    found = fit(X, Y)
    for v, y in enumerate(Y.T):
        rows = np.isfinite(y)
        if rows.sum() <= 3:
            assert np.isnan(found.sigma2[v])
            continue
        expected = sm.OLS(y[rows], X[rows]).fit()
        np.testing.assert_allclose(found.beta[:, v], expected.params, rtol=1e-9)
        np.testing.assert_allclose(found.sigma2[v], expected.scale, rtol=1e-9)


def test_rank_deficient_design_divides_by_n_minus_rank():
    X = np.c_[np.ones(10), np.arange(10.0), np.arange(10.0) + 1]
    Y = holey(0, 10, 5, 0)
    np.testing.assert_allclose(fit(X, Y).sigma2, fit(X[:, :2], Y).sigma2, rtol=1e-10)
    np.testing.assert_allclose(X @ fit(X, Y).beta, X[:, :2] @ fit(X[:, :2], Y).beta, rtol=1e-9)


def test_voxels_that_cannot_be_tested_are_nan_alone():
    Y = holey(0, 8, 7, 0)
    Y[:, 0], Y[:, 1], Y[:, 2], Y[1:, 3], Y[0, 4] = 0, 7.1, np.nan, np.nan, np.inf
    found = fit(np.ones((8, 1)), Y)
    np.testing.assert_array_equal(np.isnan(found.beta[0]), [True, True, True, True, False, False, False])
    np.testing.assert_array_equal(np.isnan(found.sigma2), np.isnan(found.beta[0]))
    np.testing.assert_allclose(found.beta[0, 4], Y[1:, 4].mean())


@pytest.mark.parametrize("scale", [1e-120, 1e120])
def test_any_unit_will_do(scale):
    X, Y = np.c_[np.ones(9), np.arange(9.0)], holey(4, 9, 40, 0.1)
    np.testing.assert_allclose(fit(X, scale * Y).sigma2 / scale / scale, fit(X, Y).sigma2, rtol=1e-9)


def test_squares_beyond_the_range_of_floats_are_not_tested():
    with np.errstate(all="raise"):
        assert np.isnan(fit(np.ones((9, 1)), 1e170 * holey(4, 9, 5, 0)).sigma2).all()


def test_each_voxel_stands_alone():
    X = np.c_[np.ones(15), np.arange(15.0)]
    Y = holey(3, 15, 5000, 0.02)
    whole, order = fit(X, Y), np.random.default_rng(0).permutation(5000)
    part = fit(X, Y[:, order[:300]])
    np.testing.assert_allclose(part.beta, whole.beta[:, order[:300]], rtol=1e-10)
    np.testing.assert_allclose(part.sigma2, whole.sigma2[order[:300]], rtol=1e-10)
