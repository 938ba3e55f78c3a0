"""The AR(1) precision matrix of a series with gaps, and a design in the basis that suits it.

Within a gap-free segment the precision matrix of an AR(1) process of unit innovation variance is
``D(rho) = (1 + rho^2) I - rho N - rho^2 E``: N joins neighbouring rows, E is diagonal and marks the rows at
the ends of segments. Every cross product that a fit needs is then a combination of three that do not know
rho, ``X'DY = (1 + rho^2) X'Y - rho (NX)'Y - rho^2 X'EY``, and likewise for ``Y'DY``. See
docs/statistics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.linalg import reduce_design

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


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


def segment_starts(kept: NDArray[np.int64]) -> list[int]:
    """Rows, among the kept volumes (increasing indices), at which a stretch without a gap starts."""
    return [0, *(np.flatnonzero(np.diff(kept) > 1) + 1).tolist()]


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
