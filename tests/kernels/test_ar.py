"""AR(p) against full T x T matrices, statsmodels, and brute-force REML."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from ar1_oracle import confounded_design, scans_of
from noise_oracle import covariance, derivatives, log_reml, noise
from scipy.optimize import minimize
from statsmodels.tsa.arima_process import ArmaProcess

from voxloom.errors import DesignError
from voxloom.kernels.contrast import f_statistics, t_statistics
from voxloom.kernels.first_level.contrast_tables import ar1_table
from voxloom.kernels.first_level.dof import Derivatives, kenward_roger, small_sample
from voxloom.kernels.first_level.glm import fit_ar, fit_ar1
from voxloom.kernels.linalg import reduce_design
from voxloom.kernels.noise.ar import (
    ar_design,
    autocorrelations,
    coefficients,
    couple,
    from_autocorrelations,
    from_partial,
    is_stationary,
    pair_weights,
    pairs,
    partial_autocorrelations,
    series_of,
)
from voxloom.kernels.noise.ar_table import WIDTHS, _ar_pieces, _cells, ar_contrasts, ar_derivatives
from voxloom.kernels.noise.rho_grid import grid_index
from voxloom.kernels.noise.segments import segments_of

#: Scans of 70: all; three runs; single ones and bursts left out; two runs with gaps that begin and end near their ends.
SERIES = {
    "whole": np.arange(70),
    "runs": scans_of((0, 20, 45), 70),
    "gaps": np.setdiff1d(np.arange(92), [1, 3, 4, 9, 20, 22, 24, *range(30, 41), 60, 88, 90, 50]),
    "runs with gaps": np.setdiff1d(scans_of((0, 40), 80), [1, 5, 38, 4136, 4138, 4139, 4160, 4161, 4162, 4174]),
}
EACH_SERIES = pytest.mark.parametrize("scans", SERIES.values(), ids=SERIES)
PHI = [(0.6,), (0.5, 0.2), (0.8, -0.4), (0.4, -0.3, 0.2), (0.3, 0.1, 0.0, 0.1, -0.2)]


def design_of(K, T, seed=0):
    rng = np.random.default_rng(seed)
    return np.column_stack([rng.standard_normal((T, K - 1)).cumsum(axis=0), np.ones(T)])


@pytest.mark.parametrize("phi", PHI)
@pytest.mark.parametrize("starts", [(0,), (0, 7, 12, 30)])
def test_precision_is_the_inverse_covariance(phi, starts):
    """Also in series of p scans, the shortest allowed."""
    of, T = pairs(len(phi)), 36
    weights = pair_weights(len(phi), series_of(segments_of(scans_of(starts, T), T, stationary=True).steps))
    parts = [couple(np.eye(T), row, k) for row, k in zip(weights, of.j - of.i)]
    D = np.tensordot(coefficients(np.array([phi]))[0], parts, 1)
    np.testing.assert_allclose(D @ covariance(phi, (), scans_of(starts, T)), np.eye(T), atol=1e-9)


@pytest.mark.parametrize("phi", PHI)
def test_correlations_and_coefficients_are_two_views_of_a_process(phi):
    phi = np.array([phi])
    process = ArmaProcess.from_coeffs(phi[0], [])
    rho = autocorrelations(phi)
    np.testing.assert_allclose(rho[0], process.acf(phi.size + 1)[1:], rtol=1e-6)
    np.testing.assert_allclose(from_autocorrelations(rho), phi, atol=1e-10)
    partial = partial_autocorrelations(phi)
    np.testing.assert_allclose(partial[0], process.pacf(phi.size + 1)[1:], atol=1e-6)
    np.testing.assert_allclose(from_partial(partial), phi, atol=1e-12)


def test_stationary_is_what_has_its_roots_outside_the_unit_circle():
    phi = np.random.default_rng(0).uniform(-1.5, 1.5, (400, 3))
    largest = [np.abs(np.roots([1, *-row])).max() for row in phi]
    clear = np.abs(np.array(largest) - 1) > 0.05
    np.testing.assert_array_equal(is_stationary(phi)[clear], np.array(largest)[clear] < 1)
    assert not is_stationary(np.array([[np.nan, 0.1]]))[0]


@pytest.mark.parametrize("phi", [(0.5, 0.2), (0.4, -0.3, 0.2)])
@EACH_SERIES
def test_phi_maximises_the_restricted_likelihood(phi, scans):
    """Within 1e-4 of the best log likelihood that a search over full matrices finds from there and from zero."""
    rng = np.random.default_rng(1)
    X = design_of(8, len(scans))
    Y = noise(rng, phi, (), scans, 4) + 30
    fit = fit_ar(len(phi), X, Y, scans=scans)
    for v in range(4):

        def loss(z, y=Y[:, v]):
            return -log_reml(X, y, covariance(from_partial(np.tanh(z)[None])[0], (), scans))

        found = np.arctanh(partial_autocorrelations(fit.noise[:, [v]].T)[0])
        best = min(minimize(loss, start, method="Nelder-Mead").fun for start in (found, np.zeros(len(phi))))
        assert loss(found) - best < 1e-4


@EACH_SERIES
def test_fit_is_statsmodels_gls_at_its_phi(scans):
    X = design_of(8, len(scans))
    Y = noise(np.random.default_rng(2), (0.5, 0.2), (), scans, 9) + 100
    fit, C = fit_ar(2, X, Y, scans=scans), np.eye(8)[1:2]
    table = ar_contrasts(X, C, fit.noise, scans)
    for v in range(9):
        theirs = sm.GLS(Y[:, v], X, sigma=covariance(fit.noise[:, v], (), scans)).fit()
        np.testing.assert_allclose(fit.beta[:, v], theirs.params, rtol=1e-6)
        np.testing.assert_allclose(fit.sigma2[v], theirs.scale, rtol=1e-8)
        # phi plugged in and known costs nothing: the covariance of Kenward and Roger is above that of GLS
        assert 1 < fit.sigma2[v] * table.cov[v, 0, 0] / theirs.cov_params()[1, 1] < 1.4


@pytest.mark.parametrize("phi", PHI[1:4])
@EACH_SERIES
def test_degrees_of_freedom_are_those_of_full_matrices(phi, scans):
    """At the centre of a cell, where the lattice costs nothing."""
    X, C = design_of(5, len(scans)), np.eye(5)[:2]
    cell = _cells(np.array([phi]))[0]
    phi = from_partial(np.tanh(WIDTHS[: len(phi)] * cell[None]))[0]
    found = ar_contrasts(X, C, phi[:, None], scans)
    basis = reduce_design(X)
    pieces = small_sample(Derivatives(*derivatives(basis.Q, phi, lambda at: covariance(at, (), scans))), len(scans) - 5)
    cov, dof, scale = kenward_roger(pieces, C @ basis.back)
    np.testing.assert_allclose(found.cov[0], cov, rtol=1e-5)
    np.testing.assert_allclose((found.dof[0], found.scale[0]), (dof, scale), rtol=1e-4)


def test_scans_that_are_left_out_are_as_good_as_a_regressor_each():
    scans = SERIES["gaps"]
    full = np.arange(scans[-1] + 1)
    X = design_of(8, len(full))
    Y = noise(np.random.default_rng(7), (0.5, 0.2), (), full, 12) + 40
    outliers = np.eye(len(full))[:, np.setdiff1d(full, scans)]
    kept, flagged = fit_ar(2, X[scans], Y[scans], scans=scans), fit_ar(2, np.hstack([X, outliers]), Y)
    np.testing.assert_allclose(kept.noise, flagged.noise, atol=6e-3)  # both end near the maximum, here flat
    given = fit_ar(2, X[scans], Y[scans], scans=scans, noise=flagged.noise)
    np.testing.assert_allclose(given.beta, flagged.beta[:8], rtol=1e-7)
    np.testing.assert_allclose(given.sigma2, flagged.sigma2, rtol=1e-9)
    C = np.eye(8)[:1]
    one = ar_contrasts(X[scans], C, flagged.noise, scans)
    two = ar_contrasts(np.hstack([X, outliers]), np.pad(C, ((0, 0), (0, outliers.shape[1]))), flagged.noise)
    np.testing.assert_allclose(one.cov, two.cov, rtol=1e-8)
    np.testing.assert_allclose(one.dof, two.dof, rtol=1e-6)


def test_given_phi_are_used():
    X = design_of(6, 60)
    Y = noise(np.random.default_rng(3), (0.5,), (), np.arange(60), 4)
    phi = np.array([[0.4, 0.5, np.nan, 0.0], [0.2, -0.1, 0.1, 0.0]])
    fit = fit_ar(2, X, Y, noise=phi)
    np.testing.assert_array_equal(fit.noise[:, [0, 1, 3]], phi[:, [0, 1, 3]])
    assert np.isnan(fit.sigma2).tolist() == [False, False, True, False]
    theirs = sm.GLS(Y[:, 1], X, sigma=covariance(phi[:, 1], (), np.arange(60))).fit()
    np.testing.assert_allclose(fit.beta[:, 1], theirs.params, rtol=1e-7)
    np.testing.assert_allclose(fit.beta[:, 3], np.linalg.lstsq(X, Y[:, 3])[0], rtol=1e-7)


@pytest.mark.parametrize("phi", PHI[1:4])
@pytest.mark.parametrize("starts", [(0,), (0, 3, 20)])
def test_derivatives_are_those_of_full_matrices(phi, starts):
    design = ar_design(design_of(5, 40), len(phi), scans_of(starts, 40), 40)
    expected = derivatives(design.base.Q, phi, lambda at: covariance(at, (), scans_of(starts, 40)))
    for found, wanted in zip(ar_derivatives(design, np.array(phi)), expected):
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)


def test_order_one_is_ar1():
    """The two ways to the same model, but for steps of 0.01 and of the cells."""
    X, C = design_of(8, 120), np.eye(8)[[0, 2]]
    Y = noise(np.random.default_rng(4), (0.5,), (), np.arange(120), 40)
    one, grid = fit_ar(1, X, Y), fit_ar1(X, Y)
    assert np.abs(one.noise - grid.noise).max() < 0.006
    free = ar_contrasts(X, C, one.noise)
    table = ar1_table(X, C)
    case = grid_index(grid.noise[0])
    np.testing.assert_allclose(free.cov, table.cov[case], rtol=0.03, atol=1e-4)
    np.testing.assert_allclose(free.dof, table.dof[case], rtol=0.1)


def test_the_order_must_fit_every_run():
    X, Y = design_of(4, 30), np.random.default_rng(0).standard_normal((30, 2))
    with pytest.raises(DesignError, match=r"AR\(3\) needs series of 3 volumes, but the shortest has 2"):
        fit_ar(3, X, Y, scans=scans_of((0, 10, 12), len(Y)))
    with pytest.raises(DesignError, match="the shortest has 5"):
        fit_ar(6, design_of(2, 5), Y[:5])
    alternate = fit_ar(3, X, Y, scans=2 * np.arange(30))
    assert np.isfinite(alternate.sigma2).all()


def false_positives(phi, n_voxels, p, seed=0):
    X = confounded_design(seed)
    C = np.eye(33)[:1]
    fit = fit_ar(len(phi), X, noise(np.random.default_rng(100 + seed), phi, (), np.arange(150), n_voxels))
    found = t_statistics((C @ fit.beta)[0], fit.sigma2, np.arange(n_voxels), ar_contrasts(X, C, fit.noise))
    return np.mean((found.p_value < p / 2) | (found.p_value > 1 - p / 2)) / p


def test_false_positives_of_ar2_are_near_nominal():
    """5,000 voxels at p < .05: standard error 0.06; by the plain degrees of freedom 1.45."""
    assert 0.8 < false_positives((0.4, 0.2), 5000, 0.05) < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("phi", [(0.4, 0.2), (0.8, -0.3), (0.3, 0.1, 0.1)])
def test_false_positives_are_near_nominal_at_one_in_a_thousand(phi):
    """60,000 voxels: standard error 0.13."""
    assert 0.6 < false_positives(phi, 60_000, 0.001) < 1.6


@pytest.mark.slow
def test_false_positives_where_single_scans_are_left_out():
    """20 % of the scans, 60,000 tests; with stretches apart 5.5 and 2.04 (docs/design/012-noise-models.md)."""
    full, found = np.arange(150), []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        scans = np.delete(full, rng.choice(np.arange(1, 149), 30, replace=False))
        X = confounded_design(seed, walks=6)[scans]
        Y = noise(rng, (0.6, 0.2), (), full, 4000)[scans]
        fit = fit_ar(2, X, Y, scans=scans)
        for weights in ([1, 0], [0, 1], [1, -1]):
            C = np.pad([weights], ((0, 0), (0, X.shape[1] - 2)))
            table = ar_contrasts(X, C, fit.noise, scans)
            p = t_statistics((C @ fit.beta)[0], fit.sigma2, np.arange(4000), table).p_value
            found.append(2 * np.minimum(p, 1 - p))
    assert 0.9 < np.mean(np.array(found) < 0.05) / 0.05 < 1.2
    assert np.mean(np.array(found) < 0.001) / 0.001 < 2.2


def test_f_of_several_rows_has_nominal_false_positives():
    X, C = confounded_design(), np.eye(33)[:2]
    fit = fit_ar(2, X, noise(np.random.default_rng(5), (0.4, 0.2), (), np.arange(150), 3000))
    found = f_statistics(C @ fit.beta, fit.sigma2, np.arange(3000), ar_contrasts(X, C, fit.noise))
    assert 0.75 < np.mean(found.p_value < 0.05) / 0.05 < 1.35


@EACH_SERIES
def test_what_is_kept_of_a_cell_is_not_part_of_a_larger_array(scans):
    """A part would keep the whole, with its rows for scans that were left out, beyond what is counted."""
    X = design_of(6, len(scans))
    _, pieces = _ar_pieces(X.tobytes(), X.shape, 2, scans.astype(np.int64).tobytes())
    for piece in pieces.at((5, 1)):
        assert piece.base is None or piece.base.nbytes == piece.nbytes
