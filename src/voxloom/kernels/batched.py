"""Inverses of many small positive definite matrices at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Matrices side by side: the lanes of two vector registers. The loops over rows and columns are too short to fill one.
LANES = 8


def invert(W: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Inverses (n, r, r) and log determinants (n,) of symmetric positive definite matrices W (n, r, r).

    NaN where a matrix is not positive definite. No result depends on the matrices beside it.
    """
    return _invert(np.ascontiguousarray(W))


@nb.njit(nogil=True, cache=True)
def _invert(W: FloatArray) -> tuple[FloatArray, FloatArray]:
    n, r, _ = W.shape
    inverse, log_det = np.empty_like(W), np.empty(n)
    L, M = np.zeros((r, r, LANES)), np.zeros((r, r, LANES))
    for start in range(0, n, LANES):
        width = min(LANES, n - start)
        for a in range(r):
            for b in range(a + 1):
                for v in range(LANES):
                    L[a, b, v] = W[start + min(v, width - 1), a, b]
        total = _factor(L)
        _invert_factor(L, M)
        _square(M, L)
        for v in range(width):
            log_det[start + v] = total[v]
            for a in range(r):
                for b in range(a + 1):
                    inverse[start + v, a, b] = inverse[start + v, b, a] = L[a, b, v]
    return inverse, log_det


@nb.njit(nogil=True, cache=True)
def _factor(L: FloatArray) -> FloatArray:
    """Turn the lower triangle into its Cholesky factor, with the INVERSE of its diagonal; log determinants."""
    r = len(L)
    log_det, root = np.zeros(LANES), np.empty(LANES)
    for j in range(r):
        for k in range(j):
            for i in range(j, r):
                for v in range(LANES):
                    L[i, j, v] -= L[i, k, v] * L[j, k, v]
        for v in range(LANES):
            pivot = L[j, j, v] if L[j, j, v] > 0.0 else np.nan
            log_det[v] += np.log(pivot)
            root[v] = 1.0 / np.sqrt(pivot)
            L[j, j, v] = root[v]
        for i in range(j + 1, r):
            for v in range(LANES):
                L[i, j, v] *= root[v]
    return log_det


@nb.njit(nogil=True, cache=True)
def _invert_factor(L: FloatArray, M: FloatArray) -> None:
    """Write the inverse of the factor to the lower triangle of M."""
    r = len(L)
    for j in range(r):
        M[j, j] = L[j, j]
        for i in range(j + 1, r):
            M[i, j] = 0.0
            for k in range(j, i):
                for v in range(LANES):
                    M[i, j, v] -= L[i, k, v] * M[k, j, v]
            for v in range(LANES):
                M[i, j, v] *= L[i, i, v]


@nb.njit(nogil=True, cache=True)
def _square(M: FloatArray, out: FloatArray) -> None:
    """Write the lower triangle of ``M'M`` to `out`."""
    r = len(M)
    for a in range(r):
        for b in range(a + 1):
            out[a, b] = 0.0
            for k in range(a, r):
                for v in range(LANES):
                    out[a, b, v] += M[k, a, v] * M[k, b, v]
