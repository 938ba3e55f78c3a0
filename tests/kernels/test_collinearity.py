"""Variance inflation, efficiency and whitening against refits, closed forms and the covariance they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import toeplitz
from statsmodels.stats.outliers_influence import variance_inflation_factor

from voxloom.kernels.design.collinearity import (
    condition_number,
    correlation,
    efficiency,
    variance_inflation,
    whiten_ar1,
)
from voxloom.kernels.noise.segments import FAR


def design(seed, T=40, K=5):
    rng = np.random.default_rng(seed)
    mixed = rng.standard_normal((T, K)) @ rng.standard_normal((K, K))
    return np.column_stack([mixed * 10.0 ** rng.uniform(-4, 4, K), np.ones(T)])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_inflation_of_a_column_is_that_of_statsmodels(seed):
    X = design(seed)
    ours = variance_inflation(X, list(np.eye(6)[:, np.newaxis]))
    np.testing.assert_allclose(ours[:5], [variance_inflation_factor(X, k) for k in range(5)], rtol=1e-6)
    assert np.isnan(ours[5])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_inflation_of_a_contrast_is_a_ratio_of_variances(seed):
    """The same columns with their correlations taken away are the standard; the unit of all columns drops out."""
    X = design(seed)[:, :5]
    rows = np.random.default_rng(seed).standard_normal((2, 5)) * np.linalg.norm(X, axis=0)
    S = np.cov(X.T)
    expected = np.trace(rows @ np.linalg.inv(S) @ rows.T) / np.trace(rows @ np.diag(1 / np.diag(S)) @ rows.T)
    np.testing.assert_allclose(variance_inflation(X, [rows]), expected, rtol=1e-6)
    np.testing.assert_allclose(variance_inflation(X * 7 + 3, [rows]), expected, rtol=1e-6)


def test_uncorrelated_columns_are_not_inflated():
    X = np.linalg.qr(np.column_stack([np.ones(30), np.random.default_rng(0).standard_normal((30, 3))]))[0][:, 1:]
    np.testing.assert_allclose(variance_inflation(X, [np.array([[1.0, -1, 0]]), np.eye(3)]), 1.0)


def test_a_dependent_column_alone_is_inflated_without_end():
    """Others keep the value that they have in the design without it."""
    X = design(3)
    more = np.column_stack([X, X[:, 0] + X[:, 1], np.zeros(40)])
    vif = np.array(variance_inflation(more, list(np.eye(8)[:, np.newaxis])))
    np.testing.assert_array_equal(np.isinf(vif), [True, True, False, False, False, False, True, True])
    np.testing.assert_allclose(vif[2:5], np.array(variance_inflation(X, list(np.eye(6)[:, np.newaxis])))[2:5])
    assert condition_number(more) == np.inf
    assert efficiency(more, [np.eye(8)[[0]]]) == [0.0]


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.4, 0.9])
@pytest.mark.parametrize("scans", [np.arange(40), np.delete(np.arange(45), [1, 20, 21, 30, 32])])
def test_efficiency_of_a_whitened_design_is_that_of_generalised_least_squares(rho, scans):
    X, C = design(1), np.eye(6)[[0, 2]]
    V = toeplitz(rho ** np.arange(45))[np.ix_(scans, scans)] / (1 - rho**2)
    expected = 1 / np.trace(C @ np.linalg.inv(X.T @ np.linalg.solve(V, X)) @ C.T)
    np.testing.assert_allclose(efficiency(whiten_ar1(X, rho, scans), [C]), expected, rtol=1e-8)


def test_whitening_knows_no_relation_to_scans_far_away():
    X = design(2)
    whole = whiten_ar1(X, 0.5, np.arange(40) + FAR * (np.arange(40) >= 25))
    np.testing.assert_allclose(whole, np.concatenate([whiten_ar1(X[:25], 0.5), whiten_ar1(X[25:], 0.5)]), rtol=1e-14)


def test_correlation_and_condition_number_equal_numpy():
    X = design(4)
    r = correlation(X)
    np.testing.assert_allclose(r[:5, :5], np.corrcoef(X[:, :5].T), atol=1e-12)
    assert np.isnan(r[5]).all()
    assert condition_number(X) == pytest.approx(np.linalg.cond(X / np.linalg.norm(X, axis=0)))
