"""z of t and of F for millions of values: piecewise polynomials through the exact numbers of `kernels.tails`.

The exact functions take 0.1 to 1 microsecond a value, a permutation of a brain has 230,000. The polynomials of degree
7 lie on pieces that are a sixteenth of a power of two wide, so that a value's piece can be read off the bits of the
value. No piece is wider than a sixteenth of its distance from the singularities (t = +-i sqrt(dof); F = 0 and
-df2 / df1), which keeps the error at that of the exact functions, 1e-12. Neighbours share their end points.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.tails import f_to_z, t_to_z

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Pieces per power of two, as the leading bits of the mantissa.
LEADING_BITS = 4
#: Powers of two between which there are pieces. |t| below the first is a piece of its own.
T_RANGE, F_RANGE = (-4, 10), (-24, 14)
DEGREE = 7
#: Values turned at once: 512 KiB stay in the cache, and allow the result to overwrite the statistic.
BLOCK = 65_536
#: Degrees of freedom whose tables are kept, 20 to 50 KB each.
TABLES = 64
_SHIFT = 52 - LEADING_BITS


@dataclass(frozen=True, eq=False)
class ZTable:
    """z as a function of a statistic; call it with an array.

    Attributes
    ----------
    exact : callable
        The function tabulated, used for what lies outside the table.
    pieces : (pieces + 2, DEGREE + 3) array
        Coefficients from the highest on, then middle and inverse half width of the piece. The last row, of all that
        lies above, is NaN; the first is of all that lies below.
    odd : bool
        Whether the pieces give ``z / stat`` of ``|stat|``; else z of stat.
    first : int
        Leading bits of the lowest value of row 1.
    """

    exact: Callable[[FloatArray], FloatArray]
    pieces: FloatArray
    odd: bool
    first: int

    def __call__(self, stat: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Turn a statistic into z, to 1e-11 of z (near the median of F: of 1); NaN stays.

        Parameters
        ----------
        stat : array
            Of any shape.
        out : array, optional
            C-contiguous, of the shape of `stat`, which it may be. A new one when not given.
        """
        stat = np.ascontiguousarray(stat, dtype=np.float64)
        out = np.empty_like(stat) if out is None else out
        values, z = stat.reshape(-1), out.reshape(-1)
        for block in sub_blocks(values.size, BLOCK):
            z[block] = self._block(values[block])
        return out

    def _block(self, stat: FloatArray) -> FloatArray:
        z, outside = _look_up(stat, self.pieces, self.first, self.odd)
        if outside:
            missed = np.isnan(z) & ~np.isnan(stat)
            z[missed] = self.exact(stat[missed])
        return np.asarray(z)


@lru_cache(maxsize=TABLES)
def t_table(dof: float) -> ZTable:
    """Table of `tails.t_to_z` for this many degrees of freedom."""
    return tabulate(partial(t_to_z, dof=dof), *T_RANGE, odd=True)


@lru_cache(maxsize=TABLES)
def f_table(df1: float, df2: float) -> ZTable:
    """Table of `tails.f_to_z` for these degrees of freedom."""
    return tabulate(partial(f_to_z, df1=df1, df2=df2), *F_RANGE, odd=False)


def tabulate(exact: Callable[[FloatArray], FloatArray], low: int, high: int, *, odd: bool) -> ZTable:
    """Tabulate a smooth function between two powers of two; an odd one from 0 on."""
    leading = np.arange((high - low) * 2**LEADING_BITS + 1) + (np.float64(2.0**low).view(np.int64) >> _SHIFT)
    edges = (leading << _SHIFT).view(np.float64)
    if odd:
        edges = np.insert(edges, 0, 0.0)
    middle, half = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    u = chebyshev(DEGREE)
    x = middle[:, None] + half[:, None] * u
    x[:, 0], x[:, -1] = edges[:-1], edges[1:]
    y = _slope(exact, x) if odd else exact(x)
    coefficients = np.linalg.solve(np.vander(u), y.T).T
    pieces = np.column_stack([coefficients, middle, 1 / half])
    nothing = np.full((1, DEGREE + 3), np.nan)
    below = () if odd else (nothing,)
    return ZTable(exact, np.vstack([*below, pieces, nothing]), odd, int(leading[0]))


def chebyshev(degree: int) -> FloatArray:
    """Chebyshev's points in [-1, 1], both ends among them, which determine a polynomial."""
    return np.cos(np.pi * np.arange(degree, -1, -1) / degree)


def _slope(exact: Callable[[FloatArray], FloatArray], x: FloatArray) -> FloatArray:
    """``z / x``, at 0 its limit."""
    x = np.where(x == 0, 1e-9, x)
    return exact(x) / x


@nb.njit(nogil=True, cache=True)
def piece_rows(stat: FloatArray, first: int, n_rows: int, odd: bool) -> NDArray[np.int64]:
    """Row of `ZTable.pieces` for every value of contiguous `stat`."""
    rows = stat.view(np.int64) >> _SHIFT
    for k in range(rows.size):
        leading = rows[k] & (2 ** (63 - _SHIFT) - 1) if odd else rows[k]
        rows[k] = min(max(leading - first + 1, 0), n_rows - 1)
    return rows


@nb.njit(nogil=True, cache=True)
def _look_up(stat: FloatArray, pieces: FloatArray, first: int, odd: bool) -> tuple[FloatArray, int]:
    """Give z of every value, and how many have no piece and are NaN."""
    out, outside = np.empty(stat.size), 0
    rows = piece_rows(stat, first, len(pieces), odd)
    for k in range(stat.size):
        row, x = rows[k], abs(stat[k]) if odd else stat[k]
        u = (x - pieces[row, DEGREE + 1]) * pieces[row, DEGREE + 2]
        value = pieces[row, 0]
        for j in range(1, DEGREE + 1):
            value = value * u + pieces[row, j]
        out[k] = value * stat[k] if odd else value
        outside += value != value
    return out, outside
