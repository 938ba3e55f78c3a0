"""The statistic of voxels that some maps lack, under rearrangements of all maps.

A map moves as a whole, with what it lacks: map i comes to row |r[i]| of the design whether it has a value at the voxel
or not, and the voxel is refitted to the values that it has, each beside the row that it came to. With e these values
without what is removed from them, at unit norm, B the rows that they came to of effect and moving nuisance, and N an
orthonormal basis of the nuisance that stays, over these maps,

    B'B - (N'B)'(N'B) = L L',    L^-1 B'e = (w, u),    h = u / sqrt(1 - |w|^2)

L depends on the rearrangement and on which maps are there, so it is made once for the voxels of a pattern. Sums run
over the maps in their order: no number depends on other voxels, to the last bit.

Degrees of freedom differ between patterns, and between rearrangements where a pattern lacks a whole level of a factor.
So that voxels can be compared, a value stands for the tail that it cuts off: it is given as the t (or F) that cuts
off the same with the degrees of freedom of all maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.equal_tails import f_with_dof, t_with_dof
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.linalg import NO_VARIANCE, sub_blocks
from voxloom.kernels.permutation.rows import VANISHED

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: A column of which less than this share of its square is there, or left apart from others, tells nothing.
DEPENDENT = 1e-10
#: Rearrangements whose numbers are made side by side, voxel after voxel: seven times as fast as one by one.
LANES = 64


def partial_voxels(Y: NDArray[np.floating], least: int) -> IntArray:
    """Voxels of Y (n, V) that lack a map, but not more than leave `least`."""
    n_there = np.empty(Y.shape[1], np.int64)
    for block in sub_blocks(Y.shape[1]):
        n_there[block] = np.isfinite(Y[:, block]).sum(axis=0)
    return np.flatnonzero((n_there < len(Y)) & (n_there >= least))


def partial_stat(Y: NDArray[np.floating], indices: IndexArray, model: Projections) -> FloatArray:
    """Compute t or F of every voxel under each rearrangement, with the degrees of freedom of all maps.

    Parameters
    ----------
    Y : (n, V) array
        Maps, not finite where missing.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    model : Projections
        Of the maps themselves (`basis` None).

    Returns
    -------
    (P, V) array
        NaN where the maps that are there do not tell the effect, or leave no error.
    """
    r = model.effect.shape[1]
    moved = _moved(np.hstack([model.moving, model.effect]), indices, min(LANES, len(indices)))
    still = np.hstack([model.still, model.held])
    h, dof = np.full((2, len(indices), Y.shape[1]), np.nan)
    pattern, present = group_patterns(pattern_bits(Y), len(Y))
    for number, there in enumerate(present):
        rows, absent, columns = np.flatnonzero(there), np.flatnonzero(~there), np.flatnonzero(pattern == number)
        bases = [_orthonormal(Q, rows) for Q in (model.removed, model.rest, still)]
        e, kept = _unit(np.array(Y[np.ix_(rows, columns)], dtype=np.float64), *bases[:2])
        found, of_pattern = _cosines(e, rows, absent, moved, r, model.signed, bases[2])
        h[:, columns] = np.where(kept, found[: len(h)], np.nan)
        dof[:, columns] = of_pattern[: len(h), None]
    with np.errstate(divide="ignore", invalid="ignore"):
        t = h * np.sqrt(dof / np.maximum(1.0 - h * h, 0.0))
    return t_with_dof(t, dof, model.dof) if model.signed else f_with_dof(t * t / r, r, dof, model.dof)


@nb.njit(nogil=True, cache=True)
def _moved(design: FloatArray, indices: IndexArray, lanes: int) -> FloatArray:
    """Rows of the design (n, width) that maps come to, (tiles, n, width, lanes); the last rearrangement fills up."""
    n, width = design.shape
    out = np.empty(((len(indices) + lanes - 1) // lanes, n, width, lanes))
    for p in range(len(out) * lanes):
        index = indices[min(p, len(indices) - 1)]
        for j in range(n):
            for k in range(width):
                row = design[abs(index[j]) - 1, k]
                out[p // lanes, j, k, p % lanes] = row if index[j] > 0 else -row
    return out


@nb.njit(nogil=True, cache=True)
def _orthonormal(Q: FloatArray, rows: IntArray) -> FloatArray:
    """Orthonormal basis of the columns of some rows of Q, each made orthogonal to those before it twice."""
    m, k = len(rows), Q.shape[1]
    out, n_kept = np.empty((m, k)), 0
    for c in range(k):
        column = Q[:, c][rows]
        size = (column * column).sum()
        for _ in range(2):
            for i in range(n_kept):
                column -= (out[:, i] * column).sum() * out[:, i]
        left = (column * column).sum()
        if left > DEPENDENT * max(size, DEPENDENT):
            out[:, n_kept] = column / np.sqrt(left)
            n_kept += 1
    return out[:, :n_kept].copy()


@nb.njit(nogil=True, cache=True)
def _unit(y: FloatArray, removed: FloatArray, rest: FloatArray) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Values y (m, v) without what is removed, at unit norm, and whether the model leaves an error."""
    total = _squares(y)
    _take(y, removed)
    left = _squares(y)
    e = y / np.sqrt(np.where(left > 0.0, left, 1.0))
    _take(y, rest)
    return e, _squares(y) > NO_VARIANCE**2 * total


@nb.njit(nogil=True, cache=True)
def _squares(y: FloatArray) -> FloatArray:
    """Sums of squares over the maps (v,)."""
    total = np.zeros(y.shape[1])
    for j in range(len(y)):
        for v in range(total.size):
            total[v] += y[j, v] * y[j, v]
    return total


