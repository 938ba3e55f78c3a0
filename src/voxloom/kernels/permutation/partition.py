"""A model split by a contrast into effect and nuisance: M b = X (C b) + Z g.

A test of C b = 0 uses the span of Z and the part of X apart from it alone, and these are the same for the partitions of
Guttman, Beckmann and Ridgway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import null_space

from voxloom.kernels.linalg import orth, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A vector is in a space, and numbers are equal, when they are to this share of their size: rounding alone.
SAME = 1e-10


class Split(NamedTuple):
    """A model as effect and nuisance.

    Attributes
    ----------
    X : (n, r) array
        Orthonormal basis of the effect of interest apart from the nuisance; for one contrast row signed as C b.
    fixed, moving : (n, .) arrays
        Together an orthonormal basis Z of the nuisance; `fixed` is what no rearrangement changes.
    dof : int
    signed : bool
    """

    X: FloatArray
    fixed: FloatArray
    moving: FloatArray
    dof: int
    signed: bool

    @property
    def Z(self) -> FloatArray:
        """Orthonormal basis (n, q) of the nuisance."""
        return np.hstack([self.fixed, self.moving])

    @property
    def nothing(self) -> FloatArray:
        """No columns."""
        return self.X[:, :0]


def partition(M: FloatArray, C: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Split M b into X (C b) + Z g, after Guttman (1982).

    Parameters
    ----------
    M : (n, K) array
        May be rank deficient.
    C : (r, K) array
        Contrast rows, independent and estimable in M.

    Returns
    -------
    X : (n, r) array
        ``M C^+``; its coefficients are C b.
    Z : (n, rank(M) - r) array
        Orthonormal basis of what M spans under C b = 0.
    """
    basis = reduce_design(M)
    return M @ np.linalg.pinv(C), basis.Q @ null_space(C @ basis.back)


def split(M: FloatArray, C: FloatArray, orbits: IntArray | None) -> Split:
    """Bases of effect and nuisance for the test of C b = 0.

    Parameters
    ----------
    M : (n, K) array
        May be rank deficient.
    C : (r, K) array
        Contrast rows, estimable in M.
    orbits : (n,) array of int, or None
        Equal for maps that permutations can exchange; None where signs are flipped.
    """
    basis = reduce_design(M)
    _, Z = partition(M, C)
    # C b = D gamma on the orthonormal basis: the rows of D span the effect, their complement the nuisance
    D = C @ basis.back
    signed = len(C) == 1
    x = D.T / np.linalg.norm(D) if signed else orth(D.T)
    fixed, moving = (Z[:, :0], Z) if orbits is None else _parted(Z, orbits)
    return Split(basis.Q @ x, fixed, moving, len(M) - basis.rank, signed)


def _parted(Z: FloatArray, orbits: IntArray) -> tuple[FloatArray, FloatArray]:
    """Part of orthonormal Z that is constant over every orbit, and the rest."""
    member = np.equal.outer(orbits, np.unique(orbits)).astype(np.float64)
    means = member @ (member.T @ Z / member.sum(axis=0)[:, None])
    _, s, Vt = np.linalg.svd(Z - means, full_matrices=False)
    still = s <= SAME
    return Z @ Vt[still].T, Z @ Vt[~still].T


def _holds_constant(Q: FloatArray) -> bool:
    """Whether the constant lies in the span of orthonormal Q."""
    one = np.ones(len(Q))
    return bool(np.linalg.norm(one - Q @ (Q.T @ one)) <= SAME * np.sqrt(len(Q)))


def concerns_a_mean(M: FloatArray, C: FloatArray) -> bool:
    """Whether C b = 0 is about a mean, so that signs are to be flipped rather than rows permuted.

    That is so when the model holds the constant but the nuisance alone does not (one-sample tests, the mean
    of one group), or when the effect has the same size in every row and the nuisance holds no constant
    (differences with signs). A comparison of groups coded -1, 1 has the constant in its nuisance and is
    permuted; so is a covariate.
    """
    X, Z = partition(M, C)
    if _holds_constant(Z):
        return False
    size = np.abs(X)
    return _holds_constant(reduce_design(M).Q) or bool(np.ptp(size, axis=0).max() <= SAME * size.max())


def interchangeable(M: FloatArray) -> IntArray:
    """Labels 0 .. L - 1, equal for observations with equal rows of M (n, K)."""
    _, labels = np.unique(M, axis=0, return_inverse=True)
    return np.asarray(labels, dtype=np.int64).reshape(len(M))
