"""Degrees of freedom and covariance against full T x T matrices, and the false positives they lead to."""

from __future__ import annotations

import numpy as np
import pytest
from ar1_oracle import confounded_design, covariance, noise, scans_of
from scipy import stats

from voxloom.kernels.contrast import f_statistics, t_statistics
from voxloom.kernels.first_level import contrast_tables
from voxloom.kernels.first_level.contrast_tables import ar1_table, yule_walker_table
from voxloom.kernels.first_level.dof import _match_moments, ar1_derivatives, kenward_roger, small_sample
from voxloom.kernels.first_level.glm import fit_ar1, fit_ar1_yule_walker
from voxloom.kernels.noise.lags import lag_design
from voxloom.kernels.noise.rho_grid import RHO_GRID, grid_index
from voxloom.kernels.noise.segments import segments_of

T, K = 45, 6
SINGLE = np.arange(T) + np.arange(T) // 9
BURSTS = np.delete(np.arange(56), [1, 2, 10, 14, 15, 16, 30, 31, 40, 44, 50])


def dense(X, rho, scans):
    """Phi, adjusted covariance and Cov(theta) from their definitions, dV/drho by central differences."""

    def V(theta):
        return theta[0] * covariance(theta[1], scans)

    h, theta = 1e-5, np.array([1.0, rho])
    slopes = [(V(theta + h * e) - V(theta - h * e)) / (2 * h) for e in np.eye(2)]
    D = np.linalg.inv(V(theta))
    phi = np.linalg.inv(X.T @ D @ X)
    R = D - D @ X @ phi @ X.T @ D
    information = np.array([[np.trace(R @ a @ R @ b) / 2 for b in slopes] for a in slopes])
    cov_theta = np.linalg.inv(information)
    P = [-X.T @ D @ a @ D @ X for a in slopes]
    lost = sum(
        cov_theta[i, j] * (X.T @ D @ slopes[i] @ D @ slopes[j] @ D @ X - P[i] @ phi @ P[j])
        for i in range(2)
        for j in range(2)
    )
    return phi, phi + 2 * phi @ lost @ phi, cov_theta, P


