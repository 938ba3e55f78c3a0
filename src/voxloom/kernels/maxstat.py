"""Maximum and minimum t over voxels under every rearrangement: screened in float32, settled in float64.

U = A e in float32 takes nearly all the time. A float32 value is good to a bound known beforehand, so for each
rearrangement only the voxels within that bound of the extreme are computed again, in float64 and in a fixed
order of summation. The results are therefore those of a float64 enumeration, and bit-identical for any cut of
voxels or rearrangements, any BLAS and any number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.products import products_of
from voxloom.kernels.residuals import residuals

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation import FreedmanLane
    from voxloom.kernels.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]

#: A row of the product is folded to this many running extremes, four values a step: element v is in lane v %
#: LANES. One running value would be a chain of scalar comparisons (0.54 ns a voxel; 0.12 ns so).
LANES = 64
FOLD = 4 * LANES
#: Unit roundoff of float32, and room for the few roundings beside the sums.
ROUNDOFF = 2.0**-24
SLACK = 8
#: Below this share of |e|^2 outside the nuisance the rearranged data say nothing on the effect; h is then 0.
VANISHED = 1e-12
HUGE = np.float32(3e38)  # finite, as MINMAX promises
# what lets max and min become vector instructions; sums keep their order
MINMAX = {"nnan", "ninf", "nsz"}


class Extremes(NamedTuple):
    """Greatest and least h = u / sqrt(|e|^2 - |w|^2) over voxels for every rearrangement, each (P,).

    -inf and inf where no voxel can be tested, the neutral elements of max and min.
    """

    greatest: FloatArray
    least: FloatArray


def extremes(Y: NDArray[np.floating], indices: IndexArray, model: FreedmanLane) -> Extremes:
    """Greatest and least h over the voxels of Y for each rearrangement; `t_from_cosine` makes them t.

    Parameters
    ----------
    Y : (n, V) array
        Maps. A voxel with a value that is not finite, or without residual variance, is left out.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    model : FreedmanLane
        With one column of interest.
    """
    design = np.hstack([model.X, model.moving])
    products = products_of(design, indices)
    found = Extremes(np.full(len(indices), -np.inf), np.full(len(indices), np.inf))
    for block in sub_blocks(Y.shape[1], products.voxels):
        e, kept = residuals(Y[:, block], model)
        columns = np.flatnonzero(kept)
        if columns.size:
            # whole folds: the last voxel once more changes no extreme
            e = e[np.pad(columns, (0, -columns.size % FOLD), mode="edge")]
            for part, U in products.of(e):
                args = (e, design, indices[part], found.greatest[part], found.least[part])
                _settle(U, products.roundoffs, *args)
    return found


def observed(Y: NDArray[np.floating], model: FreedmanLane) -> FloatArray:
    """Value h of every voxel as it stands, (V,); NaN where a voxel cannot be tested.

    The greatest is bit for bit that of `extremes` for the identity.
    """
    h = np.full(Y.shape[1], np.nan)
    design = np.hstack([model.X, model.moving])
    identity = np.arange(1, len(Y) + 1, dtype=np.int32)
    for block in sub_blocks(Y.shape[1]):
        e, kept = residuals(Y[:, block], model)
        h[block][kept] = _values(e[kept], design, identity)
    return h


@nb.njit(nogil=True, cache=True)
def _value(e: FloatArray, design: FloatArray, index: IndexArray) -> float:
    """One h in float64: the number that counts."""
    left = 1.0
    for k in range(1, design.shape[1]):
        left -= _projection(e, design, k, index) ** 2
    return _projection(e, design, 0, index) / np.sqrt(left) if left > VANISHED else 0.0


@nb.njit(nogil=True, cache=True)
def _projection(e: FloatArray, design: FloatArray, k: int, index: IndexArray) -> float:
    """Product of e with rearranged column k, in two running sums (the wait for one sum would double the time)."""
    one, two = 0.0, 0.0
    for j in range(0, e.size - 1, 2):
        a, b = index[j], index[j + 1]
        one += e[j] * (design[abs(a) - 1, k] * (1.0 if a > 0 else -1.0))
        two += e[j + 1] * (design[abs(b) - 1, k] * (1.0 if b > 0 else -1.0))
    if e.size % 2:
        a = index[e.size - 1]
        one += e[e.size - 1] * (design[abs(a) - 1, k] * (1.0 if a > 0 else -1.0))
    return one + two


@nb.njit(nogil=True, cache=True)
def _values(e: FloatArray, design: FloatArray, index: IndexArray) -> FloatArray:
    out = np.empty(len(e))
    for v in range(len(e)):
        out[v] = _value(e[v], design, index)
    return out


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def _to_cosines(U: ScreenArray) -> None:
    """Turn row 0 of U (width, V), u, into h, and row 1 into |e|^2 - |w|^2."""
    one, floor = np.float32(1.0), np.float32(VANISHED)
    h, left = U[0], U[1]
    for v in range(h.size):
        left[v] = one - left[v] * left[v]
    for k in range(2, len(U)):
        w = U[k]
        for v in range(h.size):
            left[v] -= w[v] * w[v]
    for v in range(h.size):
        left[v] = max(left[v], floor)
        h[v] /= np.sqrt(left[v])


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def _fold(h: ScreenArray, top: ScreenArray, bottom: ScreenArray) -> None:
    """Greatest and least value of h in every lane; h is a whole number of folds long."""
    top[:] = -HUGE
    bottom[:] = HUGE
    for v in range(0, h.size, FOLD):
        a, b, c, d = (
            h[v : v + LANES],
            h[v + LANES : v + 2 * LANES],
            h[v + 2 * LANES : v + 3 * LANES],
            h[v + 3 * LANES : v + FOLD],
        )
        for k in range(LANES):
            top[k] = max(top[k], max(max(a[k], b[k]), max(c[k], d[k])))
            bottom[k] = min(bottom[k], min(min(a[k], b[k]), min(c[k], d[k])))


@nb.njit(nogil=True, cache=True)
def _tolerance(roundoffs: float, q: int, room: float) -> float:
    """Bound of |h32 - h| over voxels with |e|^2 - |w|^2 >= room in float32.

    A product of unit vectors of length n in float32 errs by at most d = (n + 2) roundoffs in any order, hence
    |w|^2 by D = 2 sqrt(q) d |w| + q d^2. As |u| <= sqrt(|e|^2 - |w|^2), h errs by at most d / sqrt(room) + D
    / room.
    """
    d = (roundoffs + SLACK) * ROUNDOFF
    w = np.sqrt(max(1.0 - room, 0.0)) + np.sqrt(q) * d
    D = 2.0 * np.sqrt(q) * d * w + q * d * d + (q + 1) * ROUNDOFF if q else 0.0
    return float(d / np.sqrt(room) + D / room + SLACK * ROUNDOFF)


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def _least(lanes: ScreenArray) -> float:
    """Least of the lanes, which are overwritten."""
    quarter = LANES // 4
    for k in range(quarter):
        rest = min(lanes[k + quarter], min(lanes[k + 2 * quarter], lanes[k + 3 * quarter]))
        lanes[k] = min(lanes[k], rest)
    least = lanes[0]
    for k in range(1, quarter):
        least = min(least, lanes[k])
    return float(least)


@nb.njit(nogil=True, cache=True)
def _reaches(lanes: ScreenArray, bar: float) -> bool:
    """Whether any lane is at least `bar`; a count, because counts become vector instructions."""
    height, count = np.float32(bar), 0
    for k in range(LANES):
        count += lanes[k] >= height
    return count > 0


@nb.njit(nogil=True, cache=True)
def _settle(
    U: ScreenArray,
    roundoffs: float,
    e: FloatArray,
    design: FloatArray,
    indices: IndexArray,
    greatest: FloatArray,
    least: FloatArray,
) -> None:
    """Raise `greatest` and lower `least` (P,) by the voxels of U (P, width, V), products in float32."""
    width = design.shape[1]
    top, bottom = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    tolerance = _tolerance(roundoffs, 0, 1.0)
    for p in range(len(U)):
        if width > 1:
            _to_cosines(U[p])
            _fold(U[p, 1], top, bottom)
            tolerance = _tolerance(roundoffs, width - 1, _least(bottom))
        _fold(U[p, 0], top, bottom)
        if _reaches(top, greatest[p] - tolerance):
            greatest[p] = _raise(greatest[p], 1.0, U[p, 0], top, tolerance, e, design, indices[p])
        for k in range(LANES):
            bottom[k] = -bottom[k]
        if _reaches(bottom, -least[p] - tolerance):
            least[p] = -_raise(-least[p], -1.0, U[p, 0], bottom, tolerance, e, design, indices[p])


@nb.njit(nogil=True, cache=True)
def _raise(
    best: float,
    sign: float,
    h: ScreenArray,
    lanes: ScreenArray,
    tolerance: float,
    e: FloatArray,
    design: FloatArray,
    index: IndexArray,
) -> float:
    """Greatest of `best` and sign * h in float64, given h in float32 and its greatest value in every lane."""
    # the maximum in float64 is at least lanes.max() - tolerance, so nothing below another tolerance can be it
    bar = max(best, lanes.max() - tolerance) - tolerance
    for k in range(LANES):
        if lanes[k] >= bar:
            for v in range(k, h.size, LANES):
                if sign * h[v] >= bar:
                    best = max(best, sign * _value(e[v], design, index))
                    bar = max(bar, best - tolerance)
    return best
