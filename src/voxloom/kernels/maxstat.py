"""Maximum and minimum t over voxels under every rearrangement: screened in float32, settled in float64.

U = A e in float32 takes nearly all the time. A float32 value is good to a bound known beforehand, so for each
rearrangement only the voxels within that bound of the extreme are computed again, in float64 and in a fixed order
of summation. The results are therefore those of a float64 enumeration, and bit-identical for any cut of voxels or
rearrangements, any BLAS and any number of workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation import FreedmanLane
    from voxloom.kernels.rearrange import IndexArray

    FloatArray = NDArray[np.float64]
    ScreenArray = NDArray[np.float32]

#: Voxels and rows of A of one product: 256 x 1024 of float32 stay in 1 MiB of second-level cache.
VOXELS, ROWS = 1024, 256
#: Residuals below this share of the data are rounding: the voxel has no variance to test.
NO_VARIANCE = 1e-10
#: Unit roundoff of float32, and room for the few roundings beside the sums.
ROUNDOFF = 2.0**-24
SLACK = 8
#: Below this share of |e|^2 outside the nuisance the rearranged data say nothing on the effect; h is then 0.
VANISHED = 1e-12
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
    design = np.ascontiguousarray(np.hstack([model.X, model.moving]))
    rows = _rearranged(design, indices)
    n_perm, width, n = rows.shape
    found = Extremes(np.full(n_perm, -np.inf), np.full(n_perm, np.inf))
    stride = max(1, ROWS // width)
    product = np.empty((stride * width, VOXELS), np.float32)
    for block in sub_blocks(Y.shape[1], VOXELS):
        e, kept = residuals(Y[:, block], model)
        e = e[kept]
        screen = e.astype(np.float32).T
        for start in range(0, n_perm, stride):
            stretch = slice(start, start + stride)
            A = rows[stretch].reshape(-1, n)
            U = product[: len(A)] if len(e) == VOXELS else np.empty((len(A), len(e)), np.float32)
            np.matmul(A, screen, out=U)
            _settle(
                U.reshape(-1, width, len(e)), e, design, indices[stretch], found.greatest[stretch], found.least[stretch]
            )
    return found


def observed(Y: NDArray[np.floating], model: FreedmanLane) -> FloatArray:
    """Value h of every voxel as it stands, (V,); NaN where a voxel cannot be tested.

    The greatest is bit for bit that of `extremes` for the identity.
    """
    h = np.full(Y.shape[1], np.nan)
    design = np.ascontiguousarray(np.hstack([model.X, model.moving]))
    identity = np.arange(1, len(Y) + 1, dtype=np.int32)
    for block in sub_blocks(Y.shape[1], VOXELS):
        e, kept = residuals(Y[:, block], model)
        h[block][kept] = _values(e[kept], design, identity)
    return h


def residuals(Y: NDArray[np.floating], model: FreedmanLane) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Unit-norm residuals of the nuisance, voxels first (V, n), and which voxels can be tested (V,)."""
    e = np.array(Y.T, dtype=np.float64, order="C")
    return e, _reduce(e, model.Z, np.ascontiguousarray(model.X[:, 0]))


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _reduce(e: FloatArray, Z: FloatArray, x: FloatArray) -> NDArray[np.bool_]:
    """Take Z from every row of e and bring it to unit norm, in a fixed order of summation; True where it can be."""
    n, q = Z.shape
    kept = np.empty(len(e), np.bool_)
    w = np.empty(q)
    for v in range(len(e)):
        row = e[v]
        total, effect, left = 0.0, 0.0, 0.0
        w[:] = 0.0
        for j in range(n):
            total += row[j] * row[j]
            for k in range(q):
                w[k] += Z[j, k] * row[j]
        for j in range(n):
            for k in range(q):
                row[j] -= Z[j, k] * w[k]
            left += row[j] * row[j]
            effect += x[j] * row[j]
        error = 0.0
        for j in range(n):
            error += (row[j] - effect * x[j]) ** 2
        kept[v] = np.isfinite(total) and error > NO_VARIANCE**2 * total
        if kept[v]:
            scale = 1.0 / np.sqrt(left)
            for j in range(n):
                row[j] *= scale
    return kept


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
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


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _value(e: FloatArray, design: FloatArray, index: IndexArray) -> float:
    """One h in float64: the number that counts."""
    n, width = design.shape
    left = 1.0
    u = 0.0
    for k in range(width):
        s = 0.0
        for j in range(n):
            i = index[j]
            s += e[j] * design[i - 1, k] if i > 0 else -(e[j] * design[-i - 1, k])
        if k == 0:
            u = s
        else:
            left -= s * s
    return u / np.sqrt(left) if left > VANISHED else 0.0


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _values(e: FloatArray, design: FloatArray, index: IndexArray) -> FloatArray:
    out = np.empty(len(e))
    for v in range(len(e)):
        out[v] = _value(e[v], design, index)
    return out


