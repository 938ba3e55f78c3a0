"""Data of a permutation test at unit norm, to the last bit those of each voxel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections

    FloatArray = NDArray[np.float64]

#: Voxels whose residuals are made side by side: (1000, 32) of float64 stay in cache over all passes.
TILE = 32
#: Voxels whose combinations of maps are made side by side, so that a row of the basis is read once for them.
SIDE_BY_SIDE = 8


def residuals(Y: NDArray[np.floating], model: Projections) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Unit-norm data that are rearranged, voxels first (V, m), and which voxels can be tested (V,)."""
    e = np.empty(Y.shape[::-1])
    block = np.array(Y, dtype=np.float64, order="C")
    removed, rest = (np.ascontiguousarray(Q) for Q in (model.removed, model.rest))
    kept = _reduce(block, removed, rest, e)
    return (e if model.basis is None else _in_basis(e, np.ascontiguousarray(model.basis))), kept


@nb.njit(nogil=True, cache=True)
def _reduce(Y: FloatArray, removed: FloatArray, rest: FloatArray, e: FloatArray) -> NDArray[np.bool_]:
    """Write Y (n, V) without what is removed, at unit norm, to e (V, n); True where that can be done.

    Sums run over the maps in order, TILE voxels side by side, so that no value depends on its neighbours.
    """
    n, n_voxels = Y.shape
    kept = np.empty(n_voxels, np.bool_)
    tile = np.zeros((n, TILE))
    for start in range(0, n_voxels, TILE):
        width = min(TILE, n_voxels - start)
        tile[:, :width] = Y[:, start : start + width]
        total = _squares(tile)
        _take(tile, removed)
        left = _squares(tile)
        for v in range(width):
            scale = 1.0 / np.sqrt(left[v]) if left[v] > 0.0 else 1.0
            for j in range(n):
                e[start + v, j] = scale * tile[j, v]
        _take(tile, rest)
        error = _squares(tile)
        for v in range(width):
            kept[start + v] = np.isfinite(total[v]) and error[v] > NO_VARIANCE**2 * total[v]
    return kept


@nb.njit(nogil=True, cache=True)
def _squares(tile: FloatArray) -> FloatArray:
    """Sums of squares over the maps."""
    total = np.zeros(TILE)
    for j in range(len(tile)):
        row = tile[j]
        for v in range(TILE):
            total[v] += row[v] * row[v]
    return total


@nb.njit(nogil=True, cache=True)
def _take(tile: FloatArray, Q: FloatArray) -> None:
    """Take the projection on orthonormal Q (n, k) from the tile (n, TILE)."""
    n, k_all = Q.shape
    w = np.zeros((k_all, TILE))
    for j in range(n):
        row = tile[j]
        for k in range(k_all):
            for v in range(TILE):
                w[k, v] += Q[j, k] * row[v]
    for j in range(n):
        row = tile[j]
        for k in range(k_all):
            for v in range(TILE):
                row[v] -= Q[j, k] * w[k, v]


@nb.njit(nogil=True, cache=True)
def _in_basis(e: FloatArray, basis: FloatArray) -> FloatArray:
    """Products (V, m) of data (V, n) with a basis (n, m), summed over the maps in order."""
    n, m = basis.shape
    out = np.zeros((len(e), m))
    for start in range(0, len(e), SIDE_BY_SIDE):
        for j in range(n):
            row = basis[j]
            for v in range(start, min(start + SIDE_BY_SIDE, len(e))):
                value, total = e[v, j], out[v]
                for k in range(m):
                    total[k] += value * row[k]
    return out
