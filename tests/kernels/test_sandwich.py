"""The sandwich covariance and its degrees of freedom against statsmodels and their own definitions."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.group.sandwich import ClusteredDesign, fit_sandwich, sandwich_degrees


def study(seed: int, sizes: list[int], n_voxels: int = 6):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    n = clusters.size
    X = np.c_[np.ones(n), rng.standard_normal(n), rng.standard_normal(len(sizes))[clusters]]
    Y = (
        X @ [[1.0], [0.5], [0.0]]
        + rng.standard_normal((len(sizes), n_voxels))[clusters]
        + rng.standard_normal((n, n_voxels))
    )
    order = rng.permutation(n)
    return X[order], clusters[order], Y[order]


def fit(X, Y, clusters, form):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    return fit_sandwich(X, Y, clusters, pattern, present, form=form)


def power_of(A, p):
    values, vectors = np.linalg.eigh(A)
    return vectors @ np.diag(values**p) @ vectors.T


def by_definition(X, y, clusters, form):
    """The covariance written out with whole matrices."""
    bread = np.linalg.inv(X.T @ X)
    e, H = y - X @ bread @ X.T @ y, X @ bread @ X.T
    meat = np.zeros_like(bread)
    for g in np.unique(clusters):
        rows = clusters == g
        A = power_of(np.eye(rows.sum()) - H[np.ix_(rows, rows)], {"CR2": -0.5, "CR3": -1.0}[form])
        u = X[rows].T @ A @ e[rows]
        meat += np.outer(u, u)
    return bread @ meat @ bread


@pytest.mark.parametrize("form", ["CR2", "CR3"])
@pytest.mark.parametrize("missing", [0.0, 0.15])
def test_covariance_is_that_of_the_definition(form, missing):
    X, clusters, Y = study(1, [4, 3, 5, 2, 6, 4])
    Y[np.random.default_rng(9).random(Y.shape) < missing] = np.nan
    found = fit(X, Y, clusters, form)
    for v, y in enumerate(Y.T):
        rows = np.isfinite(y)
        np.testing.assert_allclose(
            found.covariance[:, :, v], by_definition(X[rows], y[rows], clusters[rows], form), rtol=1e-8
        )


@pytest.mark.parametrize(("form", "name"), [("CR0", "HC0"), ("CR1", "HC1"), ("CR2", "HC2"), ("CR3", "HC3")])
def test_clusters_of_one_map_are_the_robust_covariances_of_statsmodels(form, name):
    X, _, Y = study(2, [1] * 20)
    found = fit(X, Y, np.arange(20), form)
    for v, y in enumerate(Y.T):
        expected = sm.OLS(y, X).fit(cov_type=name)
        np.testing.assert_allclose(found.beta[:, v], expected.params, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[:, :, v], expected.cov_params(), rtol=1e-9)


def test_clusters_of_several_maps_are_those_of_statsmodels():
    X, clusters, Y = study(3, [4, 3, 5, 2, 6, 4, 4])
    found = fit(X, Y, clusters, "CR1")
    for v, y in enumerate(Y.T):
        expected = sm.OLS(y, X).fit(cov_type="cluster", cov_kwds={"groups": clusters})
        np.testing.assert_allclose(found.covariance[:, :, v], expected.cov_params(), rtol=1e-9)


def test_two_groups_of_unequal_variance_are_welch():
    """HC2 of a difference of means is Welch's t."""
    rng = np.random.default_rng(4)
    X = np.c_[np.r_[np.ones(8), np.zeros(5)], np.r_[np.zeros(8), np.ones(5)]]
    Y = np.r_[rng.standard_normal((8, 4)), 3 * rng.standard_normal((5, 4))]
    found = fit(X, Y, np.arange(13), "CR2")
    c = np.array([1.0, -1.0])
    t = c @ found.beta / np.sqrt(np.einsum("i,ijv,j->v", c, found.covariance, c))
    np.testing.assert_allclose(t, stats.ttest_ind(Y[:8], Y[8:], equal_var=False).statistic, rtol=1e-9)


def quadratic_forms(X, clusters, form, C):
    """Matrices M_st with d_st = e'M_st e for independent errors e, by whole matrices."""
    bread = np.linalg.inv(X.T @ X)
    R = np.eye(len(X)) - X @ bread @ X.T
    found = np.zeros((len(C), len(C), len(X), len(X)))
    for g in np.unique(clusters):
        rows = clusters == g
        A = power_of(R[np.ix_(rows, rows)], {"CR2": -0.5, "CR3": -1.0}[form])
        p = (C @ bread @ X[rows].T @ A @ R[rows]).T
        found += p.T[:, None, :, None] * p.T[None, :, None, :]
    return (found + found.swapaxes(2, 3)) / 2


@pytest.mark.parametrize("form", ["CR2", "CR3"])
def test_degrees_of_freedom_match_the_moments_of_the_variance(form):
    X, clusters, _ = study(5, [4, 3, 5, 2, 6, 4, 3])
    present = np.ones((1, len(X)), dtype=bool)
    for C in (np.eye(3)[1:2], np.eye(3)[2:], np.array([[1.0, -1.0, 0.5]])):
        M = quadratic_forms(X, clusters, form, C)[0, 0]
        expected = np.trace(M) ** 2 / np.trace(M @ M)
        (dof,), (scale,) = sandwich_degrees(X, clusters, present, C, form)
        np.testing.assert_allclose((dof, scale), (expected, 1), rtol=1e-8)


def test_degrees_of_freedom_of_f_match_the_total_variance_of_the_covariance():
    X, clusters, _ = study(6, [4, 3, 5, 2, 6, 4, 3, 3, 4])
    C = np.array([[0.0, 1.0, 0.2], [0.3, 0.0, 1.0]])
    M = quadratic_forms(X, clusters, "CR2", C)
    mean = np.einsum("stii->st", M)
    root = power_of(mean, -0.5)
    M = np.einsum("as,stij,tb->abij", root, M, root)
    total = sum(2 * np.sum(M[a, b] ** 2) for a in range(2) for b in range(2))
    eta = 2 * 3 / total
    (dof,), (scale,) = sandwich_degrees(X, clusters, np.ones((1, len(X)), dtype=bool), C, "CR2")
    np.testing.assert_allclose((dof, scale), (eta - 1, (eta - 1) / eta), rtol=1e-8)


def test_balanced_clusters_test_their_mean_on_their_number():
    """One sample of clusters of one size: a t of the clusters' means."""
    clusters = np.repeat(np.arange(7), 4)
    design = ClusteredDesign(np.ones((28, 1)), clusters, "CR2")
    np.testing.assert_allclose(design.degrees(np.ones((1, 1))), (6, 1), rtol=1e-9)
    Y = np.random.default_rng(7).standard_normal((28, 3))
    found = fit(np.ones((28, 1)), Y, clusters, "CR2")
    t = found.beta[0] / np.sqrt(found.covariance[0, 0])
    means = Y.reshape(7, 4, 3).mean(axis=1)
    np.testing.assert_allclose(t, stats.ttest_1samp(means, 0).statistic, rtol=1e-9)


def test_a_map_that_the_design_determines_tells_nothing_of_the_errors():
    X = np.c_[np.ones(10), np.eye(10)[0]]
    Y = np.random.default_rng(8).standard_normal((10, 3))
    found = fit(X, Y, np.arange(10), "CR3")
    without = fit(np.ones((9, 1)), Y[1:], np.arange(9), "CR3")
    np.testing.assert_allclose(found.covariance[0, 0], without.covariance[0, 0], rtol=1e-8)