@pytest.mark.parametrize("scans", [np.arange(T), scans_of((0, 15, 16, 30), T), SINGLE, BURSTS])
@pytest.mark.parametrize("rho", [-0.6, 0.0, 0.5, 0.9])
def test_small_sample_is_its_definition(scans, rho):
    X = np.random.default_rng(0).standard_normal((T, K)).cumsum(axis=0)
    design = lag_design(X, segments_of(scans, T, stationary=True))
    pieces = small_sample(ar1_derivatives(design, rho), design.dof)
    phi, adjusted, cov_theta, P = dense(X, rho, scans)
    np.testing.assert_allclose(design.back @ pieces.phi @ design.back.T, phi, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(pieces.theta, cov_theta, rtol=1e-5)
    np.testing.assert_allclose(design.back @ pieces.adjusted @ design.back.T, adjusted, rtol=1e-5, atol=1e-9)
    # Kenward and Roger's A1 and A2 from their definition, and through them degrees of freedom and scale
    for C in (np.eye(K)[:1], np.eye(K)[[0, 2, 5]]):
        M = C.T @ np.linalg.solve(C @ phi @ C.T, C)
        traces = [np.trace(M @ phi @ p @ phi) for p in P]
        A1 = traces @ cov_theta @ traces
        A2 = sum(
            cov_theta[i, j] * np.trace(M @ phi @ P[i] @ phi @ M @ phi @ P[j] @ phi) for i in range(2) for j in range(2)
        )
        _, dof, scale = kenward_roger(pieces, C @ design.back)
        np.testing.assert_allclose((dof, scale), _match_moments(len(C), A1, A2), rtol=1e-5)


@pytest.mark.parametrize("q", [1, 2, 7])
@pytest.mark.parametrize("dof", [5.0, 30.0])
def test_moments_give_back_the_exact_f(q, dof):
    """Only sigma2 unknown: F(q, dof) is exact, which Kenward and Roger built their approximation to return."""
    m, scale = _match_moments(q, q**2 * 2 / dof, q * 2 / dof)
    np.testing.assert_allclose((m, scale), (dof, 1), rtol=1e-10)


def test_few_degrees_of_freedom_still_give_a_number():
    for A in (0.5, 1.0, 3.0):
        m, scale = _match_moments(3, 9 * A, 3 * A)
        assert m > 0
        assert scale > 0


def test_dof_is_near_rows_minus_rank_without_confounding():
    """A fast regressor loses little to rho; a slow one in red noise loses much."""
    t = np.arange(200)
    X = np.column_stack([np.where(t % 2, 1.0, -1.0), np.cos(np.pi * t / 200), np.ones(200)])
    table = [ar1_table(X, C) for C in (np.eye(3)[:1], np.eye(3)[1:2])]
    white, red = grid_index(np.array([0.0, 0.8]))
    assert table[0].dof[red] > 100
    assert table[1].dof[red] < 40
    assert (table[0].dof[white], table[1].dof[white]) < (197, 197)


def false_positives(rho, n_voxels, seed, p):
    """Share of null voxels below p, both tails of t for each condition and their difference, over p."""
    X, rng = confounded_design(seed), np.random.default_rng(100 + seed)
    weights = np.zeros((3, 1, X.shape[1]))
    weights[[0, 1, 2, 2], 0, [0, 1, 0, 1]] = [1, 1, 1, -1]
    tables, passed = [ar1_table(X, C) for C in weights], 0.0
    for _ in range(n_voxels // 10_000):
        fit = fit_ar1(X, noise(rng, rho, 150, 10_000))
        for C, table in zip(weights, tables):
            found = t_statistics((C @ fit.beta)[0], fit.sigma2, grid_index(fit.noise[0]), table)
            passed += np.sum((found.p_value < p) | (found.p_value > 1 - p)) / (2 * p)
    return passed / (3 * n_voxels)


@pytest.mark.parametrize("rho", [0.2, 0.4, 0.6])
def test_false_positives_are_nominal_at_one_in_a_thousand(rho):
    """100,000 voxels at p < .001; measured 1.00, 1.01 and 0.99 times nominal, standard error 0.05."""
    assert 0.8 < false_positives(rho, 100_000, 0, 0.001) < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(("rho", "most"), [(0.0, 1.15), (0.2, 1.15), (0.4, 1.15), (0.6, 1.2), (0.8, 1.5)])
def test_false_positives_are_nominal_for_other_designs(rho, most, seed):
    """500,000 voxels, other confounds: standard error 0.025."""
    assert 0.85 < false_positives(rho, 500_000, seed, 0.001) < most


def test_nilearns_rule_has_ten_times_as_many():
    X = confounded_design()
    C = np.eye(33)[:1]
    fit = fit_ar1_yule_walker(X, noise(np.random.default_rng(0), 0.6, 150, 20_000))
    p = t_statistics((C @ fit.beta)[0], fit.sigma2, grid_index(fit.noise[0]), yule_walker_table(X, C)).p_value
    assert np.mean((p < 0.001) | (p > 0.999)) / 0.002 > 10


def test_f_of_several_rows_has_nominal_false_positives():
    X = confounded_design()
    C = np.eye(33)[:2]
    fit = fit_ar1(X, noise(np.random.default_rng(1), 0.5, 150, 10_000))
    index = grid_index(fit.noise[0])
    found = f_statistics(C @ fit.beta, fit.sigma2, index, ar1_table(X, C, None, np.unique(index)))
    assert 0.85 < np.mean(found.p_value < 0.05) / 0.05 < 1.15
    assert 0.7 < np.mean(found.p_value < 0.01) / 0.01 < 1.3
    np.testing.assert_allclose(found.p_value, stats.f.sf(found.stat, 2, found.dof), rtol=1e-9)


def test_a_table_is_the_same_when_no_pieces_are_kept(monkeypatch):
    X, C = confounded_design(3), np.eye(33)[:1]
    expected = ar1_table(X, C)
    contrast_tables._ar1_pieces.cache_clear()
    monkeypatch.setattr("voxloom.kernels.first_level.pieces.PIECES_BYTES", 10 * 3 * 8 * 33**2)
    for found, wanted in zip(ar1_table(X, C), expected):
        np.testing.assert_array_equal(found, wanted)
    _, pieces = contrast_tables._ar1_pieces(X.tobytes(), X.shape, np.arange(150).tobytes())
    assert 8 <= len(pieces._at) <= 10
    contrast_tables._ar1_pieces.cache_clear()


def test_cases_not_asked_for_are_nan():
    X = confounded_design()
    some, every = ar1_table(X, np.eye(33)[:1], None, [99, 120]), ar1_table(X, np.eye(33)[:1])
    assert np.flatnonzero(np.isfinite(some.dof)).tolist() == [99, 120]
    np.testing.assert_array_equal(some.cov[[99, 120]], every.cov[[99, 120]])
    assert len(every.dof) == RHO_GRID.size
    assert np.isfinite(every.cov).all()