@nb.njit(nogil=True, cache=True)
def _take(y: FloatArray, Q: FloatArray) -> None:
    """Take the projection on orthonormal Q (m, k) from y (m, v)."""
    w = _products(Q, y)
    for j in range(len(y)):
        for k in range(len(w)):
            for v in range(y.shape[1]):
                y[j, v] -= Q[j, k] * w[k, v]


@nb.njit(nogil=True, cache=True)
def _products(B: FloatArray, e: FloatArray) -> FloatArray:
    """B'e (k, v), summed over the maps in their order."""
    out = np.zeros((B.shape[1], e.shape[1]))
    for j in range(len(B)):
        for k in range(len(out)):
            for v in range(e.shape[1]):
                out[k, v] += B[j, k] * e[j, v]
    return out


@nb.njit(nogil=True, cache=True)
def _cosines(
    e: FloatArray, rows: IntArray, absent: IntArray, moved: FloatArray, r: int, signed: bool, held: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """H (tiles * lanes, v) of the data e (m, v) of one pattern, and degrees of freedom; NaN where no effect is told."""
    n_tiles, _, width, lanes = moved.shape
    n_voxels = e.shape[1]
    h, dof = np.full((n_tiles * lanes, n_voxels), np.nan), np.full(n_tiles * lanes, np.nan)
    L, inverse = np.empty((width, width, lanes)), np.empty((width, lanes))
    for t in range(n_tiles):
        here = h[t * lanes : (t + 1) * lanes]
        of_lane = dof[t * lanes : (t + 1) * lanes]
        _factor(moved[t], rows, absent, held, L, inverse)
        _count(inverse, len(rows) - held.shape[1], r, of_lane)
        for v in range(n_voxels):
            u = _weighted(moved[t], rows, e[:, v])
            left, square = np.ones(lanes), np.zeros(lanes)
            for k in range(width):
                for i in range(k):
                    u[k] -= L[k, i] * u[i]
                u[k] *= inverse[k]
                if k < width - r:
                    left -= u[k] * u[k]
                else:
                    square += u[k] * u[k]
            for p in range(lanes):
                if of_lane[p] > 0.0:
                    length = u[width - 1, p] if signed else np.sqrt(square[p])
                    here[p, v] = length / np.sqrt(left[p]) if left[p] > VANISHED else 0.0
    return h, dof


@nb.njit(nogil=True, cache=True)
def _weighted(moved: FloatArray, rows: IntArray, e: FloatArray) -> FloatArray:
    """B'e (width, lanes) of one voxel (m,), summed over the maps in their order."""
    _, width, lanes = moved.shape
    u = np.zeros((width, lanes))
    for j in range(len(rows)):
        B, value = moved[rows[j]], e[j]
        for k in range(width):
            for p in range(lanes):
                u[k, p] += value * B[k, p]
    return u


@nb.njit(nogil=True, cache=True)
def _gram(moved: FloatArray, rows: IntArray, absent: IntArray) -> FloatArray:
    """B'B (width, width, lanes), its lower triangle; over all maps it is the identity, from which the absent are taken.

    Or the sum of those that are there, where these are fewer.
    """
    _, width, lanes = moved.shape
    G, few, sign = np.zeros((width, width, lanes)), absent, -1.0
    if len(rows) < len(absent):
        few, sign = rows, 1.0
    else:
        for k in range(width):
            G[k, k] = 1.0
    for j in few:
        B = moved[j]
        for k in range(width):
            for i in range(k + 1):
                for p in range(lanes):
                    G[k, i, p] += sign * B[k, p] * B[i, p]
    return G


@nb.njit(nogil=True, cache=True)
def _factor(
    moved: FloatArray, rows: IntArray, absent: IntArray, held: FloatArray, L: FloatArray, inverse: FloatArray
) -> None:
    """Write L (width, width, lanes) of the rows apart from orthonormal `held`, and the inverse of its diagonal.

    Both are 0 for columns that depend on those before them.
    """
    _, width, lanes = moved.shape
    G = _gram(moved, rows, absent)
    size = np.empty((width, lanes))
    for k in range(width):
        size[k] = G[k, k]
    for c in range(held.shape[1]):
        lost = _weighted(moved, rows, held[:, c])
        for k in range(width):
            for i in range(k + 1):
                G[k, i] -= lost[k] * lost[i]
    L[:] = 0.0
    for k in range(width):
        for i in range(k + 1):
            for j in range(i):
                G[k, i] -= L[k, j] * L[i, j]
            if i < k:
                L[k, i] = G[k, i] * inverse[i]
        for p in range(lanes):
            apart = G[k, k, p] > DEPENDENT * max(size[k, p], DEPENDENT)
            L[k, k, p] = np.sqrt(G[k, k, p]) if apart else 0.0
            inverse[k, p] = 1.0 / L[k, k, p] if apart else 0.0
        for i in range(k):
            for p in range(lanes):
                if inverse[k, p] == 0.0:
                    L[k, i, p] = 0.0


@nb.njit(nogil=True, cache=True)
def _count(inverse: FloatArray, n_left: int, r: int, dof: FloatArray) -> None:
    """Write degrees of freedom (lanes,); NaN where an effect has no part of its own, or none are left."""
    width, lanes = inverse.shape
    for p in range(lanes):
        told, left = True, n_left
        for k in range(width):
            left -= inverse[k, p] > 0.0
            told = told and (k < width - r or inverse[k, p] > 0.0)
        dof[p] = left if told and left > 0 else np.nan
