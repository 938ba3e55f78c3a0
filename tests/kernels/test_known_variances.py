"""Mixed effects with known variances: against the definitions of their estimators and against statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from scipy.optimize import brentq, minimize_scalar
from statsmodels.stats.meta_analysis import combine_effects

from voxloom.kernels.group.known_variances import fit_known_variances
from voxloom.kernels.group.patterns import group_patterns, pattern_bits


def fit(X, Y, S2, method):
    pattern, present = group_patterns(pattern_bits(Y + S2), len(Y))
    return fit_known_variances(X, Y, S2, pattern, present, method=method)


def study(seed: int, n: int, n_voxels: int, tau2: float):
    rng = np.random.default_rng(seed)
    X = np.c_[np.ones(n), rng.standard_normal(n)]
    S2 = rng.gamma(2.0, 0.5, (n, n_voxels)) + 0.1
    Y = X @ [[0.5], [1.0]] + rng.standard_normal((n, n_voxels)) * np.sqrt(S2 + tau2)
    return X, Y, S2


def generalised_q(X, y, s2, tau2):
    fit = sm.WLS(y, X, 1 / (s2 + tau2)).fit()
    return float(np.sum(fit.resid**2 / (s2 + tau2)))


def minus_two_reml(X, y, s2, tau2):
    w = 1 / (s2 + tau2)
    return generalised_q(X, y, s2, tau2) - np.log(w).sum() + np.linalg.slogdet((X.T * w) @ X)[1]


@pytest.mark.parametrize("tau2", [0.0, 0.3, 4.0])
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_paule_mandel_solves_its_equation(tau2, missing):
    X, Y, S2 = study(1, 14, 20, tau2)
    Y[np.random.default_rng(0).random(Y.shape) < missing] = np.nan
    found = fit(X, Y, S2, "paule-mandel")
    for v in range(Y.shape[1]):
        rows = np.isfinite(Y[:, v])
        data = X[rows], Y[rows, v], S2[rows, v]
        dof = rows.sum() - 2
        at_zero = generalised_q(*data, 0.0)
        np.testing.assert_allclose(found.q[v], at_zero, rtol=1e-9)
        expected = 0.0
        if at_zero > dof:
            expected = brentq(lambda t, data=data, dof=dof: generalised_q(*data, t) - dof, 0, 1e3, xtol=1e-12)
        np.testing.assert_allclose(found.tau2[v], expected, atol=1e-8)


@pytest.mark.parametrize("tau2", [0.0, 0.3, 4.0])
def test_reml_maximises_the_restricted_likelihood(tau2):
    X, Y, S2 = study(2, 12, 8, tau2)
    found = fit(X, Y, S2, "reml")
    grid = np.r_[0.0, np.geomspace(1e-4, 50, 100)]
    for v in range(Y.shape[1]):
        data = X, Y[:, v], S2[:, v]
        values = [minus_two_reml(*data, t) for t in grid]
        k = int(np.argmin(values))
        expected = 0.0
        if k > 0:
            bounds = (grid[k - 1], grid[min(k + 1, grid.size - 1)])
            expected = minimize_scalar(
                lambda t, data=data: minus_two_reml(*data, t), bounds=bounds, method="bounded", options={"xatol": 1e-10}
            ).x
        assert minus_two_reml(*data, found.tau2[v]) <= minus_two_reml(*data, expected) + 1e-9
        np.testing.assert_allclose(found.tau2[v], expected, atol=1e-4)


def test_equal_to_statsmodels_with_the_scale_of_knapp_and_hartung():
    rng = np.random.default_rng(3)
    y, s2 = 1.5 * rng.standard_normal(9) + 1, rng.gamma(2.0, 0.3, 9)
    found = fit(np.ones((9, 1)), y[:, None], s2[:, None], "paule-mandel")
    expected = combine_effects(y, s2, method_re="iterated", use_t=True, atol=1e-12)
    np.testing.assert_allclose(found.tau2[0], expected.tau2, rtol=1e-6)
    np.testing.assert_allclose(found.beta[0, 0], expected.mean_effect_re, rtol=1e-7)
    np.testing.assert_allclose(np.sqrt(found.covariance[0, 0, 0]), expected.sd_eff_w_re_hksj, rtol=1e-7)
    assert found.dof[0] == 8


def test_fixed_effects_are_weighted_least_squares_with_normal_tails():
    X, Y, S2 = study(4, 10, 5, 0.0)
    found = fit(X, Y, S2, "fixed")
    for v in range(5):
        expected = sm.WLS(Y[:, v], X, 1 / S2[:, v]).fit(cov_type="fixed scale")
        np.testing.assert_allclose(found.beta[:, v], expected.params, rtol=1e-9)
        np.testing.assert_allclose(found.covariance[:, :, v], expected.normalized_cov_params, rtol=1e-9)
    assert np.isinf(found.dof).all()
    assert (found.tau2 == 0).all()


@pytest.mark.parametrize("method", ["fixed", "paule-mandel", "reml"])
def test_units_scale_through(method):
    X, Y, S2 = study(5, 12, 10, 1.0)
    one, other = fit(X, Y, S2, method), fit(X, 1e3 * Y, 1e6 * S2, method)
    np.testing.assert_allclose(other.beta, 1e3 * one.beta, rtol=1e-6)
    np.testing.assert_allclose(other.covariance, 1e6 * one.covariance, rtol=1e-6)
    np.testing.assert_allclose(other.tau2, 1e6 * one.tau2, rtol=1e-6, atol=1e-3)
