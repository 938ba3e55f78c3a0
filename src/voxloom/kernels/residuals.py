"""Residuals of the nuisance at unit norm, the data of a permutation test, to the last bit those of each voxel alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation import FreedmanLane

    FloatArray = NDArray[np.float64]

#: Voxels whose residuals are made side by side: (1000, 32) of float64 stay in cache over all passes.
TILE = 32


def residuals(Y: NDArray[np.floating], model: FreedmanLane) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Unit-norm residuals of the nuisance, voxels first (V, n), and which voxels can be tested (V,)."""
    e = np.empty(Y.shape[::-1])
    block = np.array(Y, dtype=np.float64, order="C")
    return e, _reduce(block, model.Z, np.ascontiguousarray(model.X[:, 0]), e)


@nb.njit(nogil=True, cache=True)
def _reduce(Y: FloatArray, Z: FloatArray, x: FloatArray, e: FloatArray) -> NDArray[np.bool_]:
    """Write Y (n, V) without Z, at unit norm, to e (V, n); True where that can be done.

    Sums run over the maps in order, TILE voxels side by side, so that no value depends on its neighbours.
    """
    n, n_voxels = Y.shape
    kept = np.empty(n_voxels, np.bool_)
    tile = np.zeros((n, TILE))
    for start in range(0, n_voxels, TILE):
        width = min(TILE, n_voxels - start)
        tile[:, :width] = Y[:, start : start + width]
        total, left, error = _reduce_tile(tile, Z, x)
        for v in range(width):
            kept[start + v] = np.isfinite(total[v]) and error[v] > NO_VARIANCE**2 * total[v]
            scale = 1.0 / np.sqrt(left[v]) if left[v] > 0.0 else 1.0
            for j in range(n):
                e[start + v, j] = scale * tile[j, v]
    return kept


@nb.njit(nogil=True, cache=True)
def _reduce_tile(tile: FloatArray, Z: FloatArray, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Take Z from the tile; return sums of squares of data, residuals, and residuals of the full model."""
    n, q = Z.shape
    total, left, effect, error = np.zeros(TILE), np.zeros(TILE), np.zeros(TILE), np.zeros(TILE)
    w = np.zeros((q, TILE))
    for j in range(n):
        row = tile[j]
        for v in range(TILE):
            total[v] += row[v] * row[v]
        for k in range(q):
            for v in range(TILE):
                w[k, v] += Z[j, k] * row[v]
    for j in range(n):
        row = tile[j]
        for k in range(q):
            for v in range(TILE):
                row[v] -= Z[j, k] * w[k, v]
        for v in range(TILE):
            left[v] += row[v] * row[v]
            effect[v] += x[j] * row[v]
    for j in range(n):
        row = tile[j]
        for v in range(TILE):
            error[v] += (row[v] - x[j] * effect[v]) ** 2
    return total, left, error
