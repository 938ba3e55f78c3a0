"""Rows of a design under rearrangements: what residuals are projected on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import sub_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]

#: Below this share of its square the part of a rearranged effect apart from the nuisance is nothing.
VANISHED = 1e-12
#: Rearrangements whose effects are held at once to be made orthonormal.
AT_ONCE = 256


class Rows(NamedTuple):
    """The design of a test and its rearrangements.

    Attributes
    ----------
    design : (m, width) array
        Columns of the effect, then those of the nuisance that moves.
    n_effects : int
        Number r of columns of the effect.
    signed : bool
        Whether the statistic has the sign of the one effect (t); else it is of all their squares (F).
    indices : (P, m) array of int32
        Rearrangements, 1-based and signed.
    whitening : (P, r, r) array
        Makes the rearranged effects orthonormal apart from the nuisance that stays; of length 0 where they are.
    """

    design: FloatArray
    n_effects: int
    signed: bool
    indices: IndexArray
    whitening: FloatArray


def rows_of(model: Projections, indices: IndexArray) -> Rows:
    """Rows of a test under these rearrangements."""
    design = np.ascontiguousarray(np.hstack([model.effect, model.moving]))
    r = model.effect.shape[1]
    whitening = _whitening(model, indices) if model.held.shape[1] else np.empty((0, r, r))
    return Rows(design, r, model.signed, np.ascontiguousarray(indices), whitening)


def part_of(rows: Rows, part: slice) -> Rows:
    """Rows of a stretch of rearrangements."""
    return rows._replace(indices=rows.indices[part], whitening=rows.whitening[part])


def _whitening(model: Projections, indices: IndexArray) -> FloatArray:
    """T (P, r, r) with T' T the inverse of (P x)'(P x) - (Z'P x)'(Z'P x); 0 where the effect vanishes into Z."""
    effect = np.ascontiguousarray(model.effect)
    m, r = effect.shape
    T = np.empty((len(indices), r, r))
    for part in sub_blocks(len(indices), AT_ONCE):
        moved = np.empty((len(indices[part]), r, m))
        rearrange(effect, indices[part], moved)
        lost = moved @ model.held
        values, vectors = np.linalg.eigh(np.eye(r) - lost @ lost.transpose(0, 2, 1))
        scale = np.where(values > VANISHED, 1.0 / np.sqrt(np.maximum(values, VANISHED)), 0.0)
        # the symmetric root: of one row it is a positive number, which keeps the sign of t
        T[part] = vectors * scale[:, None, :] @ vectors.transpose(0, 2, 1)
    return T


@nb.njit(nogil=True, cache=True)
def rearrange(design: FloatArray, indices: IndexArray, out: NDArray[Any]) -> None:
    """Write the columns of the design under every rearrangement as rows (P, width, m)."""
    n, width = design.shape
    for p in range(len(indices)):
        for j in range(n):
            i = indices[p, j]
            for k in range(width):
                out[p, k, j] = design[i - 1, k] if i > 0 else -design[-i - 1, k]


@nb.njit(nogil=True, cache=True)
def write_rows(rows: Rows, out: NDArray[Any]) -> None:
    """Write the rows to `out` (P, width, m) of any float type, the effects orthonormal."""
    rearrange(rows.design, rows.indices, out)
    for p in range(len(rows.whitening)):
        _whiten(out[p], rows.whitening[p])


@nb.njit(nogil=True, cache=True)
def _whiten(effects: NDArray[Any], whitening: FloatArray) -> None:
    """Replace the first r rows by their combinations."""
    r = len(whitening)
    old = np.empty(r)
    for j in range(effects.shape[1]):
        for k in range(r):
            old[k] = effects[k, j]
        for k in range(r):
            total = 0.0
            for i in range(r):
                total += whitening[k, i] * old[i]
            effects[k, j] = total


@nb.njit(nogil=True, cache=True)
def cosine(e: FloatArray, rows: Rows, p: int) -> float:
    """H of one voxel's unit-norm data under rearrangement p, in float64: the number that counts."""
    r, index = rows.n_effects, rows.indices[p]
    left = 1.0
    for k in range(r, rows.design.shape[1]):
        left -= _projection(e, rows.design, k, index) ** 2
    if not left > VANISHED:
        return 0.0
    if rows.signed:
        stretch = rows.whitening[p, 0, 0] if len(rows.whitening) else 1.0
        return float(_projection(e, rows.design, 0, index) * stretch / np.sqrt(left))
    u = np.empty(r)
    for k in range(r):
        u[k] = _projection(e, rows.design, k, index)
    return float(np.sqrt(_square(u, rows, p)) / np.sqrt(left))


@nb.njit(nogil=True, cache=True)
def _square(u: FloatArray, rows: Rows, p: int) -> float:
    """Sum of squares of the effects, orthonormal."""
    total = 0.0
    for k in range(u.size):
        if len(rows.whitening):
            value = 0.0
            for i in range(u.size):
                value += rows.whitening[p, k, i] * u[i]
            total += value * value
        else:
            total += u[k] * u[k]
    return total


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
