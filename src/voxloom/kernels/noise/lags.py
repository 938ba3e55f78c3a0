"""A design in the basis that suits the AR(1) precision matrix of a series with gaps.

Every cross product that a fit needs is a combination of some that do not know rho (`kernels.noise.segments`): ``X'DY
= (1 + rho^2) X'Y - rho (NX)'Y - rho^2 sum_g f_g(rho) X'E_g Y``, and likewise for ``Y'DY``. See
docs/explanation/statistics.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import block_diag

from voxloom.errors import DesignError
from voxloom.kernels.linalg import reduce_design

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.noise.segments import Segments

    FloatArray = NDArray[np.float64]


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
        Z with ``Q'E_g Q = Z_g'Z_g`` for the rows Z_g of each kind of edge: 2 for a run without gaps, never more than r
        of a kind.
    kind : (m,) array of int
        Kind of each row of Z.
    lift : (number of edges, m) array
        ``Z = lift' U'Q``.
    segments : Segments
    rank : int
    """

    Q: FloatArray
    NQ: FloatArray
    eigenvalues: FloatArray
    back: FloatArray
    ones: FloatArray | None
    ends: FloatArray
    kind: NDArray[np.int64]
    lift: FloatArray
    segments: Segments
    rank: int

    @property
    def dof(self) -> int:
        """Rows minus rank."""
        return self.segments.n_rows - self.rank

    @property
    def is_crowded(self) -> bool:
        """Whether the edges are so many that the matrix (r, r) is smaller than what they change in it."""
        return len(self.ends) > self.rank


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
    ends, kind, lift = _compressed(segments.edges.across(Q), segments.edges.kind)
    return LagDesign(
        Q=Q,
        NQ=neighbours(Q, segments),
        eigenvalues=eigenvalues,
        back=basis.back @ P,
        ones=ones if has_constant else None,
        ends=ends,
        kind=kind,
        lift=lift,
        segments=segments,
        rank=basis.rank,
    )


def _compressed(edges: FloatArray, kind: NDArray[np.int64]) -> tuple[FloatArray, NDArray[np.int64], FloatArray]:
    """Z, its kinds and `lift` of `LagDesign` from ``U'Q``."""
    ends, kinds, lift = [], [], []
    for g in range(kind[-1] + 1):
        U, s, Vt = np.linalg.svd(edges[kind == g], full_matrices=False)
        seen = s > 1e-12
        ends.append(s[seen, None] * Vt[seen])
        kinds.append(np.full(seen.sum(), g))
        lift.append(U[:, seen])
    return np.vstack(ends), np.concatenate(kinds), np.asarray(block_diag(*lift))
