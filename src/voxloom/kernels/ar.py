"""Stationary AR(p) in a series with gaps: its precision matrix is a quadratic form in the filter.

With ``w = (1, -phi_1, ..., -phi_p)`` the precision matrix of unit innovation variance is ``D(w) = sum_{i<=j} w_i w_j
S_ij``, exactly, for segments of p rows or more (Box and Jenkins, Time Series Analysis, A7.4; Siddiqui 1958). S_ij
joins rows j - i apart that have i rows before them and i behind (once for i = j): ``y'S_ij y`` sums ``y_t y_{t+j-i}``
over n - i - j rows, doubled for i < j. So every product that a fit needs is a combination of ``(p+1)(p+2)/2`` that do
not know phi. `kernels.lags` is the case p = 1, in a form that is faster still.

Phi is stationary where its partial autocorrelations lie within (-1, 1); these are free of each other, phi are not.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations_with_replacement, pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.lags import LagDesign, lag_design
from voxloom.kernels.segments import Segments, segments_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Highest order on offer; 3 to 6 are in use (AFNI, SPM's FAST reaches further by another way).
MAX_ORDER = 8
#: Partial autocorrelations are kept within this, as rho of AR(1) is.
MOST = 0.99


class Pairs(NamedTuple):
    """The pairs i <= j of lags up to p, and derivatives of ``w_i w_j``.

    Attributes
    ----------
    i, j : (P,) arrays of int
    first : (P, p + 1, p) array
        ``d(w_i w_j)/dphi_k = first[:, :, k] @ w``.
    second : (P, p, p) array
        Their second derivatives.
    """

    i: NDArray[np.int64]
    j: NDArray[np.int64]
    first: FloatArray
    second: FloatArray


@lru_cache
def pairs(order: int) -> Pairs:
    """Pairs of lags of AR(`order`)."""
    ij = np.array(list(combinations_with_replacement(range(order + 1), 2)))
    first, second = np.zeros((len(ij), order + 1, order)), np.zeros((len(ij), order, order))
    for pair, (i, j) in enumerate(ij):
        for a, b in ((i, j), (j, i)):
            if a > 0:
                first[pair, b, a - 1] -= 1.0
            if a > 0 and b > 0:
                second[pair, a - 1, b - 1] += 1.0
    return Pairs(ij[:, 0], ij[:, 1], first, second)


def filters(phi: FloatArray) -> FloatArray:
    """``w`` (n, p + 1) of phi (n, p)."""
    return np.concatenate([np.ones((len(phi), 1)), -phi], axis=1)


def coefficients(phi: FloatArray) -> FloatArray:
    """``w_i w_j`` (n, P) of phi (n, p)."""
    w, of = filters(phi), pairs(phi.shape[1])
    return np.asarray(w[:, of.i] * w[:, of.j])


def partial_autocorrelations(phi: FloatArray) -> FloatArray:
    """Partial autocorrelations (n, p) of phi (n, p); where any is beyond +-1, phi is not stationary."""
    rest, partial = phi.copy(), np.empty_like(phi)
    for k in reversed(range(phi.shape[1])):
        last = rest[:, k : k + 1].copy()
        partial[:, k : k + 1] = last
        with np.errstate(divide="ignore", invalid="ignore"):
            rest[:, :k] = (rest[:, :k] + last * rest[:, :k][:, ::-1]) / (1.0 - last**2)
    return partial


def from_partial(partial: FloatArray) -> FloatArray:
    """Phi (n, p) with these partial autocorrelations (Durbin and Levinson)."""
    phi = partial.copy()
    for k in range(1, partial.shape[1]):
        phi[:, :k] -= partial[:, k : k + 1] * phi[:, :k][:, ::-1].copy()
    return phi


def autocorrelations(phi: FloatArray) -> FloatArray:
    """Autocorrelations (n, p) at lags 1 to p of phi (n, p)."""
    partial = partial_autocorrelations(phi)
    rho = np.ones((len(phi), phi.shape[1] + 1))
    for k in range(1, phi.shape[1] + 1):
        rho[:, k] = np.sum(from_partial(partial[:, :k]) * rho[:, :k][:, ::-1], axis=1)
    return rho[:, 1:]


def from_autocorrelations(rho: FloatArray, most: float = MOST) -> FloatArray:
    """Phi (n, p) with these autocorrelations (n, p), partial ones cut at +-`most`."""
    partial, phi, left = np.empty_like(rho), rho[:, :0], np.ones(len(rho))
    for k in range(rho.shape[1]):
        part = (rho[:, k] - np.sum(phi * rho[:, :k][:, ::-1], axis=1)) / left
        partial[:, k] = np.clip(part, -most, most)
        phi = from_partial(partial[:, : k + 1])
        left = left * (1 - partial[:, k] ** 2)
    return phi


def is_stationary(phi: FloatArray) -> NDArray[np.bool_]:
    """Where all partial autocorrelations of phi (n, p) lie within `MOST`; step by step, so NaN is False."""
    inside = np.abs(partial_autocorrelations(phi)) <= MOST
    return np.asarray(inside.all(axis=1))


def require_stretches(order: int, segments: Segments, where: str = "noise_model") -> None:
    """Raise `DesignError` unless every segment has as many rows as the order."""
    shortest = int(np.diff(np.append(segments.starts, segments.n_rows)).min())
    if shortest < order:
        raise DesignError(
            where,
            f"AR({order}) needs {order} volumes without a gap, but the shortest stretch has {shortest}.",
            "Take a lower order, ar1 or arma11, or leave out the volumes of short stretches too.",
        )


def pair_weights(order: int, segments: Segments) -> FloatArray:
    """Rows of S_ij, (P, T): the weight that joins row t with row t + j - i.

    Raises
    ------
    DesignError
        Where a segment is shorter than the order.
    """
    require_stretches(order, segments)
    of, bounds = pairs(order), np.append(segments.starts, segments.n_rows)
    weights = np.zeros((len(of.i), segments.n_rows))
    for pair, (i, j) in enumerate(zip(of.i, of.j)):
        k = int(j - i)
        for a, b in pairwise(bounds):
            weights[pair, a : b - k] = 1.0
            weights[pair, a : a + i] -= 1.0
            weights[pair, b - k - i : b - k] -= 1.0
    return weights


def couple(F: FloatArray, weights: FloatArray, k: int) -> FloatArray:
    """``S F`` for F (T, n) and an S that joins rows k apart with these weights (T,)."""
    if k == 0:
        return np.asarray(weights[:, None] * F)
    out = np.zeros_like(F)
    out[:-k] = weights[:-k, None] * F[k:]
    out[k:] += weights[:-k, None] * F[:-k]
    return out


class ArDesign(NamedTuple):
    """A design with all that its AR(p) fits share.

    Attributes
    ----------
    base : LagDesign
    order : int
    weights : (P, T) array
        `pair_weights`.
    lagged : (p, T, r) array
        ``N_k Q``: rows k apart within a segment, both ways.
    rows : (m,) array of int
        The p rows at either end of each segment.
    edges : (P, m, r) array
        ``(N_{j-i} - S_ij) Q`` on these rows; it is 0 elsewhere.
    gram : (P, r, r) array
        ``Q'S_ij Q``.
    corner : (P, p, p) array
        S_ij of a segment of p rows: ``log|D|`` is that of p rows, in every segment.
    """

    base: LagDesign
    order: int
    weights: FloatArray
    lagged: FloatArray
    rows: NDArray[np.int64]
    edges: FloatArray
    gram: FloatArray
    corner: FloatArray


def ar_design(X: ArrayLike, order: int, scans: ArrayLike | None, n_rows: int) -> ArDesign:
    """Prepare AR(`order`) fits of the design X (T, K).

    Raises
    ------
    DesignError
        As `lag_design` and `pair_weights`.
    """
    base = lag_design(X, segments_of(scans, n_rows, stationary=True))
    of, Q, T = pairs(order), base.Q, n_rows
    weights = pair_weights(order, base.segments)
    whole = np.array([weights[np.flatnonzero((of.i == 0) & (of.j == k))[0]] for k in range(order + 1)])
    bounds = np.append(base.segments.starts, T)
    near = np.arange(order)
    rows = np.unique([np.concatenate([a + near, b - 1 - near]) for a, b in pairwise(bounds)])
    gram, edges = np.empty((len(of.i), base.rank, base.rank)), np.empty((len(of.i), rows.size, base.rank))
    for pair, k in enumerate(of.j - of.i):
        gram[pair] = Q.T @ couple(Q, weights[pair], k)
        edges[pair] = couple(Q, whole[k] - weights[pair], k)[rows]
    eye = np.eye(order)
    short = pair_weights(order, segments_of(None, order, stationary=True))
    return ArDesign(
        base=base,
        order=order,
        weights=weights,
        lagged=np.array([couple(Q, whole[k], k) for k in range(1, order + 1)]),
        rows=rows,
        edges=edges,
        gram=(gram + gram.swapaxes(1, 2)) / 2,
        corner=np.array([couple(eye, row, k) for row, k in zip(short, of.j - of.i)]),
    )
