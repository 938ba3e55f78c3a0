"""Aspin-Welch v and G of every voxel under rearrangements: two matrix products, and elementwise arithmetic.

See `kernels.permutation.variance_groups` for the algebra. Products have one shape and begin at multiples of it, as in
`kernels.permutation.stat_maps`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.permutation.residuals import residuals
from voxloom.kernels.permutation.rows import rearrange
from voxloom.kernels.permutation.stat_maps import PERMUTATIONS, VOXELS
from voxloom.kernels.permutation.variance_groups import LEAST_SHARE, VarianceGroups, Welch, as_z, refit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]

#: A group with a smaller share of a voxel's sum of squares has lost more than five of sixteen digits: refitted.
REFITTED = 1e-5
#: Voxels side by side in the elementwise arithmetic: everything of them stays in the first cache.
LANES = 256


class Tile(NamedTuple):
    """V or G of some voxels under some rearrangements.

    Attributes
    ----------
    part : slice
        Of the rearrangements.
    block : slice
        Of the voxels.
    columns : (v,) array of int
        Those of the block that can be tested.
    e : (v, n) array
        Their data.
    found : Welch
        (p, v) arrays; NaN where a refit is needed.
    """

    part: slice
    block: slice
    columns: NDArray[np.int64]
    e: FloatArray
    found: Welch


def tiles(Y: NDArray[np.floating], indices: IndexArray, model: Projections, groups: VarianceGroups) -> Iterator[Tile]:
    """All rearrangements of the maps Y (n, V), tile by tile; parameters as of `z_maps`."""
    n_perm, q, n_free = len(indices), groups.rows.shape[1], len(groups.size) - 1
    padded = np.concatenate([indices, np.repeat(indices[-1:], -n_perm % PERMUTATIONS, axis=0)])
    A, members = np.empty((len(padded), q, len(Y))), np.empty((len(padded), n_free, len(Y)))
    rearrange(groups.rows, padded, A)
    rearrange(np.equal.outer(groups.group, np.arange(n_free)).astype(np.float64), np.abs(padded), members)
    for block in sub_blocks(Y.shape[1], VOXELS):
        e, kept = residuals(Y[:, block], model)
        data = np.zeros((VOXELS, len(Y)))
        data[: len(e)][kept] = e[kept]
        squares, columns = data**2, np.flatnonzero(kept)
        for part in sub_blocks(n_perm, PERMUTATIONS):
            here = slice(part.start, part.start + PERMUTATIONS)
            U = (A[here].reshape(-1, len(Y)) @ data.T).reshape(PERMUTATIONS, q, VOXELS)
            S = (members[here].reshape(-1, len(Y)) @ squares.T).reshape(PERMUTATIONS, n_free, VOXELS)
            found = Welch(*np.empty((2, part.stop - part.start, VOXELS)))
            _studentize(U, S, groups, found.stat, found.dof)
            yield Tile(part, block, columns, e[kept], Welch(found.stat[:, columns], found.dof[:, columns]))


def z_maps(Y: NDArray[np.floating], indices: IndexArray, model: Projections, groups: VarianceGroups) -> FloatArray:
    """V or G of every voxel under each rearrangement as a normal deviate, (P, V); NaN where it cannot be tested.

    Parameters
    ----------
    Y : (n, V) array
        Maps.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed; the same bits for any number of them after a multiple of `PERMUTATIONS`.
    model : Projections
        What is taken from the data before.
    groups : VarianceGroups
    """
    z = np.full((len(indices), Y.shape[1]), np.nan)
    for tile in tiles(Y, indices, model, groups):
        found, (p, v) = tile.found, np.nonzero(np.isnan(tile.found.stat))
        found.stat[p, v], found.dof[p, v] = refit(tile.e, indices[tile.part], p, v, groups)
        z[tile.part, tile.block][:, tile.columns] = as_z(found, groups)
    return z


def observed_z(Y: NDArray[np.floating], model: Projections, groups: VarianceGroups) -> FloatArray:
    """The same of the maps as they stand, (V,), by refits."""
    z = np.full(Y.shape[1], np.nan)
    identity = np.arange(1, len(Y) + 1, dtype=np.int32)[np.newaxis]
    for block in sub_blocks(Y.shape[1]):
        e, kept = residuals(Y[:, block], model)
        v = np.flatnonzero(kept)
        z[block][kept] = as_z(refit(e, identity, np.zeros_like(v), v, groups), groups)
    return z


@nb.njit(nogil=True, cache=True)
def _studentize(U: FloatArray, S: FloatArray, groups: VarianceGroups, stat: FloatArray, dof: FloatArray) -> None:
    """Write v or G and its degrees of freedom (P, V) of products U (P, q, V), sums of squares S (P, groups - 1, V)."""
    n_groups, K, r = len(groups.size), groups.squares.shape[1], groups.n_effects
    w, c, H = np.empty((n_groups, LANES)), np.empty((r, LANES)), np.empty((K, K, LANES))
    A, trace, least, u = np.empty(LANES), np.empty(LANES), np.empty(LANES), np.empty((U.shape[1], LANES))
    for p in range(len(stat)):
        for start in range(0, stat.shape[1], LANES):
            u[:], w[:-1] = U[p, :, start : start + LANES], S[p, :, start : start + LANES]
            _residuals(u, groups, w, least)
            _weights(groups, w, trace, A)
            _effects(u, groups, w, c, H)
            _write(c, A, least, groups, stat[p, start : start + LANES], dof[p, start : start + LANES])


@nb.njit(nogil=True, cache=True)
def _residuals(U: FloatArray, groups: VarianceGroups, ss: FloatArray, least: FloatArray) -> None:
    """Turn sums of squares ss (groups, LANES), the last unknown, into those of residuals; write the least of them."""
    last = len(ss) - 1
    ss[last] = 1.0  # data have unit norm
    for g in range(last):
        for v in range(LANES):
            ss[last, v] -= ss[g, v]
    for i in range(len(U)):
        for j in range(i + 1):
            for g in range(len(ss)):
                f = groups.forms[g, i, j] if i == j else 2.0 * groups.forms[g, i, j]
                a, b, out = U[i], U[j], ss[g]
                for v in range(LANES):
                    out[v] -= f * a[v] * b[v]
    least[:] = ss[last]
    for g in range(last):
        for v in range(LANES):
            least[v] = min(least[v], ss[g, v])


@nb.njit(nogil=True, cache=True)
def _weights(groups: VarianceGroups, w: FloatArray, trace: FloatArray, A: FloatArray) -> None:
    """Turn sums of squares w (groups, LANES) into weights; write their trace, and A."""
    trace[:], A[:] = 0.0, 0.0
    for g in range(len(w)):
        dof, size, row = groups.dof[g], groups.size[g], w[g]
        for v in range(LANES):
            row[v] = dof / max(row[v], LEAST_SHARE)
            trace[v] += size * row[v]
    for v in range(LANES):
        trace[v] = 1.0 / trace[v]
    for g in range(len(w)):
        share, size, row = 1.0 / groups.dof[g], groups.size[g], w[g]
        for v in range(LANES):
            A[v] += share * (1.0 - size * row[v] * trace[v]) ** 2


@nb.njit(nogil=True, cache=True)
def _effects(U: FloatArray, groups: VarianceGroups, w: FloatArray, c: FloatArray, H: FloatArray) -> None:
    """Write the effects c (r, LANES) times the last block of the factor H of the weighted cross products."""
    r, first = len(c), len(H) - len(c)
    _factor(groups.squares, w, H)
    for k in range(r):
        c[k] = 0.0
        for i in range(len(U)):
            f, a, out = groups.effects[k, i], U[i], c[k]
            for v in range(LANES):
                out[v] += f * a[v]
    for k in range(r):  # from the first row of the transposed factor on, so that none is needed again
        out, h = c[k], H[first + k, first + k]
        for v in range(LANES):
            out[v] *= h[v]
        for i in range(k + 1, r):
            a, h = c[i], H[first + i, first + k]
            for v in range(LANES):
                out[v] += h[v] * a[v]


@nb.njit(nogil=True, cache=True)
def _factor(squares: FloatArray, w: FloatArray, H: FloatArray) -> None:
    """Write the lower Cholesky factor of the weighted sum of cross products (groups, K, K) to H (K, K, LANES)."""
    for k in range(len(H)):
        for i in range(k, len(H)):
            out = H[i, k]
            out[:] = 0.0
            for g in range(len(w)):
                f, a = squares[g, i, k], w[g]
                for v in range(LANES):
                    out[v] += f * a[v]
            for j in range(k):
                a, b = H[i, j], H[k, j]
                for v in range(LANES):
                    out[v] -= a[v] * b[v]
        root = H[k, k]
        for v in range(LANES):
            root[v] = np.sqrt(root[v])
        for i in range(k + 1, len(H)):
            out = H[i, k]
            for v in range(LANES):
                out[v] /= root[v]


@nb.njit(nogil=True, cache=True)
def _write(
    c: FloatArray, A: FloatArray, least: FloatArray, groups: VarianceGroups, stat: FloatArray, dof: FloatArray
) -> None:
    """Write v or G of studentized effects, NaN where a group has next to no residuals."""
    r = groups.n_effects
    scale = 2.0 * (r - 1) / (r * (r + 2.0))
    if groups.signed:
        stat[:] = c[0]
    else:
        stat[:] = 0.0
        for k in range(r):
            for v in range(LANES):
                stat[v] += c[k, v] ** 2
        for v in range(LANES):
            stat[v] /= r * (1.0 + scale * A[v])
    for v in range(LANES):
        dof[v] = r * (r + 2) / (3.0 * A[v])
        stat[v] = stat[v] if least[v] > REFITTED else np.nan
