"""Any contrast as a permutation test: partition of the design, and Freedman-Lane as fixed projections.

With M = [X Z], e = (I - Z Z^+) y and orthonormal bases x of the part of X apart from Z, and z of Z, a refit of the
full model to data rearranged by Freedman and Lane (1983) needs only the projections u = (P x)'e and w = (P z)'e of
e on rearranged design rows: |e|^2 does not change, and the residual sum of squares is |e|^2 - |u|^2 - |w|^2. So all
rearrangements of all voxels are one matrix product (Winkler et al. 2014, NeuroImage 92:381).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import ContrastError, DesignError
from voxloom.kernels.linalg import ESTIMABLE_RTOL, is_estimable, orth, reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


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
    """Split M b into X (C b) + Z g (Guttman 1982): X = M C^+, Z = M (I - C^+ C).

    Parameters
    ----------
    M : (n, K) array
    C : (q, K) array
        Contrast rows, estimable in M.

    Returns
    -------
    X : (n, q) array
        Its coefficients are C b exactly.
    Z : (n, K) array
        Spans the design under C b = 0; of deficient rank.
    """
    inverse = np.linalg.pinv(C)
    return M @ inverse, M - M @ (inverse @ C)


def freedman_lane(M: FloatArray, C: FloatArray, *, permute: bool) -> FreedmanLane:
    """Bases of effect and nuisance for the test of C b = 0.

    Parameters
    ----------
    M : (n, K) array
    C : (q, K) array
    permute : bool
        Whether rows are permuted without signs, so that the constant may leave the moving part.

    Raises
    ------
    ContrastError
        A row of C is not estimable, or all are zero.
    DesignError
        No degrees of freedom are left.
    """
    basis = reduce_design(M)
    n = len(M)
    if not np.any(C) or not is_estimable(C, basis).all():
        raise ContrastError(
            "contrast", "is not estimable in this design.", "Drop dependent columns or change the weights."
        )
    if n <= basis.rank:
        raise DesignError(
            "design",
            f"{n} maps cannot determine {basis.rank} independent regressors and their error.",
            "Use fewer regressors or more maps.",
        )
    X, Z = partition(M, C)
    Qz = orth(_without(M, Z))
    # signed as C b: the part of each column of X apart from Z has a positive product with x
    apart = X - Qz @ (Qz.T @ X)
    x = apart / np.linalg.norm(apart) if apart.shape[1] == 1 else orth(apart)
    moving = orth(Qz - Qz.mean(axis=0)) if permute and _holds_constant(Qz) else Qz
    return FreedmanLane(np.ascontiguousarray(x), Qz, np.ascontiguousarray(moving), n - basis.rank)


def _without(M: FloatArray, Z: FloatArray) -> FloatArray:
    """Z with columns set to zero that are rounding: M (I - C^+ C) leaves 1e-16 of M where C takes all."""
    scale = np.linalg.norm(M, axis=0)
    length = np.linalg.norm(Z, axis=0)
    return np.where(length > 1e-12 * max(scale.max(), 1e-300), Z, 0.0)


def _holds_constant(Q: FloatArray) -> bool:
    """Whether the constant lies in the span of orthonormal Q."""
    one = np.ones(len(Q))
    return bool(np.linalg.norm(one - Q @ (Q.T @ one)) <= ESTIMABLE_RTOL * np.sqrt(len(Q)))


def tests_a_mean(M: FloatArray, C: FloatArray) -> bool:
    """Whether C b = 0 is about a mean, so that permuting rows is pointless and signs are to be flipped.

    That is so when the model holds the constant but the nuisance alone does not (one-sample tests, the mean of one
    group), or when the effect has the same size in every row and the nuisance holds no constant (differences with
    signs). A comparison of groups coded -1, 1 has the constant in its nuisance and is permuted.
    """
    X, Z = partition(M, C)
    if _holds_constant(orth(_without(M, Z))):
        return False
    return _holds_constant(orth(M)) or bool(np.ptp(np.abs(X)) <= ESTIMABLE_RTOL * np.abs(X).max())


def interchangeable(M: FloatArray) -> NDArray[np.int64]:
    """Labels 0 .. L - 1, equal for observations with equal rows of M (n, K)."""
    _, labels = np.unique(M, axis=0, return_inverse=True)
    return np.asarray(labels, dtype=np.int64).reshape(len(M))


def t_from_cosine(h: FloatArray, dof: int) -> FloatArray:
    """T of the correlation h = u / sqrt(|e|^2 - |w|^2): increasing, so maxima may be taken of h.

    -1 and 1 give infinite t; infinite h stay (the maximum over no voxels).
    """
    h = np.asarray(h, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = h * np.sqrt(dof / np.maximum(1.0 - h * h, 0.0))
    return np.where(np.isinf(h), h, t)
