"""Projections of residuals on rearranged design columns in float32: nearly all the time of a permutation test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.lookup import Levels, encode, product, roundoffs, two_levels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]

#: Voxels whose residuals are made at once, and rows of A of one product: 512 x 1024 of float32 (2 MiB) beat
#: 256 and 128 rows and wider blocks.
VOXELS, ROWS = 1024, 512
#: The same for products by table: so many rows, that making a table costs a fifth of looking it up.
TABLE_VOXELS, TABLE_ROWS = 512, 2048
#: Fewer rearrangements than this do not pay for tables.
WORTH_TABLES = 2048


def products_of(design: FloatArray, indices: IndexArray) -> MatrixProducts | TableProducts:
    """Choose the faster way: tables for a column of two values under many rearrangements.

    Parameters
    ----------
    design : (n, width) array
        Columns of unit norm.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    """
    if design.shape[1] == 1 and len(indices) >= WORTH_TABLES:
        levels = two_levels(design[:, 0], signed=bool((indices < 0).any()))
        if levels is not None:
            return TableProducts(design, indices, levels)
    return MatrixProducts(design, indices)


class MatrixProducts:
    """Products as A e in float32, for any design.

    Attributes
    ----------
    voxels : int
        Voxels to bring at once.
    roundoffs : float
        Bound of the error of a product of unit vectors, in roundoffs of float32.
    """

    voxels = VOXELS

    def __init__(self, design: FloatArray, indices: IndexArray) -> None:
        self.rows = _rearranged(design, indices)
        self.roundoffs = float(len(design) + 2)

    def of(self, e: FloatArray) -> Iterator[tuple[slice, ScreenArray]]:
        """Give products (P, width, V) of stretches of rearrangements with the voxels e (V, n)."""
        n_perm, width, n = self.rows.shape
        screen = e.astype(np.float32).T
        stride = max(1, ROWS // width)
        out = np.empty((stride, width, len(e)), np.float32)
        for part in sub_blocks(n_perm, stride):
            U = out[: part.stop - part.start]
            np.matmul(self.rows[part].reshape(-1, n), screen, out=U.reshape(-1, len(e)))
            yield part, U


class TableProducts:
    """The same by tables of sums (`kernels.lookup`), for one column of two values."""

    voxels = TABLE_VOXELS

    def __init__(self, design: FloatArray, indices: IndexArray, levels: Levels) -> None:
        self.levels = levels
        self.codes = encode(np.ascontiguousarray(design[:, 0]), indices, (levels.low + levels.high) / 2)
        self.roundoffs = roundoffs(len(design), levels)

    def of(self, e: FloatArray) -> Iterator[tuple[slice, ScreenArray]]:
        """Give products (P, 1, V) of stretches of rearrangements with the voxels e (V, n)."""
        screen = np.ascontiguousarray(e.T, dtype=np.float32)
        out = np.empty((min(TABLE_ROWS, len(self.codes)), 1, len(e)), np.float32)
        for part in sub_blocks(len(self.codes), TABLE_ROWS):
            U = out[: part.stop - part.start]
            product(self.codes[part], screen, self.levels, U[:, 0])
            yield part, U


@nb.njit(nogil=True, cache=True)
def _rearranged(design: FloatArray, indices: IndexArray) -> ScreenArray:
    """Design columns under every rearrangement as rows of the product, (P, width, n)."""
    n, width = design.shape
    rows = np.empty((len(indices), width, n), np.float32)
    for p in range(len(indices)):
        for j in range(n):
            i = indices[p, j]
            for k in range(width):
                rows[p, k, j] = design[i - 1, k] if i > 0 else -design[-i - 1, k]
    return rows
