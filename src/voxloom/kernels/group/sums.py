"""Sums of a group model that add up: X'X, X'Y, Y'Y and n of every voxel, in twice the digits of float64.

A number is a pair (high, low) whose exact sum it is, high the nearest float64. Products and sums of maps are then
good to about 1e-31 of their size (Dekker 1971; Knuth's two-sum), so that a map taken away again leaves what was there
before, to the last bit of float64, even where it was thousands of times larger than the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE, RANK_RTOL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]

_SPLIT = 134217729.0  # 2^27 + 1


class GroupSums(NamedTuple):
    """Sums over the maps that are there at each voxel; the first axis of all but n is (high, low).

    Attributes
    ----------
    xtx : (2, K, K, V) array
    xty : (2, K, V) array
    yty : (2, V) array
    n : (V,) array
        Number of maps.
    """

    xtx: FloatArray
    xty: FloatArray
    yty: FloatArray
    n: FloatArray


def sums_of(X: FloatArray, Y: NDArray[np.floating]) -> GroupSums:
    """Sum over maps Y (n, V), not finite where missing, with the design X (n, K)."""
    data = np.ascontiguousarray(np.asarray(Y, dtype=np.float64).T)
    found = _sums(np.ascontiguousarray(X, dtype=np.float64), data)
    return GroupSums(*(np.moveaxis(values, 0, -1) for values in found))


def combine(one: GroupSums, other: GroupSums, sign: float = 1.0) -> GroupSums:
    """Sums over the maps of both, or with a sign of -1 without those of the other."""
    xtx, xty, yty = (_add_pairs(a, sign * b) for a, b in zip(one[:3], other[:3]))
    return GroupSums(xtx, xty, yty, one.n + sign * other.n)


def _add_pairs(a: FloatArray, b: FloatArray) -> FloatArray:
    shape = a.shape[1:]
    one, other = (np.ascontiguousarray(x.reshape(2, -1)) for x in (a, b))
    return np.asarray(_add(one, other).reshape(2, *shape))


class SumsFit(NamedTuple):
    """Least squares from sums alone.

    Attributes
    ----------
    beta : (K, V) array
    inverse : (K, K, V) array
        Of X'X, generalised where it is singular: the covariance of beta for sigma2 = 1.
    sigma2 : (V,) array
    rank : (V,) array
    """

    beta: FloatArray
    inverse: FloatArray
    sigma2: FloatArray
    rank: FloatArray


def fit_sums(sums: GroupSums) -> SumsFit:
    """Solve the normal equations of every voxel; NaN where n <= rank or the maps are fitted without error.

    The residual sum of squares, ``y'y - 2 b'X'y + b'X'X b``, cancels; its terms are summed in twice the digits, and
    an error of b enters by its square only.
    """
    xtx = np.moveaxis(sums.xtx[0], -1, 0)
    scale = np.sqrt(np.einsum("vkk->vk", xtx))
    scale[scale == 0] = 1.0
    values, vectors = np.linalg.eigh(xtx / (scale[:, :, None] * scale[:, None, :]))
    # squares of the singular values of a design at unit norm; those that rounding makes of 0 are about 1e-16
    told = values > max(RANK_RTOL**2, 1e-14) * values[:, -1:]
    rank = told.sum(axis=1).astype(float)
    inverse = (vectors * np.where(told, 1 / np.where(told, values, 1.0), 0.0)[:, None, :]) @ vectors.swapaxes(1, 2)
    inverse /= scale[:, :, None] * scale[:, None, :]
    xty = np.moveaxis(sums.xty[0], -1, 0)
    beta = (inverse @ xty[:, :, None])[:, :, 0]
    rss = _rss(np.ascontiguousarray(beta), *(np.ascontiguousarray(np.moveaxis(x, -1, 0)) for x in sums[:3]))
    dof = sums.n - rank
    known = (dof > 0) & (rss > NO_VARIANCE**2 * sums.yty[0])
    sigma2 = np.where(known, rss / np.where(dof > 0, dof, 1.0), np.nan)
    return SumsFit(np.where(known, beta.T, np.nan), np.moveaxis(inverse, 0, -1), sigma2, rank)


@nb.njit(nogil=True, cache=True)
def _two_sum(a: float, b: float) -> tuple[float, float]:
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


@nb.njit(nogil=True, cache=True)
def _two_product(a: float, b: float) -> tuple[float, float]:
    p = a * b
    x, y = _SPLIT * a, _SPLIT * b
    a_high, b_high = x - (x - a), y - (y - b)
    a_low, b_low = a - a_high, b - b_high
    return p, ((a_high * b_high - p) + a_high * b_low + a_low * b_high) + a_low * b_low


@nb.njit(nogil=True, cache=True)
def _plus(high: float, low: float, more: float, rest: float) -> tuple[float, float]:
    """(high, low) + (more, rest), normalised."""
    s, e = _two_sum(high, more)
    t, f = _two_sum(low, rest)
    s, e = _two_sum(s, e + t)
    return _two_sum(s, e + f)


@nb.njit(nogil=True, cache=True)
def _sums(X: FloatArray, Y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Voxels first: X'X (V, 2, K, K), X'y (V, 2, K), y'y (V, 2) and n (V,) of Y (V, n)."""
    V, K = len(Y), X.shape[1]
    xtx, xty, yty, count = np.zeros((V, 2, K, K)), np.zeros((V, 2, K)), np.zeros((V, 2)), np.zeros(V)
    for v in range(V):
        for i in range(len(X)):
            y = Y[v, i]
            if not np.isfinite(y):
                continue
            count[v] += 1
            p, e = _two_product(y, y)
            yty[v, 0], yty[v, 1] = _plus(yty[v, 0], yty[v, 1], p, e)
            for k in range(K):
                p, e = _two_product(X[i, k], y)
                xty[v, 0, k], xty[v, 1, k] = _plus(xty[v, 0, k], xty[v, 1, k], p, e)
                for j in range(k + 1):
                    p, e = _two_product(X[i, k], X[i, j])
                    xtx[v, 0, k, j], xtx[v, 1, k, j] = _plus(xtx[v, 0, k, j], xtx[v, 1, k, j], p, e)
        for k in range(K):
            for j in range(k):
                xtx[v, :, j, k] = xtx[v, :, k, j]
    return xtx, xty, yty, count


@nb.njit(nogil=True, cache=True)
def _add(a: FloatArray, b: FloatArray) -> FloatArray:
    out = np.empty_like(a)
    for i in range(a.shape[1]):
        out[0, i], out[1, i] = _plus(a[0, i], a[1, i], b[0, i], b[1, i])
    return out


@nb.njit(nogil=True, cache=True)
def _rss(beta: FloatArray, xtx: FloatArray, xty: FloatArray, yty: FloatArray) -> FloatArray:
    """``y'y - 2 b'X'y + b'X'X b`` of every voxel; voxels first, pairs last but for the matrices' own axes."""
    V, K = beta.shape
    out = np.empty(V)
    for v in range(V):
        high, low = yty[v, 0], yty[v, 1]
        for k in range(K):
            b = beta[v, k]
            p, e = _two_product(-2.0 * b, xty[v, 0, k])
            high, low = _plus(high, low, p, e - 2.0 * b * xty[v, 1, k])
            for j in range(K):
                w, f = _two_product(b, beta[v, j])
                p, e = _two_product(w, xtx[v, 0, k, j])
                high, low = _plus(high, low, p, e + f * xtx[v, 0, k, j] + w * xtx[v, 1, k, j])
        out[v] = high + low
    return out
