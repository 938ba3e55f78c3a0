"""How well a design can tell its regressors apart: variance inflation, correlation, efficiency."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.kernels.linalg import RANK_RTOL, Basis, is_estimable, reduce_design
from voxloom.kernels.noise.segments import numbered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: A column whose standard deviation is below this share of its size is a constant.
CONSTANT = 1e-12


def centred(X: FloatArray) -> FloatArray:
    """Columns of X (T, K) less their means; constant ones are exactly 0."""
    C = X - X.mean(axis=0)
    C[:, np.linalg.norm(C, axis=0) <= CONSTANT * np.linalg.norm(X, axis=0)] = 0.0
    return np.asarray(C)


def correlation(X: FloatArray) -> FloatArray:
    """Correlations (K, K) of the columns of X (T, K); NaN for constant ones."""
    C = centred(X)
    norm = np.linalg.norm(C, axis=0)
    unit = C / np.where(norm > 0, norm, np.nan)
    return np.asarray(np.clip(unit.T @ unit, -1.0, 1.0))


def variance_inflation(X: FloatArray, contrasts: Sequence[FloatArray]) -> list[float]:
    """Variance of each contrast over what it would be if no regressor were correlated with another.

    For one column that is the usual 1 / (1 - R^2), R^2 of the column on all others and a constant. For several rows
    the ratio of the summed variances.

    Parameters
    ----------
    X : (T, K) array
    contrasts : sequence of (q, K) array
        Weights.

    Returns
    -------
    list of float
        inf where the design cannot estimate the contrast; NaN where it weighs a constant column.
    """
    C = centred(X)
    power = np.einsum("tk,tk->k", C, C)
    flat = (power == 0) & X.any(axis=0)
    basis = reduce_design(C)

    def inflation(rows: FloatArray) -> float:
        if rows[:, flat].any():
            return np.nan
        variance = _summed_variance(rows, basis)
        return variance if np.isinf(variance) else variance / float(np.sum(rows[:, power > 0] ** 2 / power[power > 0]))

    return [inflation(rows) for rows in contrasts]


def efficiency(X: FloatArray, contrasts: Sequence[FloatArray]) -> list[float]:
    """1 / trace(C (X'X)^-1 C') of each contrast C (q, K), 0 where the design X (T, K) cannot estimate it."""
    basis = reduce_design(X)
    return [1.0 / _summed_variance(rows, basis) for rows in contrasts]


def _summed_variance(rows: FloatArray, basis: Basis) -> float:
    if not is_estimable(rows, basis).all():
        return np.inf
    return float(np.sum((rows @ basis.back) ** 2))


def condition_number(X: FloatArray) -> float:
    """Largest over smallest singular value of the columns at unit norm (Belsley's scaled condition index).

    inf for a singular design, by the rank rule of `reduce_design`.
    """
    norm = np.linalg.norm(X, axis=0)
    s = np.linalg.svd(X / np.where(norm > 0, norm, 1.0), compute_uv=False)
    singular = X.shape[0] < X.shape[1] or not s[-1] > RANK_RTOL * s[0]
    return np.inf if singular else float(s[0] / s[-1])


def whiten_ar1(X: FloatArray, rho: float, scans: ArrayLike | None = None) -> FloatArray:
    """Rows of X (T, K) as AR(1) noise of this coefficient and innovations of variance 1 leaves them.

    Parameters
    ----------
    rho : float
        Between -1 and 1.
    scans : (T,) array_like of int, optional
        Number of each row's scan (`kernels.noise.segments`); by default none is left out.
    """
    decay = rho ** np.diff(numbered(scans, len(X)))[:, None]
    W, rest = X.copy(), 1 - rho**2
    W[0] *= np.sqrt(rest)
    W[1:] -= decay * X[:-1]
    W[1:] *= np.sqrt(rest / (1 - decay**2))
    return W
