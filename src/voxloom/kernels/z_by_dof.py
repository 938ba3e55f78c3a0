"""z of t and F whose degrees of freedom differ from value to value, as those of v and G do between voxels.

The tables of `kernels.z_table` at eight degrees of freedom make polynomials of degree 7 in these too, on pieces that
are an eighth of a power of two wide. A value of t takes 50 ns, by the exact function 230.
"""

from __future__ import annotations

from functools import lru_cache, partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.tails import f_to_z, t_to_z
from voxloom.kernels.z_table import DEGREE, ZTable, chebyshev, f_table, piece_rows, t_table

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Pieces of a power of two of degrees of freedom, as the leading bits of the mantissa.
DOF_BITS = 3
#: Degrees of freedom between these powers of two have tables, one of 1 to 3 MB for each, made when it is needed.
DOF_RANGE = (0, 20)
#: Values turned at once.
BLOCK = 65_536
_SHIFT = 52 - DOF_BITS


class DofTable(NamedTuple):
    """Coefficients for the degrees of freedom from one power of two to the next.

    Attributes
    ----------
    base : ZTable
        Where the pieces of the statistic lie.
    edges : (pieces + 1,) array
        Of the degrees of freedom.
    coefficients : (pieces, rows, DEGREE + 1, DEGREE + 1) array
        By degree in the degrees of freedom, then in the statistic, from the highest on.
    """

    base: ZTable
    edges: FloatArray
    coefficients: FloatArray


def t_to_z_by_dof(t: FloatArray, dof: FloatArray) -> FloatArray:
    """Turn t into z as `tails.t_to_z`, to 1e-11; both of one shape. A value depends on no other."""
    return _turn(t, dof, _t_octave, t_to_z)


def f_to_z_by_dof(F: FloatArray, df1: float, df2: FloatArray) -> FloatArray:
    """Turn F into z as `tails.f_to_z`, to 1e-11 of the larger of z and 1; F and df2 of one shape."""
    return _turn(F, df2, partial(_f_octave, float(df1)), lambda F, df2: f_to_z(F, df1, df2))


@lru_cache(maxsize=16)
def _t_octave(octave: int) -> DofTable:
    return _tabulate(t_table.__wrapped__, octave)


@lru_cache(maxsize=16)
def _f_octave(df1: float, octave: int) -> DofTable:
    return _tabulate(partial(f_table.__wrapped__, df1), octave)


def _tabulate(make: Callable[[float], ZTable], octave: int) -> DofTable:
    edges = 2.0**octave * (1 + np.arange(2**DOF_BITS + 1) / 2**DOF_BITS)
    u, coefficients = chebyshev(DEGREE), []
    for start, stop in pairwise(edges):
        tables = np.stack([make(nu).pieces[:, : DEGREE + 1] for nu in (start + stop) / 2 + (stop - start) / 2 * u])
        coefficients.append(np.linalg.solve(np.vander(u), tables.reshape(DEGREE + 1, -1)).reshape(tables.shape))
    return DofTable(make(edges[0]), edges, np.stack(coefficients).swapaxes(1, 2).copy())


def _turn(
    stat: FloatArray,
    dof: FloatArray,
    octave_of: Callable[[int], DofTable],
    exact: Callable[[FloatArray, FloatArray], FloatArray],
) -> FloatArray:
    values, nu = (np.ascontiguousarray(a, dtype=np.float64).reshape(-1) for a in (stat, dof))
    z = np.full(values.size, np.nan)
    low, high = (2.0**power for power in DOF_RANGE)
    known = nu[(nu >= low) & (nu < high)]
    octaves = range(int(np.log2(known.min())), int(np.log2(known.max())) + 1) if known.size else ()
    for block in sub_blocks(values.size, BLOCK):
        for base, edges, coefficients in map(octave_of, octaves):
            _look_up(values[block], nu[block], base.pieces, base.first, base.odd, edges, coefficients, z[block])
    missed = np.flatnonzero(np.isnan(z) & ~np.isnan(values) & ~np.isnan(nu))
    z[missed] = exact(values[missed], nu[missed])
    return z.reshape(stat.shape)


@nb.njit(nogil=True, cache=True)
def _look_up(
    stat: FloatArray,
    dof: FloatArray,
    pieces: FloatArray,
    first: int,
    odd: bool,
    edges: FloatArray,
    coefficients: FloatArray,
    out: FloatArray,
) -> None:
    """Write z of values whose degrees of freedom lie between the edges; NaN where the statistic has no piece."""
    rows, places, c = piece_rows(stat, first, len(pieces), odd), dof.view(np.int64) >> _SHIFT, np.empty(DEGREE + 1)
    origin = edges.view(np.int64)[0] >> _SHIFT
    for v in range(stat.size):
        place = places[v] - origin
        if not 0 <= place < len(coefficients):
            continue
        row, x = rows[v], abs(stat[v]) if odd else stat[v]
        w = (2.0 * dof[v] - edges[place] - edges[place + 1]) / (edges[place + 1] - edges[place])
        c[:] = coefficients[place, row, 0]
        for j in range(1, DEGREE + 1):
            for k in range(DEGREE + 1):
                c[k] = c[k] * w + coefficients[place, row, j, k]
        u = (x - pieces[row, DEGREE + 1]) * pieces[row, DEGREE + 2]
        value = c[0]
        for k in range(1, DEGREE + 1):
            value = value * u + c[k]
        out[v] = value * stat[v] if odd else value
