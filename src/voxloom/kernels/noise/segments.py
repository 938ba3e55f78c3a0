"""Stretches of scans, the gaps between them, and the precision of stationary AR(1) across them.

The precision of an AR(1) series of unit innovation variance, observed at some scans alone, is tridiagonal: rows i and j
with d - 1 scans left out between them correlate by rho^d. Written as what all rows have in common and what is missing
at the ends of stretches it is ::

    D(rho) = (1 + rho^2) I - rho N - rho^2 sum_g f_g(rho) E_g
    log|D| = S log(1 - rho^2) - sum over gaps log(1 - rho^(2d))

N joins rows that follow each other. ``E_g = U_g U_g'`` gathers edges u of one kind. A gap of d has two,
``(e_i + s e_j) / sqrt(2)`` with s of 1 and -1, where ``f = (1 + s rho^(d-2)) / (1 + s rho^d)``; for d = 2, one volume
left out, that of s = -1 is 0. The first and the last row, e_i, have f = 1, and so have rows at a gap so wide that
nothing correlates over it. Each f is positive.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Scans apart from which rows count as unrelated: 0.99^4096 is 1e-18. Number the scans of another run that far on.
FAR = 4096


class Edges(NamedTuple):
    """The edges of D, sorted by kind.

    Attributes
    ----------
    rows : (2, m) array of int
        Rows at which each edge u is not zero; the same one twice at a single row.
    weights : (2, m) array
        u at these rows.
    kind : (m,) array of int
        Which E_g it belongs to.
    distance, sign : (g,) arrays of int
        d and s of each kind; s = 0 is the kind, always the first, with f = 1.
    """

    rows: IntArray
    weights: FloatArray
    kind: IntArray
    distance: IntArray
    sign: IntArray

    def factors(self, rho: FloatArray) -> FloatArray:
        """Factors f of the kinds, (..., g), for rho (...)."""
        x, near = (rho[..., None] ** power for power in (self.distance, self.distance - 2))
        return np.asarray((1 + self.sign * near) / (1 + self.sign * x))

    def slopes(self, rho: float) -> tuple[FloatArray, FloatArray, FloatArray]:
        """``b = rho^2 f`` of each kind, (g,), and its first two derivatives; ``b = 1 - (1 - rho^2) h``."""
        s, d = self.sign, self.distance
        x, dx, d2x = rho**d, d * rho ** (d - 1), d * (d - 1) * rho ** (d - 2)
        h = 1 / (1 + s * x)
        dh = -s * dx * h**2
        d2h = -s * d2x * h**2 + 2 * (s * dx) ** 2 * h**3
        rest = 1 - rho**2
        return 1 - rest * h, 2 * rho * h - rest * dh, 2 * h + 4 * rho * dh - rest * d2h

    def across(self, F: FloatArray) -> FloatArray:
        """``U'F``, (m, n), for F (T, n)."""
        (i, j), (a, b) = self.rows, self.weights[..., None]
        return np.asarray(a * F[i] + b * F[j])

    def back(self, F: FloatArray, n_rows: int) -> FloatArray:
        """``U F``, (T, n), for F (m, n)."""
        out = np.zeros((n_rows, F.shape[1]))
        for row, weight in zip(self.rows, self.weights):
            np.add.at(out, row, weight[:, None] * F)
        return out


class Segments(NamedTuple):
    """Stretches of rows without a gap, as noise models need them.

    Attributes
    ----------
    starts : (S,) array of int
        First row of each stretch.
    n_rows : int
    steps : (T,) array of int
        Scans since the row before; 0 where no row before has to do with this one.
    edges : Edges
    """

    starts: IntArray
    n_rows: int
    steps: IntArray
    edges: Edges

    @property
    def longest(self) -> int:
        """Scans, with those left out, from the first to the last of the longest series of rows that correlate."""
        first = np.flatnonzero(self.steps == 0)
        return int(np.add.reduceat(self.steps, first).max()) + 1

    @property
    def distances(self) -> IntArray:
        """Step across each gap that is not too wide."""
        return self.steps[self.steps > 1]


def numbered(scans: ArrayLike | None, n_rows: int) -> IntArray:
    """Number of each row's scan, checked; None: no scan is left out.

    Raises
    ------
    DesignError
        Where they are not increasing integers, one for each row.
    """
    found = np.arange(n_rows) if scans is None else np.asarray(scans)
    if n_rows == 0 or found.shape != (n_rows,) or found.dtype.kind not in "iu" or np.any(np.diff(found) <= 0):
        raise DesignError("scans", f"{found.tolist()[:8]}... for {n_rows} rows.", "Increasing integers, one per row.")
    return found.astype(np.int64)


def segments_of(scans: ArrayLike | None, n_rows: int, *, stationary: bool) -> Segments:
    """Segments of rows that are these scans.

    Parameters
    ----------
    scans : (T,) array_like of int, or None
        Number of each row's scan, increasing; rows follow each other where it grows by 1.
    n_rows : int
    stationary : bool
        True: one stationary process. False: it starts from zero in every stretch, and last rows alone have an edge
        (nilearn's whitening, which leaves first rows as they are).

    Raises
    ------
    DesignError
        As `numbered`.
    """
    steps = np.diff(numbered(scans, n_rows), prepend=0)
    starts = np.append(0, np.flatnonzero(steps[1:] > 1) + 1)
    steps[starts if not stationary else starts[(starts == 0) | (steps[starts] >= FAR)]] = 0
    first = np.flatnonzero(steps == 0)
    ends = np.bincount(np.append(first[1:], n_rows) - 1, minlength=n_rows)
    if stationary:
        ends[first] += 1
    return Segments(starts, n_rows, steps, _edges(ends, steps))


def _edges(ends: IntArray, steps: IntArray) -> Edges:
    """Edges at single rows, as many as `ends` (T,), and at gaps."""
    alone, half = np.flatnonzero(ends), np.sqrt(0.5)
    rows, weights, kinds = [[alone, alone]], [[np.sqrt(ends[alone]), np.zeros(alone.size)]], [(2, 0)]
    for d in np.unique(steps[steps > 1]):
        i = np.flatnonzero(steps == d) - 1
        for s in (1, -1) if d > 2 else (1,):
            rows.append([i, i + 1])
            weights.append([np.full(i.size, half), np.full(i.size, s * half)])
            kinds.append((int(d), s))
    kind = np.repeat(np.arange(len(kinds)), [len(i) for i, _ in rows])
    return Edges(np.hstack(rows), np.hstack(weights), kind, *np.array(kinds).T)