@nb.njit(nogil=True, cache=True, fastmath=MINMAX)  # type: ignore[untyped-decorator]
def _screen(U: ScreenArray) -> tuple[np.float32, np.float32, np.float32]:
    """Turn row 0 of U (width, V) into h; return its greatest and least value and the least |e|^2 - |w|^2."""
    one, floor = np.float32(1.0), np.float32(VANISHED)
    greatest, least, room = np.float32(-np.inf), np.float32(np.inf), one
    h = U[0]
    if len(U) > 1:
        left = U[1]
        for v in range(h.size):
            left[v] = one - left[v] * left[v]
        for k in range(2, len(U)):
            for v in range(h.size):
                left[v] -= U[k, v] * U[k, v]
        for v in range(h.size):
            inside = max(left[v], floor)
            h[v] /= np.sqrt(inside)
            room = min(room, inside)
    for v in range(h.size):
        greatest = max(greatest, h[v])
        least = min(least, h[v])
    return greatest, least, room


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _tolerance(n: int, q: int, room: float) -> float:
    """Bound of |h32 - h| over voxels with |e|^2 - |w|^2 >= room in float32.

    A product of unit vectors of length n in float32 errs by at most d = (n + 2) roundoffs in any order, hence |w|^2
    by D = 2 sqrt(q) d |w| + q d^2. As |u| <= sqrt(|e|^2 - |w|^2), h errs by at most d / sqrt(room) + D / room.
    """
    d = (n + SLACK) * ROUNDOFF
    w = np.sqrt(max(1.0 - room, 0.0)) + np.sqrt(q) * d
    D = 2.0 * np.sqrt(q) * d * w + q * d * d + (q + 1) * ROUNDOFF if q else 0.0
    return d / np.sqrt(room) + D / room + SLACK * ROUNDOFF


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _settle(
    U: ScreenArray,
    e: FloatArray,
    design: FloatArray,
    indices: IndexArray,
    greatest: FloatArray,
    least: FloatArray,
) -> None:
    """Raise `greatest` and lower `least` (P,) by the voxels of U (P, width, V), whose products are float32."""
    n, width = design.shape
    for p in range(len(U)):
        top, bottom, room = _screen(U[p])
        tolerance = _tolerance(n, width - 1, room)
        if top + tolerance >= greatest[p]:
            greatest[p] = _raise(greatest[p], U[p, 0], 1.0, top, tolerance, e, design, indices[p])
        if bottom - tolerance <= least[p]:
            least[p] = -_raise(-least[p], U[p, 0], -1.0, -bottom, tolerance, e, design, indices[p])


@nb.njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _raise(
    best: float,
    h: ScreenArray,
    sign: float,
    top: float,
    tolerance: float,
    e: FloatArray,
    design: FloatArray,
    index: IndexArray,
) -> float:
    """Greatest of `best` and sign * h in float64, given h in float32 and its greatest value `top`."""
    # the true maximum is at least top - tolerance, so nothing below top - 2 tolerance can be it
    least = max(best, top - tolerance) - tolerance
    for v in range(h.size):
        if sign * h[v] >= least:
            best = max(best, sign * _value(e[v], design, index))
            least = max(best - tolerance, least)
    return best
