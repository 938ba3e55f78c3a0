"""Columns made orthogonal in turn: each loses what the earlier ones already explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.linalg import RANK_RTOL

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: A residual below this share of its column is rounding error; its direction means nothing.
ROUNDING = 1e-14


class InTurn(NamedTuple):
    """Result of `orthogonalize`.

    Attributes
    ----------
    residual : (T, K) array
        Column k minus its projection on the columns before it; not normalised.
    independent : (K,) array of bool
        Whether anything but rounding is left of it.
    """

    residual: FloatArray
    independent: NDArray[np.bool_]


def orthogonalize(X: ArrayLike, rtol: float = ROUNDING) -> InTurn:
    """Gram-Schmidt in the order given, without pivoting.

    Every column is projected twice, which makes the result as orthogonal as Householder's; unlike Householder
    a column of zeros leaves the others as they are.

    Parameters
    ----------
    X : (T, K) array_like
    rtol : float
        A column whose residual is at most this share of its norm counts as dependent.
    """
    X = np.asarray(X, dtype=np.float64)
    Q = np.zeros_like(X, order="F")
    residual = np.array(X, order="F")
    independent = np.zeros(X.shape[1], dtype=bool)
    for k in range(X.shape[1]):
        v = residual[:, k]
        for _ in range(2):
            v -= Q[:, :k] @ (v @ Q[:, :k])
        norm = np.linalg.norm(v)
        independent[k] = norm > rtol * np.linalg.norm(X[:, k])
        if independent[k]:
            Q[:, k] = v / norm
    return InTurn(residual, independent)


def orthonormal_rows(C: ArrayLike) -> FloatArray:
    """Orthonormal rows that span those of C (q, K), each made from its row and those before it.

    Unlike a singular value decomposition this gives the same combinations of the same columns, whatever other
    columns (of zero weight) lie between them; so results of designs that differ in their other columns add up.
    """
    C = np.asarray(C, dtype=np.float64)
    rows = orthogonalize((C / np.linalg.norm(C, axis=1, keepdims=True)).T, RANK_RTOL)
    kept = rows.residual.T[rows.independent]
    return np.asarray(kept / np.linalg.norm(kept, axis=1, keepdims=True))


def dependent(X: ArrayLike) -> NDArray[np.intp]:
    """Find the columns of X (T, K) that are zero or linear combinations of earlier columns; their indices.

    The tolerance is that of `voxloom.kernels.linalg.reduce_design`: `RANK_RTOL` times the largest singular
    value of the columns at unit norm.
    """
    X = np.asarray(X, dtype=np.float64)
    if not X.size:
        return np.zeros(0, dtype=np.intp)
    norm = np.linalg.norm(X, axis=0)
    unit = X / np.where(norm > 0, norm, 1.0)
    largest = float(np.sqrt(np.linalg.norm(unit.T @ unit, 2)))
    return np.flatnonzero(~orthogonalize(unit, RANK_RTOL * largest).independent)
