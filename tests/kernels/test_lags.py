"""Lag sums against T x T matrices."""

from __future__ import annotations

import numpy as np
import pytest
from ar1_oracle import covariance, scans_of, whitening_from_zero

from voxloom.errors import DesignError
from voxloom.kernels.noise.lag_sums import block_size, lag_sums
from voxloom.kernels.noise.lags import lag_design, neighbours
from voxloom.kernels.noise.segments import segments_of

T = 40
SCANS = {
    "no gap": np.arange(T),
    "single scans left out": np.delete(np.arange(48), [2, 9, 16, 20, 22, 33, 40, 45]),
    "single scans kept": np.array([0, 2, 5, 9, *range(20, 54), 60, 63]),
    "unrelated": scans_of((0, 1, 20, 39), T),
    "both": scans_of((0, 13), T) + 2 * (np.arange(T) > 30) + (np.arange(T) > 5),
}
EVERY = pytest.mark.parametrize("scans", SCANS.values(), ids=SCANS)


def dense(segments):
    """N and each E_g as matrices."""
    edges, eye = segments.edges, np.eye(T)
    U, kinds = edges.across(eye), range(edges.sign.size)
    return neighbours(eye, segments), np.array([U[edges.kind == g].T @ U[edges.kind == g] for g in kinds])


@EVERY
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4, 0.99])
def test_stationary_precision_is_the_inverse_covariance(scans, rho):
    segments = segments_of(scans, T, stationary=True)
    N, E = dense(segments)
    D = (1 + rho**2) * np.eye(T) - rho * N - rho**2 * np.tensordot(segments.edges.factors(np.array(rho)), E, 1)
    np.testing.assert_allclose(D @ covariance(rho, scans), np.eye(T), atol=1e-9)
    log_det = segments.starts.size * np.log1p(-(rho**2)) - np.log1p(-(rho ** (2 * segments.distances))).sum()
    np.testing.assert_allclose(np.linalg.slogdet(D)[1], log_det, atol=1e-9)


@EVERY
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4, 0.95])
def test_slopes_of_edges_are_those_of_their_factors(scans, rho):
    edges, h = segments_of(scans, T, stationary=True).edges, 1e-4
    b, db, d2b = edges.slopes(rho)
    low, here, high = (at**2 * edges.factors(np.array(at)) for at in (rho - h, rho, rho + h))
    np.testing.assert_allclose(b, here, atol=1e-14)
    np.testing.assert_allclose(db, (high - low) / (2 * h), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(d2b, (high - 2 * here + low) / h**2, rtol=1e-4, atol=1e-6)


@EVERY
def test_precision_from_zero_is_that_of_nilearns_whitening(scans):
    N, E = dense(segments_of(scans, T, stationary=False))
    W = whitening_from_zero(0.4, scans)
    np.testing.assert_allclose((1 + 0.4**2) * np.eye(T) - 0.4 * N - 0.4**2 * E.sum(axis=0), W.T @ W, atol=1e-14)


@EVERY
@pytest.mark.parametrize("constant", [True, False])
def test_sums_are_those_of_the_residuals(scans, constant):
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.standard_normal((T, 4)), np.ones(T) if constant else np.arange(T)])
    Y = rng.standard_normal((T, 7)) + 300
    segments = segments_of(scans, T, stationary=True)
    design = lag_design(X, segments)
    sums = lag_sums(design, Y)
    N, E = dense(segments)
    R = Y - X @ np.linalg.lstsq(X, Y)[0]
    np.testing.assert_allclose(design.Q @ sums.gamma.T, Y - R, rtol=1e-11)
    close = {"rtol": 0, "atol": 1e-9}
    lag, e = sums.cross[:, :5], sums.cross[:, 5:]
    np.testing.assert_allclose(lag.T, design.Q.T @ N @ R, **close)
    squares = [np.sum(R * (M @ R), axis=0) for M in (np.eye(T), N, *E)]
    for g, E_g in enumerate(E):
        Z, e_g = design.ends[design.kind == g], e[:, design.kind == g]
        np.testing.assert_allclose(Z.T @ e_g.T, design.Q.T @ E_g @ R, **close)
        np.testing.assert_allclose(Z.T @ Z, design.Q.T @ E_g @ design.Q, atol=1e-14)
        squares[2 + g] -= 0 if design.is_crowded else (e_g**2).sum(axis=1)
    np.testing.assert_allclose(sums.ss.T, squares, rtol=1e-11, atol=1e-9)


def test_percent_fits_the_percent_signal():
    rng = np.random.default_rng(6)
    X, Y = rng.standard_normal((T, 3)), np.array([5, 50, 0.4, -3, 900]) + rng.standard_normal((T, 5))
    Y[:, 2] = np.abs(Y[:, 2])
    design = lag_design(X, segments_of(None, T, stationary=True))
    ours, theirs = lag_sums(design, Y, percent=True), lag_sums(design, 100 * (Y / Y.mean(axis=0) - 1))
    positive = [0, 1, 2, 4]
    for a, b in zip(ours[:-1], theirs[:-1]):
        np.testing.assert_allclose(a[positive], b[positive], rtol=1e-9, atol=1e-9)
        assert np.isnan(a[3]).all()


def test_rows_of_the_design_must_be_those_of_the_data():
    with pytest.raises(DesignError, match="39 rows, but the data 40"):
        lag_design(np.ones((39, 1)), segments_of(None, T, stationary=True))


@pytest.mark.parametrize("scans", [[], [0, 1], np.arange(T) // 2, -np.arange(T), np.arange(T) / 2])
def test_scans_must_be_increasing_numbers_of_the_rows(scans):
    with pytest.raises(DesignError, match=r"scans: .* for 40 rows"):
        segments_of(scans, T, stationary=True)


@pytest.mark.parametrize(("n_rows", "gaps"), [(3, 0), (200, 0), (1000, 0), (7000, 0), (400, 60), (10**5, 0)])
def test_block_size_divides_4096_and_bounds_the_copy(n_rows, gaps):
    X = np.random.default_rng(0).standard_normal((n_rows, min(n_rows - 1, 60)))
    scans = np.arange(n_rows) + np.minimum(np.arange(n_rows) // 3, gaps)
    design = lag_design(X, segments_of(scans, n_rows, stationary=True))
    size = block_size(design)
    assert 4096 % size == 0
    assert size == 16 or size * max(n_rows, 32 * min(len(design.ends), design.rank)) * 8 <= 8 * 2**20
