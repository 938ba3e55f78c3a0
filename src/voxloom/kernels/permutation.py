"""Any contrast as a permutation test: partition of the design, and Freedman-Lane as fixed projections.

Split M b into X (C b) + Z g. With e = y without Z, x the unit part of X apart from Z, and z a basis of Z, a
refit of the full model to data rearranged by Freedman and Lane (1983) needs only the projections u = (P x)'e
and w = (P z)'e of e on rearranged design rows: |e|^2 does not change, and the residual sum of squares is
|e|^2 - |u|^2 - |w|^2. So all rearrangements of all voxels are one matrix product (Winkler et al. 2014,
NeuroImage 92:381).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import null_space

from voxloom.kernels.linalg import orth, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: A vector is in a space, and numbers are equal, when they are to this share of their size: rounding alone.
SAME = 1e-10


class FreedmanLane(NamedTuple):
    """Projections that hold a permutation test of C b = 0 in the model M b.

    Attributes
    ----------
    X : (n, r) array
        Orthonormal basis of the effect of interest apart from the nuisance; for r = 1 signed as C b.
    Z : (n, q) array
        Orthonormal basis of the nuisance, removed from the data once.
    moving : (n, q') array
        The part of Z whose projection depends on the rearrangement: under permutations the constant has none.
    dof : int
        n - rank(M).
    """

    X: FloatArray
    Z: FloatArray
    moving: FloatArray
    dof: int


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


def freedman_lane(M: FloatArray, C: FloatArray, *, permute: bool) -> FreedmanLane:
    """Bases of effect and nuisance for the test of C b = 0.

    Parameters
    ----------
    M : (n, K) array
        May be rank deficient.
    C : (r, K) array
        Contrast rows, independent and estimable in M.
    permute : bool
        Whether rows are permuted without signs, so that the constant may leave the moving part.
    """
    basis = reduce_design(M)
    _, Z = partition(M, C)
    # C b = D gamma on the orthonormal basis: the rows of D span the effect, their complement the nuisance
    D = C @ basis.back
    x = D.T / np.linalg.norm(D) if len(C) == 1 else orth(D.T)
    moving = Z
    if permute and _holds_constant(Z):
        moving = Z @ null_space(Z.sum(axis=0, keepdims=True))
    return FreedmanLane(basis.Q @ x, Z, moving, len(M) - basis.rank)


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


def interchangeable(M: FloatArray) -> NDArray[np.int64]:
    """Labels 0 .. L - 1, equal for observations with equal rows of M (n, K)."""
    _, labels = np.unique(M, axis=0, return_inverse=True)
    return np.asarray(labels, dtype=np.int64).reshape(len(M))


def t_from_cosine(h: FloatArray, dof: int) -> FloatArray:
    """Turn h = u / sqrt(|e|^2 - |w|^2), a correlation, into t; increasing, so maxima may be taken of h.

    -1 and 1 give infinite t; infinite h stay (the maximum over no voxels).
    """
    h = np.asarray(h, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = h * np.sqrt(dof / np.maximum(1.0 - h * h, 0.0))
    return np.where(np.isinf(h), h, t)
