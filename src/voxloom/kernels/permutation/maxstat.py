"""Maximum and minimum over voxels under every rearrangement, and how often each voxel is reached.

U = A e in float32 takes nearly all the time. A float32 value is good to a bound known beforehand, so for each
rearrangement only the voxels within that bound of the extreme (or of what is to be reached) are computed again, in
float64 and in a fixed order of summation. The results are therefore those of a float64 enumeration, and bit-identical
for any cut of voxels or rearrangements, any BLAS and any number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.permutation.lanes import FOLD, LANES, MINMAX, fold, lowest, reaches
from voxloom.kernels.permutation.products import products_of
from voxloom.kernels.permutation.residuals import residuals
from voxloom.kernels.permutation.rows import VANISHED, Rows, cosine, part_of, rows_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]
    CountArray = NDArray[np.int64]

#: Unit roundoff of float32, and room for the few roundings beside the sums.
ROUNDOFF = 2.0**-24
SLACK = 8


class Extremes(NamedTuple):
    """Greatest and least h = |u| / sqrt(|e|^2 - |w|^2) over voxels, signed for t, and counts.

    Attributes
    ----------
    greatest, least : (P,) arrays
        -inf and inf where no voxel can be tested, the neutral elements of max and min. Of F, which has no sign,
        the least is not looked for and 0.
    reached : (V,) array of int
        Rearrangements whose h reaches the voxel's bar; 0 where no bars are given.
    """

    greatest: FloatArray
    least: FloatArray
    reached: CountArray


class Tally(NamedTuple):
    """What the voxels of a block are to reach (V,), empty if nothing; how often they did; whether -h counts too."""

    bars: FloatArray
    screen: ScreenArray
    reached: NDArray[np.int32]
    mirrored: bool


def extremes(
    Y: NDArray[np.floating],
    indices: IndexArray,
    model: Projections,
    *,
    bars: FloatArray | None = None,
    mirrored: bool = False,
) -> Extremes:
    """Greatest and least h over the voxels of Y for each rearrangement; `stat_of_cosine` makes them t or F.

    Parameters
    ----------
    Y : (n, V) array
        Maps. A voxel with a value that is not finite, or without residual variance, is left out.
    indices : (P, m) array of int32
        Rearrangements, 1-based and signed.
    model : Projections
    bars : (V,) array, optional
        Counts the rearrangements with h >= bar at each voxel.
    mirrored : bool
        Count those with -h >= bar too.
    """
    rows = rows_of(model, indices)
    products = products_of(rows)
    reached = np.zeros(Y.shape[1], np.int64)
    found = Extremes(np.full(len(indices), -np.inf), np.full(len(indices), np.inf if model.signed else 0.0), reached)
    bars = np.empty(0) if bars is None else bars
    for block in sub_blocks(Y.shape[1], products.voxels):
        e, kept = residuals(Y[:, block], model)
        columns = np.flatnonzero(kept)
        if not columns.size:
            continue
        # whole folds: the last voxel once more changes no extreme
        padded = np.pad(columns, (0, -columns.size % FOLD), mode="edge")
        to_reach = bars[block][padded] if bars.size else bars
        tally = Tally(to_reach, to_reach.astype(np.float32), np.zeros(padded.size, np.int32), mirrored)
        e = e[padded]
        for part, U in products.of(e):
            args = (e, part_of(rows, part), found.greatest[part], found.least[part])
            _settle(U, products.roundoffs, *args, tally)
        reached[block][columns] = tally.reached[: columns.size]
    return found


def observed(Y: NDArray[np.floating], model: Projections) -> FloatArray:
    """Value h of every voxel as it stands, (V,); NaN where a voxel cannot be tested.

    The greatest is bit for bit that of `extremes` for the identity.
    """
    h = np.full(Y.shape[1], np.nan)
    rows = rows_of(model, np.arange(1, model.size + 1, dtype=np.int32)[np.newaxis])
    for block in sub_blocks(Y.shape[1]):
        e, kept = residuals(Y[:, block], model)
        h[block][kept] = _cosines(e[kept], rows)
    return h


@nb.njit(nogil=True, cache=True)
def _cosines(e: FloatArray, rows: Rows) -> FloatArray:
    """H of every voxel (V, m) under the first rearrangement."""
    out = np.empty(len(e))
    for v in range(len(e)):
        out[v] = cosine(e[v], rows, 0)
    return out


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def _to_cosines(U: ScreenArray, r: int, signed: bool) -> None:
    """Turn row 0 of U (width, V), of r effects u and the nuisance w, into h, and row r into |e|^2 - |w|^2."""
    one, floor = np.float32(1.0), np.float32(VANISHED)
    h = U[0]
    if not signed:
        _to_lengths(U, r)
    if r == len(U):
        return
    left = U[r]
    for v in range(h.size):
        left[v] = one - left[v] * left[v]
    for k in range(r + 1, len(U)):
        w = U[k]
        for v in range(h.size):
            left[v] -= w[v] * w[v]
    for v in range(h.size):
        left[v] = max(left[v], floor)
        h[v] /= np.sqrt(left[v])


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)
def _to_lengths(U: ScreenArray, r: int) -> None:
    """Turn row 0 into the length of the first r rows."""
    length = U[0]
    for v in range(length.size):
        length[v] *= length[v]
    for k in range(1, r):
        u = U[k]
        for v in range(length.size):
            length[v] += u[v] * u[v]
    for v in range(length.size):
        length[v] = np.sqrt(length[v])


@nb.njit(nogil=True, cache=True)
def _tolerance(roundoffs: float, rows: Rows, p: int, room: float) -> float:
    """Bound of |h32 - h| over voxels with |e|^2 - |w|^2 >= room in float32.

    A product of unit vectors of length n in float32 errs by at most d = (n + 2) roundoffs in any order, hence the
    length of r effects by sqrt(r) d (times the stretch of the whitening, which makes unit vectors of shorter ones),
    and |w|^2 by D = 2 sqrt(q) d |w| + q d^2. As |u| <= sqrt(|e|^2 - |w|^2), h errs by at most sqrt(r) d / sqrt(room)
    + D / room.
    """
    r, q = rows.n_effects, rows.design.shape[1] - rows.n_effects
    d = (roundoffs + SLACK) * ROUNDOFF
    w = np.sqrt(max(1.0 - room, 0.0)) + np.sqrt(q) * d
    D = 2.0 * np.sqrt(q) * d * w + q * d * d + (q + 1) * ROUNDOFF if q else 0.0
    stretch = np.sqrt((rows.whitening[p] ** 2).sum()) if len(rows.whitening) else np.sqrt(r)
    return float(stretch * d / np.sqrt(room) + D / room + SLACK * ROUNDOFF)


@nb.njit(nogil=True, cache=True)
def _settle(
    U: ScreenArray,
    roundoffs: float,
    e: FloatArray,
    rows: Rows,
    greatest: FloatArray,
    least: FloatArray,
    tally: Tally,
) -> None:
    """Raise `greatest` and lower `least` (P,) by the voxels of U (P, width, V), products in float32, and count."""
    r, width = rows.n_effects, rows.design.shape[1]
    top, bottom = np.empty(LANES, np.float32), np.empty(LANES, np.float32)
    for p in range(len(U)):
        room = 1.0
        if width > 1 or not rows.signed:
            _to_cosines(U[p], r, rows.signed)
        if width > r:
            fold(U[p, r], top, bottom)
            room = lowest(bottom)
        tolerance = _tolerance(roundoffs, rows, p, room)
        fold(U[p, 0], top, bottom)
        if reaches(top, greatest[p] - tolerance):
            greatest[p] = _raise(greatest[p], 1.0, U[p, 0], top, tolerance, e, rows, p)
        for k in range(LANES):
            bottom[k] = -bottom[k]
        if rows.signed and reaches(bottom, -least[p] - tolerance):
            least[p] = -_raise(-least[p], -1.0, U[p, 0], bottom, tolerance, e, rows, p)
        if tally.bars.size:
            _count(U[p, 0], tolerance, e, rows, p, tally)


@nb.njit(nogil=True, cache=True)
def _count(h: ScreenArray, tolerance: float, e: FloatArray, rows: Rows, p: int, tally: Tally) -> None:
    """Count the voxels whose h, and -h where that counts, reaches its bar, those near it in float64."""
    near, unsure = np.float32(tolerance + SLACK * ROUNDOFF), 0
    screen, reached, mirrored = tally.screen, tally.reached, tally.mirrored
    for v in range(h.size):
        above, below = h[v] - screen[v], -h[v] - screen[v]
        reached[v] += np.int32(above >= near) + np.int32(mirrored & (below >= near))
        unsure += (abs(above) < near) | (mirrored & (abs(below) < near))
    if not unsure:
        return
    for v in range(h.size):
        if abs(h[v] - screen[v]) < near:
            reached[v] += cosine(e[v], rows, p) >= tally.bars[v]
        if mirrored and abs(-h[v] - screen[v]) < near:
            reached[v] += -cosine(e[v], rows, p) >= tally.bars[v]


@nb.njit(nogil=True, cache=True)
def _raise(
    best: float,
    sign: float,
    h: ScreenArray,
    lanes: ScreenArray,
    tolerance: float,
    e: FloatArray,
    rows: Rows,
    p: int,
) -> float:
    """Greatest of `best` and sign * h in float64, given h in float32 and its greatest value in every lane."""
    # the maximum in float64 is at least lanes.max() - tolerance, so nothing below another tolerance can be it
    bar = max(best, lanes.max() - tolerance) - tolerance
    for k in range(LANES):
        if lanes[k] >= bar:
            for v in range(k, h.size, LANES):
                if sign * h[v] >= bar:
                    best = max(best, sign * cosine(e[v], rows, p))
                    bar = max(bar, best - tolerance)
    return best
