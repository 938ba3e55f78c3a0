"""Residuals as independent innovations, for every noise model: white where the model is right.

For each model the sum of squares of the result is ``r'V^-1 r``, the whitened sum of squares of its fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.noise.ar import autocorrelations, partial_autocorrelations
from voxloom.kernels.noise.segments import segments_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def whiten_ar1(R: FloatArray, parameters: FloatArray, scans: ArrayLike, *, stationary: bool = True) -> FloatArray:
    """Innovations of AR(1), across gaps too.

    Parameters
    ----------
    R : (T, V) array
    parameters : (1, V) array
        rho.
    scans : (T,) array_like of int
        Number of each row's scan (`kernels.noise.segments`).
    stationary : bool
        False leaves first rows as they are (nilearn's whitening).

    Returns
    -------
    (T, V) array
        The variance of each row is that of the innovations.
    """
    rho, out = parameters[0], R.copy()
    steps = segments_of(scans, len(R), stationary=stationary).steps
    if stationary:
        out[steps == 0] *= np.sqrt(1 - rho**2)
    for d in np.unique(steps[steps > 0]):
        rows = np.flatnonzero(steps == d)
        out[rows] = (R[rows] - rho**d * R[rows - 1]) * np.sqrt((1 - rho**2) / (1 - rho ** (2 * d)))
    return out


def whiten_ar(R: FloatArray, phi: FloatArray, scans: ArrayLike) -> FloatArray:
    """Innovations (T, V) of AR(p) with phi (p, V), across gaps too: a Kalman filter of the last p scans."""
    rho = autocorrelations(phi.T)
    variance = 1.0 / np.prod(1.0 - partial_autocorrelations(phi.T) ** 2, axis=1)
    lags = np.concatenate([np.ones((len(rho), 1)), rho[:, :-1]], axis=1) * variance[:, None]
    steps = segments_of(scans, len(R), stationary=True).steps
    return np.asarray(_filter(np.ascontiguousarray(R), np.ascontiguousarray(phi.T), lags, steps))


@nb.njit(nogil=True, cache=True)
def _filter(R: FloatArray, phi: FloatArray, lags: FloatArray, steps: NDArray[np.int64]) -> FloatArray:
    """Innovations of R (T, V) from phi and autocovariances at lags 0 to p - 1, (V, p) each."""
    T, V = R.shape
    p = phi.shape[1]
    out, state, spread = np.empty((T, V)), np.zeros(p), np.zeros((p, p))
    for v in range(V):
        for t in range(T):
            if steps[t] == 0:
                state[:] = 0.0
                for i in range(p):
                    for j in range(p):
                        spread[i, j] = lags[v, abs(i - j)]
            for _ in range(steps[t]):
                _predict(state, spread, phi[v])
            left, variance = R[t, v] - state[0], spread[0, 0]
            out[t, v] = left / np.sqrt(variance)
            gain = spread[:, 0] / variance
            state += gain * left
            for i in range(p):
                for j in range(p):
                    spread[i, j] -= gain[i] * gain[j] * variance
    return out


@nb.njit(nogil=True, cache=True)
def _predict(state: FloatArray, spread: FloatArray, phi: FloatArray) -> None:
    """Move the mean (p,) and the covariance (p, p) of the last p scans on by one scan, in place."""
    p = len(phi)
    ahead = spread @ phi
    mean, variance = phi @ state, 1.0 + phi @ ahead
    for i in range(p - 1, 0, -1):
        state[i] = state[i - 1]
        for j in range(p - 1, 0, -1):
            spread[i, j] = spread[i - 1, j - 1]
    state[0], spread[0, 0] = mean, variance
    for i in range(1, p):
        spread[0, i] = spread[i, 0] = ahead[i - 1]


def whiten_arma11(R: FloatArray, parameters: FloatArray, scans: ArrayLike) -> FloatArray:
    """Innovations (T, V) of ARMA(1, 1), a and b (2, V): the recursion of `kernels.noise.arma`, voxels side by side."""
    (a, b), out = parameters, np.empty_like(R)
    rest = 1 - a**2
    x = variance = np.ones_like(a)
    for t, step in enumerate(segments_of(scans, len(R), stationary=True).steps):
        if step == 0:
            x, variance = R[t], (1 + 2 * a * b + b**2) / rest
        else:
            c = a ** (step - 1.0)
            weight = c * b / variance
            x = R[t] - c * a * R[t - 1] - weight * x
            variance = 1 + (a + b) ** 2 * (1 - c**2) / rest + c**2 * b**2 - c * b * weight
        out[t] = x / np.sqrt(variance)
    return out
