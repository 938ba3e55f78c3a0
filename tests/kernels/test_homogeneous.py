"""The sandwich of clusters with one covariance: by its definition, by multivariate analysis, and unbiased."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from scipy.linalg import fractional_matrix_power

from voxloom.kernels.group.homogeneous import HomogeneousDesign, fit_homogeneous, homogeneous_degrees
from voxloom.kernels.group.patterns import group_patterns, pattern_bits

N = 24
CLUSTERS = np.repeat(np.arange(8), 3)
KINDS = np.tile([0, 1, 2], 8)


def fitted(X, Y, clusters=CLUSTERS, kinds=KINDS):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    return fit_homogeneous(X, Y, clusters, kinds, pattern, present), pattern, present


def by_definition(X, y, clusters, kinds) -> np.ndarray:
    """Covariance of beta with all matrices written out."""
    n, inverse = len(X), np.linalg.pinv(X.T @ X)
    H = X @ inverse @ X.T
    made = np.zeros(n)
    for g in np.unique(clusters):
        i = np.flatnonzero(clusters == g)
        made[i] = fractional_matrix_power(np.eye(len(i)) - H[np.ix_(i, i)], -0.5) @ (y - H @ y)[i]
    V = np.zeros((n, n))
    for i in range(n):
        for j in np.flatnonzero(clusters == clusters[i]):
            alike = [
                made[a] * made[b]
                for g in np.unique(clusters)
                for a in np.flatnonzero((clusters == g) & (kinds == kinds[i]))
                for b in np.flatnonzero((clusters == g) & (kinds == kinds[j]))
            ]
            V[i, j] = np.mean(alike)
    return inverse @ X.T @ V @ X @ inverse


def test_covariances_are_those_of_the_definition_also_with_maps_missing():
    rng = np.random.default_rng(0)
    X = np.c_[np.ones(N), rng.standard_normal((N, 2))]
    Y = rng.standard_normal((N, 6)) + rng.standard_normal((8, 6))[CLUSTERS]
    Y[[3, 4, 11], 2], Y[6:9, 3], Y[::5, 4] = np.nan, np.nan, np.nan
    order = rng.permutation(N)
    fit, _, _ = fitted(X[order], Y[order], CLUSTERS[order], KINDS[order])
    for v, y in enumerate(Y.T):
        there = np.isfinite(y)
        expected = by_definition(X[there], y[there], CLUSTERS[there], KINDS[there])
        np.testing.assert_allclose(fit.covariance[:, :, v], expected, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(fit.beta[:, v], np.linalg.lstsq(X[there], y[there])[0], rtol=1e-8)


def test_visits_of_everybody_are_hotellings_test():
    """T squared over visits: t and F are exact, whatever the covariance of the visits."""
    rng = np.random.default_rng(1)
    mixed = rng.standard_normal((3, 3))
    Y = (rng.standard_normal((8, 3, 4)).transpose(0, 2, 1) @ mixed).transpose(0, 2, 1)
    X = np.tile(np.eye(3), (8, 1))
    fit, _, present = fitted(X, Y.reshape(N, 4))
    c = np.array([[1.0, -1, 0]])
    dof, scale = homogeneous_degrees(X, CLUSTERS, KINDS, present, c)
    expected = stats.ttest_1samp(Y[:, 0] - Y[:, 1], 0)
    np.testing.assert_allclose(dof, 7, rtol=1e-10)
    assert scale == 1
    variance = np.einsum("qk,klv,ql->v", c, fit.covariance, c)
    np.testing.assert_allclose((c @ fit.beta)[0] / np.sqrt(variance), expected.statistic, rtol=1e-10)
    C = np.array([[1.0, -1, 0], [0, 1, -1]])
    dof, scale = homogeneous_degrees(X, CLUSTERS, KINDS, present, C)
    D = Y[:, :2] - Y[:, 1:]
    for v in range(4):
        d, S = D[:, :, v].mean(axis=0), np.cov(D[:, :, v].T)
        hotelling = 8 * d @ np.linalg.solve(S, d) * (8 - 2) / (7 * 2)
        F = (C @ fit.beta[:, v]) @ np.linalg.solve(C @ fit.covariance[:, :, v] @ C.T, C @ fit.beta[:, v]) / 2
        np.testing.assert_allclose(scale[0] * F, hotelling, rtol=1e-9)
    np.testing.assert_allclose(dof, 6, rtol=1e-9)


def test_degrees_of_freedom_are_those_of_moments_written_out():
    rng = np.random.default_rng(2)
    kept = np.delete(np.arange(N), [1, 5, 6, 13, 20])
    X, clusters, kinds = np.c_[np.ones(N), rng.standard_normal((N, 2))][kept], CLUSTERS[kept], KINDS[kept]
    c = np.array([[0.0, 1, -0.5]])
    R = np.eye(len(X)) - X @ np.linalg.pinv(X)
    # the variance is a quadratic form of data: its matrix by polarisation
    n = len(X)
    unit = np.eye(n)

    def value(y: np.ndarray) -> float:
        return float((c @ by_definition(X, y, clusters, kinds) @ c.T)[0, 0])

    M = np.array([[(value(one + other) - value(one - other)) / 4 for one in unit] for other in unit])
    np.testing.assert_allclose(R @ M @ R, M, atol=1e-10)
    dof, _ = homogeneous_degrees(X, clusters, kinds, np.ones((1, n), bool), c)
    np.testing.assert_allclose(dof, np.trace(M) ** 2 / (M * M).sum(), rtol=1e-8)


def test_variances_are_unbiased_for_independent_errors():
    rng = np.random.default_rng(3)
    X = np.c_[np.ones(N), rng.standard_normal(N)]
    fit, _, _ = fitted(X, rng.standard_normal((N, 20_000)))
    np.testing.assert_allclose(fit.covariance.mean(axis=2), np.linalg.inv(X.T @ X), atol=0.002)


@pytest.mark.parametrize("n", [3, 6])
def test_what_cannot_be_told_is_nan(n):
    X = np.c_[np.ones(N), np.random.default_rng(0).standard_normal(N)]
    Y = np.full((N, 2), np.nan)
    Y[:n, 0] = np.random.default_rng(4).standard_normal(n)
    fit, _, _ = fitted(X, Y)
    assert np.isnan(fit.beta[:, 1]).all()
    assert np.isnan(fit.beta[:, 0]).all() == (n == 3)  # one cluster
    assert not HomogeneousDesign(X[:3], CLUSTERS[:3], KINDS[:3]).is_told
