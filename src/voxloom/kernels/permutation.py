"""Any contrast as a permutation test: partition of the design, and each treatment of the nuisance as fixed projections.

Split M b into X (C b) + Z g. Take x, the unit part of X apart from Z, and z, a basis of Z. A refit of the model to
rearranged data then needs only projections of fixed data e on rearranged rows, u = (P x)'e and w = (P z)'e: |e|^2
does not change, the residual sum of squares is |e|^2 - |u|^2 - |w|^2, and

    h = |u| / sqrt(|e|^2 - |w|^2)

is a monotone function of t or F. So all rearrangements of all voxels are one matrix product (Winkler et al. 2014,
NeuroImage 92:381). The methods differ in what e is and in which rows move:

=============  ====================  ============================================================
freedman-lane  e = y without Z       P x and P z; as if Z's fit were added back before the refit
ter-braak      e = y without M       the same rows; tests C b* = C b, the observed statistic apart
manly          e = y                 the same rows, all of the data rearranged
dekker         e = y without Z       P x without Z, orthonormal again; Z stays
huh-jhun       e = Q'y               P Q'x, with Q an orthonormal basis of what is orthogonal to Z
=============  ====================  ============================================================

Only the span of Z and x enter, and these are the same for the partitions of Guttman, Beckmann and Ridgway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import null_space, qr

from voxloom.kernels.linalg import orth, reduce_design

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A vector is in a space, and numbers are equal, when they are to this share of their size: rounding alone.
SAME = 1e-10
#: Share by which later maps are preferred among equals when maps are left out for Huh and Jhun's basis; it makes the
#: choice independent of rounding.
LATER = 1e-6


class Projections(NamedTuple):
    """Projections that hold a permutation test of C b = 0 in the model M b; n maps, m values of data each.

    Attributes
    ----------
    removed : (n, a) array
        Orthonormal basis of what is taken from the data once.
    rest : (n, b) array
        Completes `removed` to an orthonormal basis of the model.
    effect : (m, r) array
        Orthonormal basis of the effect of interest apart from the nuisance; for a t test signed as C b.
    moving : (m, q') array
        Orthonormal nuisance that is rearranged with the effect and whose projection depends on the rearrangement.
    held : (m, k) array
        Orthonormal nuisance that stays, and that the rearranged effect is kept apart from.
    basis : (n, m) array or None
        Orthonormal; data are its products with the maps. None for the maps themselves.
    dof : int
        n - rank(M).
    signed : bool
        Whether the statistic is t, of one row and with a sign; else F.
    """

    removed: FloatArray
    rest: FloatArray
    effect: FloatArray
    moving: FloatArray
    held: FloatArray
    basis: FloatArray | None
    dof: int
    signed: bool

    @property
    def size(self) -> int:
        """Number m of data that are rearranged."""
        return len(self.effect)

    @property
    def effect_removed(self) -> bool:
        """Whether the data hold no effect, so that the order as it stands tells nothing."""
        return not self.rest.shape[1]

    @property
    def width(self) -> int:
        """Rows of the product for each rearrangement, r + q'."""
        return int(self.effect.shape[1] + self.moving.shape[1])


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


def freedman_lane(model: Split) -> Projections:
    """Rearrange the residuals of the nuisance (Freedman and Lane 1983)."""
    return _projections(model, model.Z, model.X)


def ter_braak(model: Split) -> Projections:
    """Rearrange the residuals of the full model (ter Braak 1992)."""
    return _projections(model, np.hstack([model.Z, model.X]), model.nothing)


def manly(model: Split) -> Projections:
    """Rearrange the data with their nuisance (Manly 1986)."""
    return _projections(model, model.fixed, np.hstack([model.moving, model.X]))


def dekker(model: Split) -> Projections:
    """Rearrange the effect's residuals of the nuisance (Dekker, Krackhardt and Snijders 2007)."""
    return _projections(model, model.Z, model.X)._replace(moving=model.nothing, held=model.moving)


def huh_jhun(model: Split) -> Projections:
    """Rearrange n - q values that hold the data without the nuisance (Huh and Jhun 2001).

    Their basis is free; it is that of Theil (1965) here, a value for every map but q of them, so that it does not
    depend on how the nuisance is written.
    """
    Q = _complement(model.Z)
    found = _projections(model, model.Z, model.X)
    return found._replace(basis=Q, effect=Q.T @ model.X, moving=Q.T @ model.nothing, held=Q.T @ model.nothing)


#: Treatments of the nuisance by name.
NUISANCE: dict[str, Callable[[Split], Projections]] = {
    "freedman-lane": freedman_lane,
    "dekker": dekker,
    "ter-braak": ter_braak,
    "manly": manly,
    "huh-jhun": huh_jhun,
}


def _projections(model: Split, removed: FloatArray, rest: FloatArray) -> Projections:
    return Projections(removed, rest, model.X, model.moving, model.nothing, None, model.dof, model.signed)


def _complement(Z: FloatArray) -> FloatArray:
    """Orthonormal basis (n, n - q) of what is orthogonal to orthonormal Z, as near as can be to n - q of the maps."""
    n, q = Z.shape
    preferred = 1.0 + LATER * np.arange(n) / n
    kept = np.sort(qr(Z.T * preferred, mode="r", pivoting=True)[1][q:]) if q else np.arange(n)
    R = np.eye(n)[:, kept] - Z @ Z[kept].T
    values, vectors = np.linalg.eigh(R[kept])
    return np.asarray(R @ (vectors / np.sqrt(values)) @ vectors.T)


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


def stat_of_cosine(h: FloatArray, model: Projections) -> FloatArray:
    """Turn h = |u| / sqrt(|e|^2 - |w|^2), a correlation, into t or F; increasing, so maxima may be taken of h.

    A correlation of 1 gives an infinite statistic; infinite h stay (the maximum over no voxels).
    """
    h = np.asarray(h, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = h * np.sqrt(model.dof / np.maximum(1.0 - h * h, 0.0))
        stat = t if model.signed else t * np.abs(t) / model.effect.shape[1]
    return np.where(np.isinf(h), h, stat)


def cosine_of_stat(stat: FloatArray, model: Projections) -> FloatArray:
    """Inverse of `stat_of_cosine`; a negative F is reached by every voxel."""
    stat = np.asarray(stat, dtype=np.float64)
    t = stat if model.signed else np.sqrt(np.maximum(stat, 0.0) * model.effect.shape[1])
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(t), np.sign(t), t / np.hypot(t, np.sqrt(model.dof)))
