"""The statistic of every voxel under rearrangements, as maps in float64, for what is made of whole maps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.permutation.residuals import residuals
from voxloom.kernels.permutation.rows import VANISHED, rows_of, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]

#: Rearrangements and voxels of one product. Every product has this shape, and begins at a multiple of it, so that a
#: number does not depend on what else is asked for.
PERMUTATIONS, VOXELS = 32, 1024


def cosine_maps(Y: NDArray[np.floating], indices: IndexArray, model: Projections) -> FloatArray:
    """Give h of every voxel under each rearrangement.

    Parameters
    ----------
    Y : (n, V) array
        Maps.
    indices : (P, m) array of int32
        Rearrangements, 1-based and signed; the same bits for any number of them after a multiple of `PERMUTATIONS`.
    model : Projections

    Returns
    -------
    (P, V) array
        NaN at voxels that cannot be tested.
    """
    h = np.empty((len(indices), Y.shape[1]))
    for part, block, kept, U in _products(Y, indices, model):
        _write_cosines(U, model.effect.shape[1], model.signed, kept, h[part, block])
    return h


def share_maps(Y: NDArray[np.floating], indices: IndexArray, model: Projections) -> tuple[FloatArray, FloatArray]:
    """Give what effect and error of every voxel are under each rearrangement, for data of unit norm.

    Parameters are those of `cosine_maps`, the model with one effect.

    Returns
    -------
    effect : (P, V) array
        Product of the data with the unit effect, signed; NaN at voxels that cannot be tested.
    error : (P, V) array
        Residual sum of squares.
    """
    effect, error = np.full((2, len(indices), Y.shape[1]), np.nan)
    for part, block, kept, U in _products(Y, indices, model):
        left = 1.0 - (U[:, 1:, : kept.size] ** 2).sum(axis=1)
        u = np.where(left > VANISHED, U[:, 0, : kept.size], 0.0)
        effect[part, block] = np.where(kept, u, np.nan)
        error[part, block] = np.where(kept, np.maximum(left - u * u, 0.0), np.nan)
    return effect, error


def _products(
    Y: NDArray[np.floating], indices: IndexArray, model: Projections
) -> Iterator[tuple[slice, slice, NDArray[np.bool_], FloatArray]]:
    """Rearrangements, voxels, which of these can be tested, and products (., width, .) of the rows with their data."""
    rows = rows_of(model, indices)
    n_perm, (m, width) = len(indices), rows.design.shape
    A = np.zeros((-(-n_perm // PERMUTATIONS) * PERMUTATIONS, width, m))
    write_rows(rows, A[:n_perm])
    for block in sub_blocks(Y.shape[1], VOXELS):
        e, kept = residuals(Y[:, block], model)
        tile = np.zeros((VOXELS, m))
        tile[: len(e)][kept] = e[kept]
        for part in sub_blocks(n_perm, PERMUTATIONS):
            U = A[part.start : part.start + PERMUTATIONS].reshape(-1, m) @ tile.T
            yield part, block, kept, U.reshape(-1, width, VOXELS)[: part.stop - part.start]


@nb.njit(nogil=True, cache=True)
def _write_cosines(U: FloatArray, r: int, signed: bool, kept: NDArray[np.bool_], out: FloatArray) -> None:
    """Turn products (., width, .) into h (P, V)."""
    n_perm, n_voxels = out.shape
    left, square = np.empty(n_voxels), np.empty(n_voxels)
    for p in range(n_perm):
        left[:], square[:] = 1.0, 0.0
        for k in range(r, U.shape[1]):
            for v in range(n_voxels):
                left[v] -= U[p, k, v] ** 2
        for k in range(r):
            for v in range(n_voxels):
                square[v] += U[p, k, v] ** 2
        for v in range(n_voxels):
            length = U[p, 0, v] if signed else np.sqrt(square[v])
            h = length / np.sqrt(left[v]) if left[v] > VANISHED else 0.0
            out[p, v] = h if kept[v] else np.nan
