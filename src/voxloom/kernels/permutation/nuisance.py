"""Each treatment of the nuisance as fixed projections, that hold a permutation test of any contrast.

Of a model split into x, the unit effect of interest apart from the nuisance, and z, a basis of the nuisance, a refit to
rearranged data needs only projections of fixed data e on rearranged rows, u = (P x)'e and w = (P z)'e: |e|^2
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
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import qr

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.partition import Split

    FloatArray = NDArray[np.float64]

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
    still : (n, f) array
        Orthonormal nuisance that no rearrangement changes; it is removed from the data, and no row of the product
        meets it as long as no map is missing.
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
    still: FloatArray
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
    return Projections(removed, rest, model.X, model.moving, model.nothing, model.fixed, None, model.dof, model.signed)


def _complement(Z: FloatArray) -> FloatArray:
    """Orthonormal basis (n, n - q) of what is orthogonal to orthonormal Z, as near as can be to n - q of the maps."""
    n, q = Z.shape
    preferred = 1.0 + LATER * np.arange(n) / n
    kept = np.sort(qr(Z.T * preferred, mode="r", pivoting=True)[1][q:]) if q else np.arange(n)
    R = np.eye(n)[:, kept] - Z @ Z[kept].T
    values, vectors = np.linalg.eigh(R[kept])
    return np.asarray(R @ (vectors / np.sqrt(values)) @ vectors.T)


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
