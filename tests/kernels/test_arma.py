"""ARMA(1, 1) against full T x T matrices, statsmodels, and all points of the grid."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from ar1_oracle import confounded_design, scans_of
from noise_oracle import covariance, derivatives, log_reml, noise, weights_of
from statsmodels.tsa.arima_process import ArmaProcess

from voxloom.errors import DesignError
from voxloom.kernels.contrast import t_statistics
from voxloom.kernels.first_level.glm import fit_arma11
from voxloom.kernels.first_level.noise_models import require_estimable
from voxloom.kernels.first_level.ols_residuals import ols_residuals
from voxloom.kernels.noise.arma import (
    ARMA_GRID,
    apply_precision,
    arma_index,
    autocorrelations,
    from_autocorrelations,
    innovations,
    sum_of_squares,
)
from voxloom.kernels.noise.arma_reml import ArmaGrid, arma_reml, solve_arma
from voxloom.kernels.noise.arma_table import arma_derivatives, arma_table
from voxloom.kernels.noise.lags import lag_design
from voxloom.kernels.noise.segments import segments_of

AB = [(0.8, -0.5), (0.0, 0.3), (0.0, 0.0), (0.5, 0.4), (0.95, -0.9)]
SCANS = [
    np.arange(40),
    scans_of((0, 1, 3, 20), 40),
    np.delete(np.arange(52), [1, 2, 10, 14, 15, 16, 30, 31, 40, 44, 45, 50]),
    scans_of((0, 20), 40) + (np.arange(40) > 5) + 4 * (np.arange(40) > 30),
]


def design_of(K, T, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.standard_normal((T, K - 1)).cumsum(axis=0), np.ones(T)])


def white_and_ar1(rng, a, share, T, n):
    """Noise of variance 1, of which `share` is AR(1)."""
    red = np.sqrt(1 - a**2) * noise(rng, (a,), (), np.arange(T), n)
    return np.sqrt(share) * red + np.sqrt(1 - share) * rng.standard_normal((T, n))


@pytest.mark.parametrize(("a", "b"), AB)
@pytest.mark.parametrize("scans", SCANS)
def test_innovations_whiten(a, b, scans):
    T, F = 40, np.random.default_rng(0).standard_normal((40, 37))
    found, V = innovations(a, b, segments_of(scans, T, stationary=True)), covariance((a,), (b,), scans)
    D = np.linalg.inv(V)
    np.testing.assert_allclose(apply_precision(F, *found), D @ F, atol=1e-9)
    np.testing.assert_allclose(sum_of_squares(F, *found), (F * (D @ F)).sum(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.log_det, np.linalg.slogdet(V)[1], atol=1e-9)


@pytest.mark.parametrize(("a", "b"), AB)
@pytest.mark.parametrize("scans", SCANS)
def test_derivatives_are_those_of_full_matrices(a, b, scans):
    design = lag_design(design_of(5, 40), segments_of(scans, 40, stationary=True))

    def V(z):
        return covariance((np.tanh(z[0]),), (np.tanh(z[1]),), scans)

    for found, wanted in zip(arma_derivatives(design, a, b), derivatives(design.Q, np.arctanh([a, b]), V)):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


def test_every_point_of_the_grid_is_found_again():
    every = np.arange(len(ARMA_GRID))
    np.testing.assert_array_equal(arma_index(*ARMA_GRID.T), every)
    np.testing.assert_allclose(from_autocorrelations(autocorrelations(*ARMA_GRID.T)), ARMA_GRID.T, atol=1e-12)
    assert arma_index(np.array([np.nan, 2.0, 0.5]), np.array([0.0, 2.0, -0.7])).tolist() == [0, len(ARMA_GRID) - 1, 0]
    theirs = ArmaProcess.from_coeffs([0.8], [-0.5]).acf(3)[1:]
    np.testing.assert_allclose(autocorrelations(np.array(0.8), np.array(-0.5)), theirs, rtol=1e-9)


def log_prior(a, b):
    """Half the log determinant of the information of a and b, each alone 1, from the processes of their scores."""
    u, v = weights_of((a,), ()), weights_of((-b,), ())
    return 0.5 * np.log(1 - (u @ v) ** 2 / ((u @ u) * (v @ v)))


@pytest.mark.parametrize("scans", SCANS)
def test_criterion_is_the_restricted_likelihood_with_jeffreys_prior(scans):
    """At every seventh point differences of the criterion are those of the likelihood in full matrices."""
    T, X = 40, design_of(6, 40)
    y = white_and_ar1(np.random.default_rng(1), 0.8, 0.5, T, 1) + 9
    design = lag_design(X, segments_of(scans, T, stationary=True))
    grid, R = ArmaGrid(design), np.ascontiguousarray(ols_residuals(design, y).unit.T)
    ours, theirs = [], []
    for index in range(1, len(ARMA_GRID), 7):
        rss = solve_arma(grid, R, np.array([index]))[1][0]
        ours.append(-design.dof / 2 * np.log(rss * grid.at(index)[0].weight))
        a, b = ARMA_GRID[index]
        theirs.append(log_reml(X, y[:, 0], covariance((a,), (b,), scans)) + log_prior(a, b))
    np.testing.assert_allclose(np.diff(ours), np.diff(theirs), atol=1e-7)
    assert grid.at(0)[0].weight == np.inf  # white noise, where a and b cannot be told apart


@pytest.mark.parametrize(("scans", "longest"), [(np.arange(60), 60), (np.append(np.arange(30), np.arange(40, 70)), 70)])
def test_noise_is_remembered_for_a_fifth_of_the_run(scans, longest):
    """Random walks, whatever is left out; those of another run do not count."""
    rng, ones = np.random.default_rng(6), np.ones((60, 1))
    Y = rng.standard_normal((60, 300)).cumsum(axis=0)
    slowest = np.exp(-5 / longest)
    fitted = np.unique(fit_arma11(ones, Y, scans=scans).noise[0])
    assert fitted.max() == ARMA_GRID[ARMA_GRID[:, 0] <= slowest, 0].max()
    apart = fit_arma11(ones, Y, scans=scans + 5000 * (np.arange(60) >= 30)).noise[0]
    assert apart.max() == ARMA_GRID[ARMA_GRID[:, 0] <= np.exp(-5 / 30), 0].max()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_search_finds_nearly_the_best_of_all_points(share):
    Y = white_and_ar1(np.random.default_rng(2), 0.8, share, 120, 200)
    design = lag_design(design_of(20, 120), segments_of(None, 120, stationary=True))
    grid, R = ArmaGrid(design), np.ascontiguousarray(ols_residuals(design, Y).unit.T)

    def loss(index):
        weight = np.array([grid.at(int(i))[0].weight for i in index])
        return design.dof / 2 * np.log(weight * solve_arma(grid, R, index)[1])

    slowest = np.exp(-5 / 120)
    every = np.array([loss(np.full(200, index)) for index in np.flatnonzero(ARMA_GRID[:, 0] <= slowest)])
    lost = loss(arma_reml(grid, R)) - every.min(axis=0)
    assert lost.min() > -1e-9
    assert np.mean(lost < 0.01) > 0.8
    assert np.quantile(lost, 0.98) < 0.6


@pytest.mark.parametrize("gaps", [[], [3, 20, 21, 50, 55, 56, 57]])
def test_fit_is_statsmodels_gls_at_its_point(gaps):
    scans = np.delete(np.arange(80), gaps)
    X, Y = design_of(8, 80)[scans], (white_and_ar1(np.random.default_rng(3), 0.8, 0.6, 80, 9) + 100)[scans]
    fit = fit_arma11(X, Y, scans=scans)
    for v in range(9):
        theirs = sm.GLS(Y[:, v], X, sigma=covariance(fit.noise[:1, v], fit.noise[1:, v], scans)).fit()
        np.testing.assert_allclose(fit.beta[:, v], theirs.params, rtol=1e-6)
        np.testing.assert_allclose(fit.sigma2[v], theirs.scale, rtol=1e-8)


def test_a_scan_left_out_is_a_scan_with_a_regressor_of_its_own():
    scans = np.delete(np.arange(80), [3, 20, 21, 50, 55, 56, 57])
    X, Y = design_of(8, 80), white_and_ar1(np.random.default_rng(3), 0.8, 0.6, 80, 9) + 100
    spiked = np.column_stack([X, np.eye(80)[:, np.setdiff1d(np.arange(80), scans)]])
    ours, theirs = fit_arma11(X[scans], Y[scans], scans=scans), fit_arma11(spiked, Y)
    np.testing.assert_array_equal(ours.noise, theirs.noise)
    np.testing.assert_allclose(ours.beta, theirs.beta[:8], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.sigma2, theirs.sigma2, rtol=1e-9)
    cases = np.unique(arma_index(*ours.noise))
    tables = arma_table(X[scans], np.eye(8)[:2], scans, cases), arma_table(spiked, np.eye(15)[:2], None, cases)
    for a, b in zip(*tables):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_given_parameters_are_used_at_the_nearest_point():
    X, Y = design_of(6, 60), np.random.default_rng(4).standard_normal((60, 3))
    fit = fit_arma11(X, Y, noise=np.array([[0.5, 0.0, np.nan], [-0.3, 0.0, 0.0]]))
    np.testing.assert_allclose(fit.noise[:, 0], np.tanh([0.5, -0.3]))
    np.testing.assert_allclose(fit.beta[:, 1], np.linalg.lstsq(X, Y[:, 1])[0], rtol=1e-7)
    assert np.isnan(fit.sigma2[2])


def false_positives(a, share, n_voxels, p):
    X, C = confounded_design(), np.eye(33)[:1]
    fit = fit_arma11(X, white_and_ar1(np.random.default_rng(5), a, share, 150, n_voxels))
    case = arma_index(*fit.noise)
    table = arma_table(X, C, None, np.unique(case))
    found = t_statistics((C @ fit.beta)[0], fit.sigma2, case, table)
    return np.mean((found.p_value < p / 2) | (found.p_value > 1 - p / 2)) / p


def test_false_positives_with_white_noise_on_top_are_near_nominal():
    """5,000 voxels at p < .05, standard error 0.06; AR(1) alone has 1.5 here."""
    assert 0.7 < false_positives(0.9, 0.6, 5000, 0.05) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize(("a", "share"), [(0.4, 1.0), (0.8, 0.5), (0.9, 0.3)])
def test_false_positives_are_at_most_nominal_at_one_in_a_thousand(a, share):
    """60,000 voxels: standard error 0.13."""
    assert false_positives(a, share, 60_000, 0.001) < 1.5


def test_too_few_degrees_of_freedom_for_the_parameters():
    X = np.random.default_rng(0).standard_normal((20, 18))
    with pytest.raises(DesignError, match="arma11 has 2 parameters, but the design leaves 2 degrees of freedom"):
        require_estimable("arma11", X)
    require_estimable("ar1", X)
