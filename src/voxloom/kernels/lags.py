"""Sufficient statistics of AR(1) fits: one pass over the data serves every rho, no residuals are kept.

Within a gap-free segment the precision matrix of an AR(1) process of unit innovation variance is
``D(rho) = (1 + rho^2) I - rho N - rho^2 E``: N joins neighbouring rows, E is diagonal and marks the rows at
the ends of segments. Every cross product that a fit needs is then a combination of three that do not know
rho, ``X'DY = (1 + rho^2) X'Y - rho (NX)'Y - rho^2 X'EY``, and likewise for ``Y'DY``. See
docs/statistics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.linalg import NO_VARIANCE, reduce_design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: Sums may be re-associated into SIMD lanes (their order depends on the length alone); NaN keeps its meaning.
REASSOCIATE = {"reassoc", "contract"}
#: Bytes of the float64 copy of one sub-block. 2 to 7 MiB were equally fast, 13 MiB 20 % slower (L2 1, L3 32
#: MiB).
BLOCK_BYTES = 8 * 2**20
#: Where less than this share of the squares is left, y'y - g'g has lost six digits and more: the residuals
#: themselves are formed for that voxel, and summed. Real voxels keep 1e-3 and more.
THIN = 1e-6


class Segments(NamedTuple):
    """Rows of a time series that follow each other without a gap, as the AR(1) precision needs them.

    Attributes
    ----------
    starts : (S,) array of int
        First row of each segment.
    n_rows : int
    ends : (m,) array of int
        Rows where E is not zero.
    weights : (m,) array
        Diagonal of E at these rows.
    """

    starts: NDArray[np.int64]
    n_rows: int
    ends: NDArray[np.int64]
    weights: FloatArray


def segments_of(starts: Sequence[int], n_rows: int, *, stationary: bool) -> Segments:
    """Segments that start at these rows.

    Parameters
    ----------
    starts : sequence of int
        Increasing, the first one 0.
    n_rows : int
    stationary : bool
        True: the process is stationary from the first row of a segment on, E counts the ends of segments at a
        row (2 for a segment of one row). False: it starts from zero, E marks last rows alone (nilearn's
        whitening, which leaves first rows as they are).

    Raises
    ------
    DesignError
        Where the starts are not increasing rows from 0.
    """
    first = np.asarray(starts, dtype=np.int64)
    if first.size == 0 or first[0] != 0 or np.any(np.diff(first) <= 0) or first[-1] >= n_rows:
        raise DesignError("segments", f"start at rows {first.tolist()} of {n_rows}.", "Increasing, from row 0.")
    diagonal = np.zeros(n_rows)
    diagonal[np.append(first[1:], n_rows) - 1] += 1.0
    if stationary:
        diagonal[first] += 1.0
    ends = np.flatnonzero(diagonal)
    return Segments(first, n_rows, ends, diagonal[ends])


def neighbours(X: FloatArray, segments: Segments) -> FloatArray:
    """``N X``: for every row the sum of the rows before and after it in its segment. X is (T, n)."""
    NX = np.zeros_like(X)
    NX[1:] += X[:-1]
    NX[:-1] += X[1:]
    inner = segments.starts[1:]
    NX[inner] -= X[inner - 1]
    NX[inner - 1] -= X[inner]
    return NX


class LagDesign(NamedTuple):
    """A design of rank r in the basis Q that diagonalises ``Q'NQ``; what all voxels share.

    Attributes
    ----------
    Q : (T, r) array
        Orthonormal.
    NQ : (T, r) array
    eigenvalues : (r,) array
        ``Q'NQ = diag(eigenvalues)``.
    back : (K, r) array
        ``beta = back @ gamma``.
    ones : (r,) array or None
        Coefficients of the constant in this basis where the design holds it: a mean may then be taken away
        from the data and given back to gamma without any other effect.
    ends : (m, r) array
        Z with ``Q'EQ = Z'Z``: 2 rows for a run without gaps, never more than r.
    lift : (number of end rows, m) array
        ``Z = lift' Q[segments.ends]``.
    segments : Segments
    rank : int
    """

    Q: FloatArray
    NQ: FloatArray
    eigenvalues: FloatArray
    back: FloatArray
    ones: FloatArray | None
    ends: FloatArray
    lift: FloatArray
    segments: Segments
    rank: int

    @property
    def dof(self) -> int:
        """Rows minus rank."""
        return self.segments.n_rows - self.rank


def lag_design(X: ArrayLike, segments: Segments) -> LagDesign:
    """Reduce the design X (T, K) to the basis its lag sums are taken in.

    Raises
    ------
    DesignError
        Where X has other rows than the data, no column that is not zero, or as many independent columns as
        rows.
    """
    basis = reduce_design(X)
    T = basis.Q.shape[0]
    if segments.n_rows != T:
        raise DesignError("design", f"has {T} rows, but the data {segments.n_rows}.", "Give both the same rows.")
    if not 0 < basis.rank < T:
        raise DesignError(
            "design",
            f"rank {basis.rank} with {T} rows leaves nothing to estimate.",
            "Between 1 and rows - 1 independent columns are wanted: drop regressors or keep more volumes.",
        )
    lag = basis.Q.T @ neighbours(basis.Q, segments)
    eigenvalues, P = np.linalg.eigh((lag + lag.T) / 2)
    Q = np.ascontiguousarray(basis.Q @ P)
    ones = Q.sum(axis=0)
    has_constant = np.abs(Q @ ones - 1).max() < 1e-9
    root = np.sqrt(segments.weights)[:, None]
    U, s, Vt = np.linalg.svd(root * Q[segments.ends], full_matrices=False)
    seen = s > 1e-12
    return LagDesign(
        Q=Q,
        NQ=neighbours(Q, segments),
        eigenvalues=eigenvalues,
        back=basis.back @ P,
        ones=ones if has_constant else None,
        ends=s[seen, None] * Vt[seen],
        lift=root * U[:, seen],
        segments=segments,
        rank=basis.rank,
    )


class LagSums(NamedTuple):
    """What a fit needs to know of n voxels; R are their OLS residuals.

    Voxels come first here, so that the numbers of one voxel are adjacent.

    Attributes
    ----------
    gamma : (n, r) array
        OLS coefficients in the basis Q; NaN where the voxel cannot be fitted.
    cross : (n, r + m) array
        ``(NQ)'R`` and ``e = lift' R[ends]``; so ``Q'ER = Z'e``, and ``Q'R`` is zero.
    ss : (n, 3) array
        ``R'R``, ``R'NR`` and ``R'ER - e'e``.
    perfect : (n,) array of bool
        Where the residuals are nothing but rounding error (`NO_VARIANCE`).
    """

    gamma: FloatArray
    cross: FloatArray
    ss: FloatArray
    perfect: NDArray[np.bool_]


def block_size(design: LagDesign) -> int:
    """Voxels per sub-block: a power of two up to 4096 whose float64 copy stays within `BLOCK_BYTES`.

    With many gaps the REML search holds more numbers per voxel than the signal: about 32 per row of ``ends``.
    """
    numbers = max(design.segments.n_rows, 32 * len(design.ends))
    return int(2 ** np.clip(np.floor(np.log2(BLOCK_BYTES / (8 * numbers))), 4, 12))


@np.errstate(over="ignore", invalid="ignore")  # voxels that are not finite, or beyond 1e154
def lag_sums(design: LagDesign, Y: NDArray[np.generic], *, percent: bool = False) -> LagSums:
    """Sufficient statistics of the columns of Y.

    Parameters
    ----------
    design : LagDesign
    Y : (T, n) array
        Signal of any real dtype. One sub-block: it is copied to float64.
    percent : bool
        Fit ``100 (y / mean - 1)`` in place of y; a mean that is not positive gives NaN.
    """
    T, V = Y.shape
    block = np.empty((V, T))
    block[...] = Y.T
    centred = percent or design.ones is not None
    mean, ss = _centre_and_square(block, design.segments.starts, centred, percent)
    total = ss[:, 0].copy()
    gamma, cross = _residual_sums(design, block, ss)
    if design.ones is not None and not percent:
        _give_back(gamma, mean, design.ones)
    thin = np.flatnonzero(ss[:, 0] < THIN * total)
    if thin.size:
        rest = block[thin]
        rest -= (rest @ design.Q) @ design.Q.T
        squares = _squares(rest, design.segments.starts)
        more, cross[thin] = _residual_sums(design, rest, squares)
        gamma[thin] += more
        ss[thin] = squares
    length = total + T * (100.0 if percent else mean) ** 2 if centred else total
    return LagSums(gamma, cross, ss, ss[:, 0] <= NO_VARIANCE**2 * length)


def _residual_sums(design: LagDesign, block: FloatArray, ss: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return gamma (n, r) and cross of `LagSums`; `ss` of the data become, in place, those of the residuals."""
    segments, r = design.segments, design.rank
    products = block @ np.hstack([design.Q, design.NQ])
    at_ends = block[:, segments.ends] - products[:, :r] @ design.Q[segments.ends].T
    edge = at_ends @ design.lift
    ss[:, 2] = at_ends**2 @ segments.weights - (edge**2).sum(axis=1)
    return _split_products(products, edge, ss, design.eigenvalues)


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _centre_and_square(
    block: FloatArray, starts: NDArray[np.int64], centre: bool, percent: bool
) -> tuple[FloatArray, FloatArray]:
    """Take means away in place (and scale); constant rows become NaN.

    Returns the means, and `_squares` of what is left.
    """
    n, T = block.shape
    means, ss = np.empty(n), np.zeros((n, 3))
    for v in range(n):
        y = block[v]
        changes, mean = 0, 0.0
        for t in range(T):
            mean += y[t]
            changes += y[t] != y[0]
        mean /= T
        scale = 1.0
        if percent:
            scale = 100.0 / mean if mean > 0 else np.nan
        if changes == 0:
            scale = np.nan
        shift = mean if centre or percent else 0.0
        for t in range(T):
            y[t] = (y[t] - shift) * scale
        means[v] = mean
        ss[v, 0], ss[v, 1] = _squares_of_row(y, starts)
    return means, ss


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _squares_of_row(y: FloatArray, starts: NDArray[np.int64]) -> tuple[float, float]:
    """``y'y`` and ``y'Ny``: twice the sum of products of neighbours, none of which crosses a gap."""
    square, product = y[0] * y[0], 0.0
    for t in range(1, len(y)):
        square += y[t] * y[t]
        product += y[t] * y[t - 1]
    for start in starts[1:]:
        product -= y[start] * y[start - 1]
    return square, 2.0 * product


