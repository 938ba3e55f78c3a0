"""Projections of residuals on rearranged design columns in float32: nearly all the time of a permutation test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.permutation.lookup import Levels, encode, product, roundoffs, two_levels
from voxloom.kernels.permutation.rows import write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.rows import Rows

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]

#: Voxels whose residuals are made at once, and rows of A of one product: 512 x 1024 of float32 (2 MiB) beat
#: 256 and 128 rows and wider blocks.
VOXELS, ROWS = 1024, 512
#: The same for products by table: so many rows, that making a table costs a fifth of looking it up.
TABLE_VOXELS, TABLE_ROWS = 512, 2048
#: Fewer rearrangements than this do not pay for tables.
WORTH_TABLES = 2048


def products_of(rows: Rows) -> MatrixProducts | TableProducts:
    """Choose the faster way: tables for a column of two values under many rearrangements."""
    if rows.design.shape[1] == 1 and len(rows.indices) >= WORTH_TABLES and not len(rows.whitening):
        levels = two_levels(rows.design[:, 0], signed=bool((rows.indices < 0).any()))
        if levels is not None:
            return TableProducts(rows, levels)
    return MatrixProducts(rows)


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

    def __init__(self, rows: Rows) -> None:
        n, width = rows.design.shape
        self.rows = np.empty((len(rows.indices), width, n), np.float32)
        write_rows(rows, self.rows)
        self.roundoffs = float(n + 2)

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
    """The same by tables of sums (`kernels.permutation.lookup`), for one column of two values."""

    voxels = TABLE_VOXELS

    def __init__(self, rows: Rows, levels: Levels) -> None:
        self.levels = levels
        column = np.ascontiguousarray(rows.design[:, 0])
        self.codes = encode(column, rows.indices, (levels.low + levels.high) / 2)
        self.roundoffs = roundoffs(len(column), levels)

    def of(self, e: FloatArray) -> Iterator[tuple[slice, ScreenArray]]:
        """Give products (P, 1, V) of stretches of rearrangements with the voxels e (V, n)."""
        screen = np.ascontiguousarray(e.T, dtype=np.float32)
        out = np.empty((min(TABLE_ROWS, len(self.codes)), 1, len(e)), np.float32)
        for part in sub_blocks(len(self.codes), TABLE_ROWS):
            U = out[: part.stop - part.start]
            product(self.codes[part], screen, self.levels, U[:, 0])
            yield part, U
