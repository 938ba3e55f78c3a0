"""Groups with a variance each: Welch's t and analysis of variance, and Johansen's test by its definition."""

from __future__ import annotations

import numpy as np
from scipy import stats
from statsmodels.stats.oneway import anova_oneway

from voxloom.kernels.contrast import f_statistics, t_statistics
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.group.unequal_variances import fit_unequal_variances, unequal_variances_table

GROUPS = np.repeat([0, 1, 2], [7, 5, 9])


def maps(seed: int, missing: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    Y = np.array([1.0, 2.5, 0.4])[GROUPS, None] * rng.standard_normal((21, 12)) + 1
    Y[rng.random(Y.shape) < missing] = np.nan
    return Y


def answers(X, Y, groups, C):
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    fit = fit_unequal_variances(X, Y, groups, pattern, present)
    table = unequal_variances_table(X, groups, present, C, fit.variance_of_group, pattern)
    one, cases = np.ones(Y.shape[1]), np.arange(Y.shape[1])
    return (
        t_statistics((C @ fit.beta)[0], one, cases, table)
        if len(C) == 1
        else f_statistics(C @ fit.beta, one, cases, table)
    )


def test_two_means_are_tested_by_welch():
    Y = maps(1, missing=0.1)
    found = answers(np.eye(3)[GROUPS], Y, GROUPS, np.array([[1.0, -1.0, 0.0]]))
    for v, y in enumerate(Y.T):
        a, b = (y[(g == GROUPS) & np.isfinite(y)] for g in (0, 1))
        expected = stats.ttest_ind(a, b, equal_var=False)
        np.testing.assert_allclose(found.stat[v], expected.statistic, rtol=1e-9)
        np.testing.assert_allclose(found.dof[v], expected.df, rtol=1e-9)


def test_three_means_are_tested_by_welch():
    Y = maps(2)
    found = answers(np.eye(3)[GROUPS], Y, GROUPS, np.array([[1.0, -1.0, 0.0], [0.0, 1.0, -1.0]]))
    for v, y in enumerate(Y.T):
        expected = anova_oneway([y[g == GROUPS] for g in range(3)], use_var="unequal", welch_correction=True)
        np.testing.assert_allclose(found.stat[v], expected.statistic, rtol=1e-8)
        np.testing.assert_allclose(found.dof[v], expected.df_denom, rtol=1e-8)


def test_one_group_is_ordinary_least_squares():
    X = np.c_[np.ones(21), np.random.default_rng(3).standard_normal(21)]
    Y = maps(4)
    found = answers(X, Y, np.zeros(21, dtype=int), np.eye(2)[1:])
    for v, y in enumerate(Y.T):
        expected = stats.linregress(X[:, 1], y)
        np.testing.assert_allclose(found.stat[v], expected.slope / expected.stderr, rtol=1e-9)
    np.testing.assert_allclose(found.dof, 19, rtol=1e-9)


def test_a_group_that_the_design_fits_exactly_has_no_variance():
    Y = maps(5)
    Y[8:12, 3] = np.nan  # one map of the second group is left
    found = answers(np.eye(3)[GROUPS], Y, GROUPS, np.array([[1.0, -1.0, 0.0]]))
    assert np.isnan(found.stat[3])
    assert np.isfinite(np.delete(found.stat, 3)).all()


def test_a_voxel_without_one_of_the_groups_still_compares_the_others():
    Y = maps(6)
    Y[12:, 3] = np.nan
    found = answers(np.eye(3)[GROUPS], Y, GROUPS, np.array([[1.0, -1.0, 0.0]]))
    expected = stats.ttest_ind(Y[:7, 3], Y[7:12, 3], equal_var=False)
    np.testing.assert_allclose((found.stat[3], found.dof[3]), (expected.statistic, expected.df), rtol=1e-9)
