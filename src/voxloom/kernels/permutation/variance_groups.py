"""Aspin-Welch v and its generalisation G: tests of C b = 0 where groups of maps have variances of their own.

With W diagonal, w_g = (sum of the residual-forming matrix's diagonal in group g) / (sum of squared residuals there),

    G = (C b)' [C (M'W M)^-1 C']^-1 (C b) / (r L),    L = 1 + 2 (r - 1) A / (r (r + 2)),
    A = sum_g (1 - n_g w_g / tr W)^2 / (sum of the residual-forming matrix's diagonal in group g)

is about F with r and r (r + 2) / (3 A) degrees of freedom; v is its signed root for r = 1 (Winkler et al. 2014,
NeuroImage 92:381). Of two means it is Welch's t, of several his analysis of variance.

The degrees of freedom differ between voxels and rearrangements, so values are compared as normal deviates.

All that a refit needs are products, of the data with an orthonormal basis of what the design spans within each group,
and of their squares with the groups: the sum of squared residuals of a group is its sum of squares and a quadratic form
in those products. So refits of all rearrangements are two matrix products (`kernels.permutation.welch_maps`). They
lose digits where a group has next to no residuals; there, and where the last bit counts, a voxel is refitted by
itself (`refit`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.z_by_dof import f_to_z_by_dof, t_to_z_by_dof

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.partition import Split
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Residuals of a group with less than this share of a degree of freedom are rounding.
NO_DOF = 1e-8
#: Sums of squares of a group count as at least this share of a voxel's: a group whose values are equal gives a very
#: large statistic, not an infinite one.
LEAST_SHARE = 1e-12
#: Length below which a direction of the design has no part in a group.
NO_PART = 1e-10


class VarianceGroups(NamedTuple):
    """A design with groups of rows that have a variance each.

    Attributes
    ----------
    basis : (n, K) array
        Orthonormal basis of the design, the r effects of interest last.
    n_effects : int
    signed : bool
        Whether the statistic is v, with a sign; else G.
    group : (n,) array of int
        Group of each row.
    size, dof : (groups,) arrays
        Rows of each group, and sum of the residual-forming matrix's diagonal over them.
    squares : (groups, K, K) array
        Cross products of the basis within each group.
    rows : (n, q) array
        Orthonormal basis of what the design spans within the groups, without what no rearrangement changes: that has
        no part in the data.
    effects : (r, q) array
        Coefficients of the effects, of the products of data with `rows`.
    forms : (groups, q, q) array
        What these products take from the sum of squares of each group: residuals are the rest.
    """

    basis: FloatArray
    n_effects: int
    signed: bool
    group: IntArray
    size: FloatArray
    dof: FloatArray
    squares: FloatArray
    rows: FloatArray
    effects: FloatArray
    forms: FloatArray


class Welch(NamedTuple):
    """v or G and their denominator degrees of freedom, of one shape."""

    stat: FloatArray
    dof: FloatArray


def variance_groups(model: Split, group: IntArray) -> VarianceGroups:
    """Groups of a split model.

    Parameters
    ----------
    model : Split
    group : (n,) array of int
        0 .. groups - 1.

    Raises
    ------
    InputError
        The design leaves a group without residuals.
    """
    basis = np.hstack([model.Z, model.X])
    member = np.equal.outer(np.unique(group), group).astype(np.float64)
    squares = np.einsum("gn,nk,nl->gkl", member, basis, basis)
    size = member.sum(axis=1)
    dof = size - np.trace(squares, axis1=1, axis2=2)
    if (dof < NO_DOF).any():
        raise InputError(
            "variance_groups",
            f"group {int(np.argmin(dof)) + 1} has {int(size[np.argmin(dof)])} maps, which the design fits exactly.",
            "Its variance cannot be told; join it with another.",
        )
    rows = _rows(basis, member, model.fixed)
    coefficients = basis.T @ rows
    # residuals within a group are orthogonal to what the design spans there: those of the group's own fit, and what its
    # own fit is apart from the design's
    own = member[:, :, None] * rows
    apart = own - member[:, :, None] * (basis @ coefficients)
    forms = own.transpose(0, 2, 1) @ own - apart.transpose(0, 2, 1) @ apart
    effects = np.ascontiguousarray(coefficients[len(coefficients) - model.X.shape[1] :])
    return VarianceGroups(basis, model.X.shape[1], model.signed, group, size, dof, squares, rows, effects, forms)


def _rows(basis: FloatArray, member: FloatArray, fixed: FloatArray) -> FloatArray:
    """Orthonormal basis (n, q) of what a basis spans within the groups (groups, n), without the `fixed` columns."""
    parts = [np.linalg.svd(own[:, None] * basis, full_matrices=False) for own in member]
    spanned = np.hstack([u[:, s > NO_PART] for u, s, _ in parts])
    u, s, _ = np.linalg.svd(spanned - fixed @ (fixed.T @ spanned), full_matrices=False)
    return np.ascontiguousarray(u[:, s > 0.5])  # the fixed columns lie in the span, so s are 0 and 1


def as_z(found: Welch, groups: VarianceGroups) -> FloatArray:
    """Turn v or G into normal deviates; a value depends on no other."""
    if groups.signed:
        return t_to_z_by_dof(found.stat, found.dof)
    return f_to_z_by_dof(found.stat, groups.n_effects, found.dof)


def refit(e: FloatArray, indices: IndexArray, p: IntArray, v: IntArray, groups: VarianceGroups) -> Welch:
    """V or G of some voxels under a rearrangement each, by a refit: sums in the order of the data.

    Parameters
    ----------
    e : (V, n) array
        Data that are rearranged.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    p, v : (N,) arrays of int
        Which rearrangement of which voxel.
    groups : VarianceGroups
    """
    found = Welch(np.empty(len(p)), np.empty(len(p)))
    _refit(e, indices, p, v, groups, found.stat, found.dof)
    return found


@nb.njit(nogil=True, cache=True)
def _refit(
    e: FloatArray,
    indices: IndexArray,
    at_p: IntArray,
    at_v: IntArray,
    groups: VarianceGroups,
    stat: FloatArray,
    dof: FloatArray,
) -> None:
    n, K = groups.basis.shape
    c, ss = np.empty(K), np.empty(len(groups.dof))
    w, H = np.empty(len(groups.dof)), np.empty((K, K))
    for i in range(len(at_p)):
        index, data = indices[at_p[i]], e[at_v[i]]
        c[:], ss[:] = 0.0, 0.0
        for j in range(n):
            row = groups.basis[abs(index[j]) - 1]
            value = data[j] if index[j] > 0 else -data[j]
            for k in range(K):
                c[k] += row[k] * value
        for j in range(n):
            at = abs(index[j]) - 1
            row = groups.basis[at]
            left = data[j] if index[j] > 0 else -data[j]
            for k in range(K):
                left -= row[k] * c[k]
            ss[groups.group[at]] += left * left
        stat[i], dof[i] = _studentize(c, ss, groups, w, H)


@nb.njit(nogil=True, cache=True)
def _studentize(
    c: FloatArray, ss: FloatArray, groups: VarianceGroups, w: FloatArray, H: FloatArray
) -> tuple[float, float]:
    """V or G of one voxel, and its degrees of freedom; w (groups,) and H (K, K) are room to work in."""
    r, first = groups.n_effects, len(c) - groups.n_effects
    trace, A = 0.0, 0.0
    for g in range(w.size):
        w[g] = groups.dof[g] / max(ss[g], LEAST_SHARE)
        trace += groups.size[g] * w[g]
    for g in range(w.size):
        A += (1.0 - groups.size[g] * w[g] / trace) ** 2 / groups.dof[g]
    dof, G = r * (r + 2) / (3.0 * A), 0.0
    _factor(groups.squares, w, H)
    # the last block of the factor is the root of the inverse of the effects' covariance
    for k in range(first, len(c)):
        u = 0.0
        for i in range(k, len(c)):
            u += H[i, k] * c[i]
        if groups.signed:
            return u, dof
        G += u * u
    return G / (r * (1.0 + 2.0 * (r - 1) * A / (r * (r + 2)))), dof


@nb.njit(nogil=True, cache=True)
def _factor(squares: FloatArray, w: FloatArray, H: FloatArray) -> None:
    """Write the lower Cholesky factor of the weighted sum of cross products (groups, K, K) to H."""
    for k in range(len(H)):
        for i in range(k, len(H)):
            H[i, k] = 0.0
            for g in range(w.size):
                H[i, k] += w[g] * squares[g, i, k]
            for j in range(k):
                H[i, k] -= H[i, j] * H[k, j]
        H[k, k] = np.sqrt(H[k, k])
        for i in range(k + 1, len(H)):
            H[i, k] /= H[k, k]
