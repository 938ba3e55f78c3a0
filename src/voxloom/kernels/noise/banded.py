"""Many small symmetric positive definite band matrices at once: factors, solutions, and the band of their inverses.

A matrix B of m rows and bandwidth p is kept as its lower diagonals, ``band[t, k] = B[t, t - k]`` for k from 0 to p.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


@nb.njit(nogil=True, cache=True)
def factor_bands(bands: FloatArray) -> FloatArray:
    """Turn bands (n, m, p + 1) in place into their Cholesky factors; log determinants (n,), NaN where not positive."""
    n, m, width = bands.shape
    log_det = np.zeros(n)
    for v in range(n):
        band = bands[v]
        for t in range(m):
            for k in range(min(t, width - 1), -1, -1):
                s, total = t - k, band[t, k]
                for j in range(k + 1, min(t, width - 1) + 1):
                    if j - k < width and j - k <= s:
                        total -= band[t, j] * band[s, j - k]
                if k > 0:
                    band[t, k] = total / band[s, 0]
                else:
                    band[t, 0] = np.sqrt(total) if total > 0.0 else np.nan
            log_det[v] += 2.0 * np.log(band[t, 0])
    return log_det


@nb.njit(nogil=True, cache=True)
def solve_bands(factors: FloatArray, F: FloatArray) -> None:
    """Turn F (n, m, q) in place into ``B^-1 F``."""
    n, m, width = factors.shape
    q = F.shape[2]
    for v in range(n):
        for t in range(m):
            for k in range(1, min(t, width - 1) + 1):
                for j in range(q):
                    F[v, t, j] -= factors[v, t, k] * F[v, t - k, j]
            for j in range(q):
                F[v, t, j] /= factors[v, t, 0]
        for t in range(m - 1, -1, -1):
            for k in range(1, min(m - 1 - t, width - 1) + 1):
                for j in range(q):
                    F[v, t, j] -= factors[v, t + k, k] * F[v, t + k, j]
            for j in range(q):
                F[v, t, j] /= factors[v, t, 0]


@nb.njit(nogil=True, cache=True)
def invert_bands(factors: FloatArray) -> FloatArray:
    """Those entries (n, m, p + 1) of ``B^-1`` that lie in the band of B, from the last row up (Takahashi 1973)."""
    n, m, width = factors.shape
    inverse = np.zeros((n, m, width))
    for v in range(n):
        band, z = factors[v], inverse[v]
        for t in range(m - 1, -1, -1):
            last = min(m - 1 - t, width - 1)
            for k in range(last, -1, -1):  # entry (t + k, t)
                total = 1.0 / band[t, 0] if k == 0 else 0.0
                for j in range(1, last + 1):  # row t + j of the factor below t
                    a, b = max(j, k), min(j, k)
                    total -= band[t + j, j] * z[t + a, a - b]
                z[t + k, k] = total / band[t, 0]
    return inverse


@nb.njit(nogil=True, cache=True)
def add_products(bands: FloatArray, x: FloatArray, out: FloatArray) -> None:
    """Add to out (n, P, m) in place the products of P matrices, bands (P, m, p + 1), with x (n, m)."""
    P, m, width = bands.shape
    for v in range(len(x)):
        for i in range(P):
            for t in range(m):
                out[v, i, t] += bands[i, t, 0] * x[v, t]
                for k in range(1, min(t, width - 1) + 1):
                    out[v, i, t] += bands[i, t, k] * x[v, t - k]
                    out[v, i, t - k] += bands[i, t, k] * x[v, t]
