"""Lag sums against T x T matrices."""

from __future__ import annotations

import numpy as np
import pytest
from ar1_oracle import covariance, whitening_from_zero

from voxloom.errors import DesignError
from voxloom.kernels.lag_sums import block_size, lag_sums
from voxloom.kernels.lags import lag_design, neighbours, segments_of

T = 40
STARTS = [(0,), (0, 13), (0, 1, 20, 39)]  # the last with segments of one row at both ends


def dense(segments):
    """N and E as matrices."""
    return neighbours(np.eye(T), segments), np.diag(np.bincount(segments.ends, segments.weights, T))


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.4, 0.99])
def test_stationary_precision_is_the_inverse_covariance(starts, rho):
    N, E = dense(segments_of(starts, T, stationary=True))
    D = (1 + rho**2) * np.eye(T) - rho * N - rho**2 * E
    np.testing.assert_allclose(D @ covariance(rho, T, starts), np.eye(T), atol=1e-9)
    np.testing.assert_allclose(np.linalg.slogdet(D)[1], len(starts) * np.log1p(-(rho**2)), atol=1e-9)


@pytest.mark.parametrize("starts", STARTS)
def test_precision_from_zero_is_that_of_nilearns_whitening(starts):
    N, E = dense(segments_of(starts, T, stationary=False))
    W = whitening_from_zero(0.4, T, starts)
    np.testing.assert_allclose((1 + 0.4**2) * np.eye(T) - 0.4 * N - 0.4**2 * E, W.T @ W, atol=1e-14)


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("constant", [True, False])
def test_sums_are_those_of_the_residuals(starts, constant):
    rng = np.random.default_rng(5)
    X = np.column_stack([rng.standard_normal((T, 4)), np.ones(T) if constant else np.arange(T)])
    Y = rng.standard_normal((T, 7)) + 300
    segments = segments_of(starts, T, stationary=True)
    design = lag_design(X, segments)
    sums = lag_sums(design, Y)
    N, E = dense(segments)
    R = Y - X @ np.linalg.lstsq(X, Y)[0]
    np.testing.assert_allclose(design.Q @ sums.gamma.T, Y - R, rtol=1e-11)
    close = {"rtol": 0, "atol": 1e-9}
    lag, e = sums.cross[:, :5], sums.cross[:, 5:]
    np.testing.assert_allclose(lag.T, design.Q.T @ N @ R, **close)
    np.testing.assert_allclose(design.ends.T @ e.T, design.Q.T @ E @ R, **close)
    np.testing.assert_allclose(design.ends.T @ design.ends, design.Q.T @ E @ design.Q, atol=1e-14)
    squares = [np.sum(R * (M @ R), axis=0) for M in (np.eye(T), N, E)]
    squares[2] -= (e**2).sum(axis=1)
    np.testing.assert_allclose(sums.ss.T, squares, rtol=1e-11, atol=1e-9)


def test_percent_fits_the_percent_signal():
    rng = np.random.default_rng(6)
    X, Y = rng.standard_normal((T, 3)), np.array([5, 50, 0.4, -3, 900]) + rng.standard_normal((T, 5))
    Y[:, 2] = np.abs(Y[:, 2])
    design = lag_design(X, segments_of((0,), T, stationary=True))
    ours, theirs = lag_sums(design, Y, percent=True), lag_sums(design, 100 * (Y / Y.mean(axis=0) - 1))
    positive = [0, 1, 2, 4]
    for a, b in zip(ours[:-1], theirs[:-1]):
        np.testing.assert_allclose(a[positive], b[positive], rtol=1e-9, atol=1e-9)
        assert np.isnan(a[3]).all()


def test_rows_of_the_design_must_be_those_of_the_data():
    with pytest.raises(DesignError, match="39 rows, but the data 40"):
        lag_design(np.ones((39, 1)), segments_of((0,), T, stationary=True))


@pytest.mark.parametrize("starts", [(), (1,), (0, 0), (0, 40), (0, 5, 3)])
def test_segments_must_increase_from_zero(starts):
    with pytest.raises(DesignError, match="segments"):
        segments_of(starts, T, stationary=True)


@pytest.mark.parametrize(("n_rows", "gaps"), [(3, 0), (200, 0), (1000, 0), (7000, 0), (400, 60), (10**5, 0)])
def test_block_size_divides_4096_and_bounds_the_copy(n_rows, gaps):
    X = np.random.default_rng(0).standard_normal((n_rows, min(n_rows - 1, 60)))
    design = lag_design(X, segments_of(range(0, 3 * gaps + 1, 3), n_rows, stationary=True))
    size = block_size(design)
    assert 4096 % size == 0
    assert size == 16 or size * max(n_rows, 32 * len(design.ends)) * 8 <= 8 * 2**20
