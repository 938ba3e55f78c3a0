"""t, F and fixed effects against their formulas written out, voxel by voxel."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from voxloom.kernels.contrast import (
    ContrastTable,
    combine_rows,
    f_of,
    f_statistics,
    fixed_effects,
    t_statistics,
)
from voxloom.kernels.first_level.contrast_tables import ols_table, pattern_table


def table_of(rng, cases, q):
    half = rng.standard_normal((cases, q, q + 2))
    return ContrastTable(half @ half.swapaxes(1, 2), rng.uniform(5, 90, cases), rng.uniform(0.9, 1.0, cases))


@pytest.mark.parametrize("q", [1, 3])
def test_f_is_the_quadratic_form(q):
    rng = np.random.default_rng(0)
    table, case = table_of(rng, 5, q), rng.integers(0, 5, 20)
    effects, sigma2 = rng.standard_normal((q, 20)), rng.uniform(1, 4, 20)
    found = f_statistics(effects, sigma2, case, table)
    for v in range(20):
        F = effects[:, v] @ np.linalg.inv(table.cov[case[v]]) @ effects[:, v] / (q * sigma2[v]) * table.scale[case[v]]
        np.testing.assert_allclose(found.stat[v], F, rtol=1e-10)
        np.testing.assert_allclose(found.p_value[v], stats.f.sf(F, q, table.dof[case[v]]), rtol=1e-9)
        np.testing.assert_allclose(stats.norm.sf(found.z_score[v]), found.p_value[v], rtol=1e-9)


def test_t_squared_is_f():
    rng = np.random.default_rng(1)
    table, case = table_of(rng, 4, 1)._replace(scale=np.ones(4)), rng.integers(0, 4, 30)
    effect, sigma2 = rng.standard_normal(30), rng.uniform(1, 4, 30)
    t, F = t_statistics(effect, sigma2, case, table), f_statistics(effect[None], sigma2, case, table)
    np.testing.assert_allclose(t.stat**2, F.stat, rtol=1e-12)
    np.testing.assert_allclose(2 * stats.t.sf(np.abs(t.stat), t.dof), F.p_value, rtol=1e-9)
    np.testing.assert_allclose(t.variance, sigma2 * table.cov[case, 0, 0])


def test_what_is_not_known_is_nan():
    table = ContrastTable(np.array([[[1.0]], [[np.nan]]]), np.array([10.0, np.nan]), np.ones(2))
    effect, sigma2, case = np.array([1.0, 1, np.nan, 1, 1]), np.array([1.0, 1, 1, np.nan, 0]), np.array([0, 1, 0, 0, 0])
    for maps in (t_statistics(effect, sigma2, case, table), f_statistics(effect[None], sigma2, case, table)):
        for values in maps:
            np.testing.assert_array_equal(np.isnan(values), [False, True, True, True, True])


def test_patterns_are_ols_of_the_rows_that_are_there():
    rng = np.random.default_rng(2)
    X = np.column_stack([np.ones(8), np.repeat([0.0, 1.0], 4), rng.standard_normal(8)])
    C = np.array([[0.0, 1, 0]])
    present = np.ones((4, 8), dtype=bool)
    present[1, 2], present[2, 4:], present[3, 3:] = False, False, False
    table = pattern_table(X, present, C)
    for case, rows in enumerate(present[:2]):
        np.testing.assert_allclose(table.cov[case], C @ np.linalg.inv(X[rows].T @ X[rows]) @ C.T)
    np.testing.assert_array_equal(table.dof, [5, 4, np.nan, np.nan])  # one group is gone; no rows to spare
    np.testing.assert_array_equal(ols_table(X, C).cov[0], table.cov[0])


def runs(seed=3, R=4, V=6):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((R, V)), rng.uniform(0.5, 3, (R, V)), rng.uniform(10, 200, (R, V))


@pytest.mark.parametrize("weighted", [False, True])
def test_fixed_effects_in_closed_form(weighted):
    effects, variances, dofs = runs()
    effects[1, 2], variances[0, 3], dofs[:, 4] = np.nan, np.nan, np.nan
    found = fixed_effects(effects, variances, dofs, precision_weighted=weighted)
    for v in (0, 1, 2, 3, 5):
        there = np.isfinite(effects[:, v] + variances[:, v])
        e, s = effects[there, v], variances[there, v]
        w = 1 / s / np.sum(1 / s) if weighted else np.full(len(e), 1 / len(e))
        np.testing.assert_allclose(found.effect[v], w @ e)
        np.testing.assert_allclose(found.variance[v], w**2 @ s)
        np.testing.assert_allclose(found.dof[v], dofs[there, v].sum())
    np.testing.assert_array_equal(found.n, [4, 4, 3, 3, 0, 4])
    assert np.isnan([found.effect[4], found.variance[4], found.dof[4]]).all()


def test_rows_of_one_contrast_combine_as_fixed_effects():
    effects, variances, dofs = runs()
    effects[2, 1] = np.nan
    effects[:, 5] = np.nan
    one = fixed_effects(effects, variances, dofs)
    rows = combine_rows(effects[:, None], variances[:, None, None], dofs)
    for a, b in zip(rows, one):
        np.testing.assert_allclose(a.reshape(6), b)
    found = f_of(*rows)
    np.testing.assert_allclose(found.stat, one.effect**2 / one.variance)
    assert np.isnan(found.dof[5])


def test_f_of_a_singular_covariance_is_nan():
    found = f_of(np.ones((2, 2)), np.stack([np.eye(2), np.ones((2, 2))], axis=-1), np.full(2, 9.0))
    np.testing.assert_allclose(found.stat, [1.0, np.nan])
