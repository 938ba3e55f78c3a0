"""Sums of maps: exact against rational arithmetic, exactly undone, and the same fit as that of the maps."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxloom.kernels.group.ols import fit_ols
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.group.sums import combine, fit_sums, sums_of


def study(seed: int, n: int = 12, n_voxels: int = 7, missing: float = 0.0):
    rng = np.random.default_rng(seed)
    X = np.c_[np.ones(n), rng.standard_normal((n, 2))]
    Y = rng.standard_normal((n, n_voxels)) + 5
    Y[rng.random(Y.shape) < missing] = np.nan
    return X, Y


def test_sums_are_exact_to_twice_the_digits():
    X, Y = study(1)
    found = sums_of(X, Y * 10.0 ** np.arange(-6, 6)[:, None])
    for v in range(Y.shape[1]):
        y = [Fraction(float(value)) for value in Y[:, v] * 10.0 ** np.arange(-6, 6)]
        exact = sum(Fraction(float(x)) * t for x, t in zip(X[:, 1], y))
        got = Fraction(float(found.xty[0, 1, v])) + Fraction(float(found.xty[1, 1, v]))
        assert abs(got - exact) <= Fraction(1, 10**29) * sum(abs(Fraction(float(x)) * t) for x, t in zip(X[:, 1], y))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1.0, 1e3]), missing=st.sampled_from([0.0, 0.3]))
def test_a_map_taken_away_leaves_what_was_there_to_the_last_bit(seed, size, missing):
    X, Y = study(seed, missing=missing)
    Y[-1] *= size
    whole, one = sums_of(X, Y), sums_of(X[-1:], Y[-1:])
    rest, direct = combine(whole, one, -1.0), sums_of(X[:-1], Y[:-1])
    for a, b in zip(rest[:3], direct[:3]):
        np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(rest.n, direct.n)


def test_sums_of_sites_add_up_to_those_of_all():
    X, Y = study(2, n=20, missing=0.1)
    merged = combine(combine(sums_of(X[:5], Y[:5]), sums_of(X[5:11], Y[5:11])), sums_of(X[11:], Y[11:]))
    for a, b in zip(merged[:3], sums_of(X, Y)[:3]):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize("missing", [0.0, 0.2])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_fit_of_sums_is_the_fit_of_the_maps(missing, offset):
    """Also where the mean is a million times the noise: the variance then lies in the second half of the digits."""
    X, Y = study(3, n=15, missing=missing)
    Y = Y + offset
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    expected, found = fit_ols(X, Y, pattern, present), fit_sums(sums_of(X, Y))
    np.testing.assert_allclose(found.beta, expected.beta, rtol=1e-8, atol=1e-8 * max(offset, 1))
    np.testing.assert_allclose(found.sigma2, expected.sigma2, rtol=1e-8)


def test_rank_is_that_of_the_maps_that_are_there():
    X, Y = study(4)
    X = np.c_[X, X[:, 1] - 2 * X[:, 0], np.arange(12) < 1]
    Y[0, 0] = np.nan
    found = fit_sums(sums_of(X, Y))
    assert found.rank[0] == 3
    assert (found.rank[1:] == 4).all()
