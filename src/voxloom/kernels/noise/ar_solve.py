"""Generalised least squares of AR(p) at given coefficients, from sums that do not know them, for many voxels at once.

With Q and a column for each of the m scans that were left out (`kernels.noise.ar`) the normal equations are ::

    ( W  Z' ) ( delta )   ( Q'D R )
    ( Z  B  ) (   e   ) = (  D R  )

and B, the precision among those scans, is a band of p diagonals. So they are eliminated first, ``K = B^-1 Z``, in
m (p + r) r operations, and ``W - Z'K`` is what is left, the (r, r) matrix of the rows that are kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.batched import invert
from voxloom.kernels.noise.ar import ArDesign, coefficients, pairs
from voxloom.kernels.noise.banded import add_products, factor_bands, invert_bands, solve_bands
from voxloom.kernels.noise.lag_sums import REASSOCIATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Bytes of one array (n, r, r), or of one (n, m, r), that is worked on at once.
BATCH_BYTES = 2 * 2**20


class ArSums(NamedTuple):
    """What a fit needs to know of n voxels; R are their OLS residuals of unit length, 0 at scans that were left out.

    Attributes
    ----------
    squares : (n, P) array
        ``R'S_ij R``.
    cross : (n, P, r + m) array
        ``basis' S_ij R``.
    """

    squares: FloatArray
    cross: FloatArray


def ar_sums(design: ArDesign, unit: FloatArray) -> ArSums:
    """Sums of the residuals (n, T) of one sub-block."""
    of = pairs(design.order)
    lag = of.j - of.i
    r, missing = design.base.rank, design.series.missing
    R = np.zeros((len(unit), design.series.n_scans))
    R[:, design.series.kept] = unit
    cross = np.zeros((len(unit), len(lag), design.size))
    ends = np.ascontiguousarray(R[:, design.ends])
    for k in range(design.order + 1):
        whole = unit @ design.lagged[k - 1] if k else 0.0  # Q'R is 0
        behind, ahead = np.maximum(missing - k, 0), np.minimum(missing + k, R.shape[1] - 1)
        R_behind, R_ahead = R[:, behind], R[:, ahead]
        for pair in np.flatnonzero(lag == k):
            weights = design.weights[pair]
            cross[:, pair, :r] = whole - ends @ design.at_ends[pair]
            cross[:, pair, r:] = R_behind * np.where(missing >= k, weights[behind], 0.0) + R_ahead * weights[missing]
    return ArSums(_squares(R, design.weights, lag), cross)


@nb.njit(nogil=True, cache=True, fastmath=REASSOCIATE)
def _squares(unit: FloatArray, weights: FloatArray, lag: IntArray) -> FloatArray:
    n, T = unit.shape
    squares = np.empty((n, len(lag)))
    for v in range(n):
        y = unit[v]
        for pair in range(len(lag)):
            k, row, total = lag[pair], weights[pair], 0.0
            for t in range(T - k):
                total += row[t] * y[t] * y[t + k]
            squares[v, pair] = total if k == 0 else 2.0 * total
    return squares


class Precision(NamedTuple):
    """Normal equations of n voxels, solved as far as they do not depend on data.

    Attributes
    ----------
    inverse : (n, r, r) array
        ``(W - Z'K)^-1``, the covariance of the coefficients of Q.
    passed : (n, m, r) array
        K.
    factors : (n, m, p + 1) array
        Cholesky factors of B (`kernels.noise.banded`).
    log_det : (n,) array
        Of the whole matrix.
    """

    inverse: FloatArray
    passed: FloatArray
    factors: FloatArray
    log_det: FloatArray

    def solve(self, F: FloatArray) -> FloatArray:
        """The inverse of the whole matrix times F (n, r + m, q)."""
        r = self.inverse.shape[1]
        out = F.copy()
        out[:, :r] = self.inverse @ (F[:, :r] - self.passed.swapaxes(1, 2) @ F[:, r:])
        missing = np.ascontiguousarray(F[:, r:])
        solve_bands(self.factors, missing)
        out[:, r:] = missing - self.passed @ out[:, :r]
        return out


def precision(design: ArDesign, phi: FloatArray) -> Precision:
    """Eliminate and invert at phi (n, p)."""
    c, n = coefficients(phi), len(phi)
    W, Z, factors = ((c @ part.reshape(len(part), -1)).reshape(n, *part.shape[1:]) for part in design.gram)
    log_det = factor_bands(factors)
    passed = Z.copy()
    if passed.size:
        solve_bands(factors, passed)
        W -= Z.swapaxes(1, 2) @ passed
    inverse, more = invert(W)
    return Precision(inverse, passed, factors, log_det + more)


def traces(design: ArDesign, of: Precision) -> tuple[FloatArray, FloatArray]:
    """Traces of the inverse of the whole matrix times ``basis' S_ij basis``, (n, P), and its diagonal (n, r + m)."""
    n, m, r = of.passed.shape
    rows, across, bands = (part.reshape(len(part), -1) for part in design.gram)
    covariance, band = of.passed @ of.inverse, invert_bands(of.factors)
    for k in range(min(design.order + 1, m)):
        band[:, k:, k] += np.einsum("ntr,ntr->nt", covariance[:, k:], of.passed[:, : m - k])
    diagonal = np.concatenate([np.einsum("nrr->nr", of.inverse), band[:, :, 0]], axis=1)
    band[:, :, 1:] *= 2.0
    found = of.inverse.reshape(n, r * r) @ rows.T - 2.0 * covariance.reshape(n, m * r) @ across.T
    return found + band.reshape(n, -1) @ bands.T, diagonal


def applied(design: ArDesign, delta: FloatArray) -> FloatArray:
    """``basis' S_ij basis`` times delta (n, r + m), (n, P, r + m)."""
    rows, across, bands = design.gram
    n, (P, m, r) = len(delta), across.shape
    top, missing = delta[:, :r], delta[:, r:]
    found = (top @ rows.reshape(P * r, r).T).reshape(n, P, r)
    if not m:
        return np.asarray(found)
    found += (missing @ across.transpose(1, 0, 2).reshape(m, P * r)).reshape(n, P, r)
    rest = (top @ across.reshape(P * m, r).T).reshape(n, P, m)
    add_products(bands, np.ascontiguousarray(missing), rest)
    return np.concatenate([found, rest], axis=2)


class Solved(NamedTuple):
    """Generalised least squares of n voxels at their phi.

    Attributes
    ----------
    precision : Precision
    delta : (n, r + m) array
        What it adds to OLS coefficients, and its estimates of the scans that were left out.
    rss : (n,) array
    """

    precision: Precision
    delta: FloatArray
    rss: FloatArray


def solve_ar(design: ArDesign, sums: ArSums, phi: FloatArray) -> Solved:
    """Solve for the coefficients at phi (n, p)."""
    c, of = coefficients(phi), precision(design, phi)
    right = np.matmul(c[:, None], sums.cross)[:, 0]
    delta = of.solve(right[:, :, None])[:, :, 0]
    rss = (c * sums.squares).sum(axis=1) - (right * delta).sum(axis=1)
    return Solved(of, delta, rss)


def batch_size(design: ArDesign) -> int:
    """Voxels whose matrices are worked on at once."""
    return batch_voxels(design.base.rank, design.series.missing.size)


def batch_voxels(rank: int, n_missing: int) -> int:
    """Voxels of a batch: a multiple of 8 that stays within `BATCH_BYTES`."""
    return max(8, BATCH_BYTES // (8 * rank * max(rank, n_missing)) // 8 * 8)
