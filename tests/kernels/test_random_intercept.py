"""Random intercepts against the textbook formula with whole matrices, and against statsmodels' MixedLM."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import statsmodels.api as sm

from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.group.random_intercept import (
    ICC_GRID,
    GroupedDesign,
    fit_random_intercept,
    random_intercept_case,
    random_intercept_table,
)


def study(seed: int, sizes: list[int], icc: float, n_voxels: int):
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    n = len(groups)
    X = np.c_[np.ones(n), rng.standard_normal(n), rng.standard_normal(len(sizes))[groups]]
    u = rng.standard_normal((len(sizes), n_voxels))[groups] * np.sqrt(icc)
    Y = X @ [[1.0], [0.5], [0.2]] + u + rng.standard_normal((n, n_voxels)) * np.sqrt(1 - icc)
    order = rng.permutation(n)
    return X[order], groups[order], Y[order]


def fit(X, groups, Y):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    return fit_random_intercept(X, Y, groups, pattern, present), pattern, present


def textbook(X, groups, y, icc):
    """Beta, sigma2, covariance and -2 log REML, all matrices whole."""
    V = (1 - icc) * np.eye(len(y)) + icc * (groups[:, None] == groups)
    D = np.linalg.inv(V)
    W = X.T @ D @ X
    beta = np.linalg.solve(W, X.T @ D @ y)
    r, dof = y - X @ beta, len(y) - X.shape[1]
    rss = r @ D @ r
    criterion = dof * np.log(rss) + np.linalg.slogdet(V)[1] + np.linalg.slogdet(W)[1]
    return beta, rss / dof, np.linalg.inv(W), criterion


@pytest.mark.parametrize("sizes", [[3, 3, 3, 3, 3], [1, 2, 2, 5, 7, 3], [1] * 6 + [2] * 5])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_grid_search_finds_the_greatest_restricted_likelihood(sizes, missing):
    X, groups, Y = study(1, sizes, 0.4, 12)
    Y[np.random.default_rng(2).random(Y.shape) < missing] = np.nan
    found, _, _ = fit(X, groups, Y)
    for v, y in enumerate(Y.T):
        rows = np.isfinite(y)
        points = [textbook(X[rows], groups[rows], y[rows], icc) for icc in ICC_GRID]
        best = int(np.argmin([point[3] for point in points]))
        assert found.icc[v] == ICC_GRID[best]
        np.testing.assert_allclose(found.beta[:, v], points[best][0], rtol=1e-9)
        np.testing.assert_allclose(found.sigma2[v], points[best][1], rtol=1e-9)


def test_statsmodels_agrees_to_the_step_of_the_grid():
    X, groups, Y = study(3, [6, 9, 4, 8, 12, 5, 7, 10], 0.3, 6)
    found, pattern, present = fit(X, groups, Y)
    for v, y in enumerate(Y.T):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = sm.MixedLM(y, X, groups).fit(reml=True)
        between, within = expected.cov_re[0, 0] if np.ndim(expected.cov_re) else expected.cov_re, expected.scale
        icc = between / (between + within)
        assert abs(np.sqrt(found.icc[v]) - np.sqrt(icc)) < 0.006  # half a step of the root
        np.testing.assert_allclose(found.beta[:, v], expected.fe_params, atol=5e-3)
        case = random_intercept_case(pattern[v : v + 1], found.icc[v : v + 1])
        plain = textbook(X, groups, y, found.icc[v])
        np.testing.assert_allclose(np.sqrt(plain[1] * np.diag(plain[2])), expected.bse_fe, rtol=2e-2)
        table = random_intercept_table(X, groups, present, np.eye(3)[1:2], case)
        # Kenward and Roger's variance is the plug-in's and a little more
        ratio = table.cov[case[0], 0, 0] / plain[2][1, 1]
        assert 1 <= ratio < 1.1


def test_derivatives_are_those_of_the_precision():
    X, groups, _ = study(4, [2, 2, 3, 5, 1], 0.3, 1)
    design, icc, step = GroupedDesign(X, groups), 0.36, 1e-5
    Q, ZZ = design.basis.Q, (groups[:, None] == groups).astype(float)

    def V(c):
        return (1 - c) * np.eye(len(X)) + c * ZZ

    def D(c):
        return np.linalg.inv(V(c))

    dD = (D(icc + step) - D(icc - step)) / (2 * step)
    found = design.derivatives(icc)
    np.testing.assert_allclose(found.W, Q.T @ D(icc) @ Q, atol=1e-12)
    np.testing.assert_allclose(found.A[0], Q.T @ dD @ Q, atol=1e-7)
    np.testing.assert_allclose(found.B[0, 0], Q.T @ dD @ V(icc) @ dD @ Q, atol=1e-6)
    np.testing.assert_allclose(found.first[0], np.trace(V(icc) @ dD), rtol=1e-6)
    np.testing.assert_allclose(found.second[0, 0], np.trace(V(icc) @ dD @ V(icc) @ dD), rtol=1e-6)


def test_balanced_groups_test_a_covariate_of_groups_on_their_number():
    """With groups of one size the mean of a group is all there is: its covariate has groups - 2 degrees of freedom."""
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(8), 4)
    X = np.c_[np.ones(32), rng.standard_normal(8)[groups]]
    present = np.ones((1, 32), dtype=bool)
    cases = np.arange(10, 90, 20)
    table = random_intercept_table(X, groups, present, np.eye(2)[1:], cases)
    np.testing.assert_allclose(table.dof[cases], 6, rtol=1e-9)


def test_groups_of_one_map_are_ordinary_least_squares():
    X, groups, Y = study(6, [1] * 15, 0.0, 4)
    found, _, _ = fit(X, groups, Y)
    expected = np.linalg.lstsq(X, Y)
    np.testing.assert_allclose(found.beta, expected[0], rtol=1e-9)
    np.testing.assert_allclose(found.sigma2, expected[1] / 12, rtol=1e-9)
    assert (found.icc == 0).all()


def test_constant_maps_and_too_few_of_them_have_no_fit():
    X, groups, Y = study(7, [2, 2, 2], 0.3, 3)
    Y[:, 0] = 2.0
    Y[3:, 1] = np.nan
    found, _, _ = fit(X, groups, Y)
    assert np.isnan(found.sigma2[:2]).all()
    assert np.isfinite(found.sigma2[2])