@nb.njit(cache=True)
def _give_back(gamma: FloatArray, mean: FloatArray, ones: FloatArray) -> None:
    """Add to gamma, in place, the coefficients of the mean that was taken away."""
    for v in range(len(gamma)):
        for k in range(len(ones)):
            gamma[v, k] += mean[v] * ones[k]


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _squares(block: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """Sums of squares (n, 3) of the rows of a block (n, T), with the first two filled in."""
    ss = np.zeros((len(block), 3))
    for v in range(len(block)):
        ss[v, 0], ss[v, 1] = _squares_of_row(block[v], starts)
    return ss


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _split_products(
    products: FloatArray, edge: FloatArray, ss: FloatArray, eigenvalues: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Turn the products ``[Q'y, (NQ)'y]`` into gamma and cross, and squares of y into those of the residuals."""
    n, r = len(products), len(eigenvalues)
    gamma, cross = np.empty((n, r)), np.empty((n, r + edge.shape[1]))
    for v in range(n):
        square, product = 0.0, 0.0
        for k in range(r):
            g, kept = products[v, k], eigenvalues[k] * products[v, k]
            square += g * g
            product += g * (kept - 2.0 * products[v, r + k])
            cross[v, k] = products[v, r + k] - kept
            gamma[v, k] = g
        cross[v, r:] = edge[v]
        if np.isfinite(ss[v, 0]):
            ss[v, 0] = max(ss[v, 0] - square, 0.0)
            ss[v, 1] += product
        else:
            gamma[v], ss[v] = np.nan, np.nan
    return gamma, cross
