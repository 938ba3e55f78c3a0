"""BOLD time series: task signal, autocorrelated and white noise, scanner drift, motion."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import gaussian_filter

from voxloom.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Cosines of the drift: half a period, one, and one and a half per run.
DRIFT_TERMS = 3
_FWHM_PER_SIGMA = np.sqrt(8 * np.log(2))


def simulate_bold(
    X: ArrayLike,
    beta: ArrayLike,
    *,
    mean: ArrayLike = 10_000.0,
    tsnr: ArrayLike = 60.0,
    rho: ArrayLike = 0.35,
    white: float = 0.4,
    drift: float = 0.0,
    motion: tuple[ArrayLike, ArrayLike] | None = None,
    mask: NDArray[np.bool_] | None = None,
    fwhm: float = 0.0,
    seed: int | np.random.Generator = 0,
) -> FloatArray:
    """Simulate one run: ``mean * (1 + X beta / 100) + noise + drift + motion``.

    Parameters
    ----------
    X : (T, K) array
        Task regressors.
    beta : (K, V) array
        Effects in percent of `mean` per unit of a regressor.
    mean, tsnr, rho : float or (V,) array
        Signal at rest; its ratio to the standard deviation of the noise; AR(1) coefficient, within (-1, 1).
    white : float
        Share of the noise variance that is white; the rest is AR(1), stationary from the first scan.
    drift : float
        Standard deviation over time of the slow drift in percent of `mean`, 0 for none.
    motion : tuple of (T, m) array and (m, V) array, optional
        Time courses and what one unit of each adds to the signal.
    mask : (I, J, K) bool array, optional
        Where the V voxels lie (C order); wanted when `fwhm` is set.
    fwhm : float
        Spatial smoothness of noise and drift in voxels.
    seed : int or Generator
        The same seed gives the same bytes.

    Returns
    -------
    (T, V) float64 array

    Raises
    ------
    InputError
        For shapes that do not fit each other, or parameters outside their range.
    """
    X, beta = np.asarray(X, dtype=float), np.asarray(beta, dtype=float)
    rng = np.random.default_rng(seed)
    if X.ndim != 2 or beta.ndim != 2 or X.shape[1] != len(beta):
        raise InputError(
            "simulate_bold",
            f"X is {X.shape} and beta is {beta.shape}.",
            "X (T, K) and beta (K, V) are wanted.",
        )
    mean, tsnr, rho = (np.broadcast_to(np.asarray(a, dtype=float), beta.shape[1:]) for a in (mean, tsnr, rho))
    if np.abs(rho).max(initial=0.0) >= 1 or not 0 <= white <= 1:
        raise InputError("simulate_bold", "rho must lie within (-1, 1) and white within [0, 1].")
    T, V = len(X), beta.shape[1]
    noise = np.sqrt(1 - white) * _ar1(_normal(T, V, mask, fwhm, rng), rho)
    noise += np.sqrt(white) * _normal(T, V, mask, fwhm, rng)
    Y = mean * (1 + X @ beta / 100) + mean / tsnr * noise
    if drift:
        Y += drift / 100 * mean * _drift(T, _normal(DRIFT_TERMS, V, mask, 4 * fwhm, rng))
    if motion is not None:
        Y += np.asarray(motion[0], dtype=float) @ np.asarray(motion[1], dtype=float)
    return np.asarray(Y)


def smooth_normal(n: int, mask: NDArray[np.bool_], fwhm: float, rng: np.random.Generator) -> FloatArray:
    """Draw `n` Gaussian fields of unit variance and this smoothness.

    Parameters
    ----------
    n : int
    mask : (I, J, K) bool array
    fwhm : float
        Full width at half maximum of the smoothing kernel in voxels; 0 for independent voxels.
    rng : Generator

    Returns
    -------
    (n, V) array
        Values in the mask, C order. The volume wraps around, so the variance is the same everywhere.
    """
    sigma = fwhm / _FWHM_PER_SIGMA
    fields = rng.standard_normal((n, *mask.shape))
    if sigma:
        fields = gaussian_filter(fields, (0, sigma, sigma, sigma), mode="wrap")
        # the variance left by the filter is the sum of its squared weights, an impulse's energy
        impulse = np.zeros(mask.shape)
        impulse[0, 0, 0] = 1
        fields /= np.sqrt((gaussian_filter(impulse, sigma, mode="wrap") ** 2).sum())
    return np.asarray(fields[:, mask])


def _normal(n: int, V: int, mask: NDArray[np.bool_] | None, fwhm: float, rng: np.random.Generator) -> FloatArray:
    if not fwhm:
        return rng.standard_normal((n, V))
    if mask is None or np.count_nonzero(mask) != V:
        raise InputError("simulate_bold", f"fwhm is set, so a mask of {V} voxels is wanted.")
    return smooth_normal(n, mask, fwhm, rng)


def _ar1(innovations: FloatArray, rho: FloatArray) -> FloatArray:
    """Unit-variance AR(1) over rows; the first row is drawn from the stationary law."""
    series = innovations
    series[1:] *= np.sqrt(1 - rho**2)
    for t in range(1, len(series)):
        series[t] += rho * series[t - 1]
    return series


def _drift(T: int, weights: FloatArray) -> FloatArray:
    """Sum of the slowest cosines, of unit expected variance over time."""
    phase = np.pi * (np.arange(T) + 0.5) / T
    terms = np.sqrt(2) * np.cos(np.multiply.outer(phase, 1.0 + np.arange(DRIFT_TERMS)))
    return np.asarray(terms @ weights / np.sqrt(DRIFT_TERMS))
