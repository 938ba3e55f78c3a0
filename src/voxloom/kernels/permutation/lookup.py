"""Products of two-valued rows with a matrix by table lookup, for sign flips and comparisons of two groups.

A row that holds only two values picks, from each group of eight maps, one of 256 sums. With the sums in a
table a product takes one addition for eight multiplications (the method of four Russians): 120 (100 maps) to
150 (1000 maps) GFLOP/s of float32 on a core whose matrix product reaches 75 to 98.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]
    ByteArray = NDArray[np.uint8]

#: Maps of one table entry: a byte.
BITS = 8
#: Voxels side by side, and groups of maps whose tables (1 MiB, a second-level cache) are in use at once.
WIDTH, GROUPS = 128, 8
#: Values are equal within this; it is nothing beside the roundoff of float32.
SAME = 1e-12


class Levels(NamedTuple):
    """The two values of a design column under all rearrangements."""

    low: float
    high: float


def two_levels(x: FloatArray, *, signed: bool) -> Levels | None:
    """Values of x (n,), and with `signed` of -x, where there are but two; None else."""
    values = np.concatenate([x, -x]) if signed else x
    levels = Levels(float(values.min()), float(values.max()))
    far = np.minimum(np.abs(values - levels.low), np.abs(values - levels.high))
    return levels if far.max() <= SAME else None


def roundoffs(n: int, levels: Levels) -> float:
    """Bound, in roundoffs of float32, of the error of a product with a column of unit norm and length n."""
    additions = BITS + -(-n // BITS) + 3  # and the roundings of e, of the level and of their product
    return additions * max(abs(levels.low), abs(levels.high)) * float(np.sqrt(n))


@nb.njit(nogil=True, cache=True)
def encode(x: FloatArray, indices: NDArray[np.int32], middle: float) -> ByteArray:
    """Bytes (P, groups) of the rearranged column: bit b of group g is set where map 8 g + b takes the high value."""
    n_perm, n = indices.shape
    groups = (n + BITS - 1) // BITS
    codes = np.zeros((n_perm, (groups + 3) // 4 * 4), np.uint8)
    for p in range(n_perm):
        for j in range(n):
            i = indices[p, j]
            value = x[i - 1] if i > 0 else -x[-i - 1]
            if value > middle:
                codes[p, j // BITS] |= np.uint8(1 << (j % BITS))
    return codes


def product(codes: ByteArray, e: ScreenArray, levels: Levels, out: ScreenArray) -> None:
    """Write rows of `codes` times e (n, V) to `out` (P, V), both contiguous; V is a multiple of `WIDTH`."""
    _product(codes, e, np.float32(levels.low), np.float32(levels.high), out)


@nb.njit(nogil=True, cache=True)
def _product(codes: ByteArray, e: ScreenArray, low: np.float32, high: np.float32, out: ScreenArray) -> None:
    table = np.empty((GROUPS, 2**BITS, WIDTH), np.float32)
    for v in range(0, out.shape[1], WIDTH):
        for g in range(0, codes.shape[1], GROUPS):
            used = min(GROUPS, codes.shape[1] - g)
            _tabulate(e, g, v, low, high, table[:used])
            _look_up(codes, g, v, table[:used], out)


# rows are cut from whole arrays below: a slice of a slice has no known stride, and is not vectorised
@nb.njit(nogil=True, cache=True)
def _tabulate(e: ScreenArray, first: int, voxel: int, low: np.float32, high: np.float32, table: ScreenArray) -> None:
    """Sums over a group's maps of high times e where the bit of the code is set, of low times e else."""
    for g in range(len(table)):
        table[g, 0, :] = 0.0
        for b in range(BITS):
            j, half = BITS * (first + g) + b, 1 << b
            for c in range(half):
                clear, set_ = table[g, c], table[g, half + c]
                if j < len(e):
                    row = e[j, voxel : voxel + WIDTH]
                    for v in range(WIDTH):
                        set_[v] = clear[v] + high * row[v]
                        clear[v] += low * row[v]
                else:
                    for v in range(WIDTH):
                        set_[v] = clear[v]


@nb.njit(nogil=True, cache=True)
def _look_up(codes: ByteArray, first: int, voxel: int, table: ScreenArray, out: ScreenArray) -> None:
    """Add the entries of each row's codes from group `first`, four groups a step."""
    for p in range(len(codes)):
        total = out[p, voxel : voxel + WIDTH]
        if first == 0:
            total[:] = 0.0
        for g in range(0, len(table), 4):
            code = codes[p, first + g : first + g + 4]
            a, b = table[g, code[0]], table[g + 1, code[1]]
            c, d = table[g + 2, code[2]], table[g + 3, code[3]]
            for v in range(WIDTH):
                total[v] += (a[v] + b[v]) + (c[v] + d[v])
