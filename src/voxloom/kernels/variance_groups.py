"""Aspin-Welch v and its generalisation G: tests of C b = 0 where groups of maps have variances of their own.

With W diagonal, w_g = (sum of the residual-forming matrix's diagonal in group g) / (sum of squared residuals there),

    G = (C b)' [C (M'W M)^-1 C']^-1 (C b) / (r L),    L = 1 + 2 (r - 1) A / (r (r + 2)),
    A = sum_g (1 - n_g w_g / tr W)^2 / (sum of the residual-forming matrix's diagonal in group g)

is about F with r and r (r + 2) / (3 A) degrees of freedom; v is its signed root for r = 1 (Winkler et al. 2014,
NeuroImage 92:381). Of two means it is Welch's t, of several his analysis of variance.

The degrees of freedom differ between voxels and rearrangements, so values are compared as normal deviates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.residuals import residuals
from voxloom.kernels.z_by_dof import f_to_z_by_dof, t_to_z_by_dof

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.partition import Split
    from voxloom.kernels.permutation import Projections
    from voxloom.kernels.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Residuals of a group with less than this share of a degree of freedom are rounding.
NO_DOF = 1e-8
#: Sums of squares of a group count as at least this share of a voxel's: a group whose values are equal gives a very
#: large statistic, not an infinite one.
LEAST_SHARE = 1e-12
#: Voxels whose residuals are made at once, and that are refitted side by side: twice as fast as 32.
VOXELS, TILE = 1024, 64


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
    """

    basis: FloatArray
    n_effects: int
    signed: bool
    group: IntArray
    size: FloatArray
    dof: FloatArray
    squares: FloatArray


class Welch(NamedTuple):
    """v or G and their denominator degrees of freedom, each (P, V)."""

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
    return VarianceGroups(basis, model.X.shape[1], model.signed, group, size, dof, squares)


def z_maps(Y: NDArray[np.floating], indices: IndexArray, model: Projections, groups: VarianceGroups) -> FloatArray:
    """V or G of every voxel under each rearrangement as a normal deviate, (P, V); NaN where it cannot be tested."""
    found = welch(Y, indices, model, groups)
    for stat, dof in zip(found.stat, found.dof):  # in place and one by one, as the maps of a tile may be large
        stat[:] = t_to_z_by_dof(stat, dof) if groups.signed else f_to_z_by_dof(stat, groups.n_effects, dof)
    return found.stat


def welch(Y: NDArray[np.floating], indices: IndexArray, model: Projections, groups: VarianceGroups) -> Welch:
    """V or G of every voxel under each rearrangement of rows and their groups.

    Parameters
    ----------
    Y : (n, V) array
        Maps.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    model : Projections
        What is taken from the data before; no value depends on other voxels or rearrangements, to the last bit.
    groups : VarianceGroups
    """
    found = Welch(*(np.full((len(indices), Y.shape[1]), np.nan) for _ in range(2)))
    for block in sub_blocks(Y.shape[1], VOXELS):
        e, kept = residuals(Y[:, block], model)
        _sweep(e, kept, indices, groups, found.stat[:, block], found.dof[:, block])
    return found


@nb.njit(nogil=True, cache=True)
def _sweep(
    e: FloatArray,
    kept: NDArray[np.bool_],
    indices: IndexArray,
    groups: VarianceGroups,
    stat: FloatArray,
    dof: FloatArray,
) -> None:
    """Write v or G and its degrees of freedom (P, V) of data (V, n), TILE voxels side by side."""
    n, K = groups.basis.shape
    tile, c, ss = np.zeros((n, TILE)), np.empty((K, TILE)), np.empty((len(groups.dof), TILE))
    w, H = np.empty(len(groups.dof)), np.empty((K, K))
    for start in range(0, len(e), TILE):
        width = min(TILE, len(e) - start)
        for v in range(width):
            tile[:, v] = e[start + v]
        for p in range(len(indices)):
            _refit(tile, indices[p], groups, c, ss)
            for v in range(width):
                if kept[start + v]:
                    stat[p, start + v], dof[p, start + v] = _studentize(c[:, v], ss[:, v], groups, w, H)


@nb.njit(nogil=True, cache=True)
def _refit(tile: FloatArray, index: IndexArray, groups: VarianceGroups, c: FloatArray, ss: FloatArray) -> None:
    """Write coefficients c (K, TILE) on the rearranged basis, and sums of squared residuals ss (groups, TILE)."""
    n, K = groups.basis.shape
    left = np.empty(TILE)
    c[:], ss[:] = 0.0, 0.0
    for j in range(n):
        i, sign = abs(index[j]) - 1, 1.0 if index[j] > 0 else -1.0
        row = tile[j]
        for k in range(K):
            b, total = sign * groups.basis[i, k], c[k]
            for v in range(TILE):
                total[v] += b * row[v]
    for j in range(n):
        i, sign = abs(index[j]) - 1, 1.0 if index[j] > 0 else -1.0
        left[:] = tile[j]
        for k in range(K):
            b, fit = sign * groups.basis[i, k], c[k]
            for v in range(TILE):
                left[v] -= b * fit[v]
        sums = ss[groups.group[i]]
        for v in range(TILE):
            sums[v] += left[v] * left[v]


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
