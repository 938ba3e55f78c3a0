"""Stationary ARMA(1, 1), also across gaps: ``e_t = a e_{t-1} + n_t + b n_{t-1}``, n white.

White noise on top of AR(1), what scanners and physiology leave, is this with -a < b < 0; 3dREMLfit of AFNI fits the
same. The precision matrix is full, but innovations cost a recursion: ``x_t = e_t - a e_{t-1} - l_t x_{t-1}`` are
independent, of variance v_t, with ``l_t = b / v_{t-1}`` and ``v_t = 1 + b^2 - b l_t`` from ``v = (1 + 2 a b + b^2) /
(1 - a^2)`` at the first row (Ansley 1979). After d - 1 scans that are left out, with ``c = a^(d-1)``, it goes on with
``c a`` and ``c l_t``, and ``v_t = 1 + (a + b)^2 (1 - c^2) / (1 - a^2) + c^2 b^2 - c b (c l_t)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.segments import Segments

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Steps of the grid on Fisher's scale, ``tanh^-1``: a standard error of a at 100 volumes.
STEP = 0.1
#: a from 0 to tanh(2.6) = 0.989, b from -a to tanh(1) = 0.76: the first autocorrelation is not negative.
LAST_A, LAST_B = 26, 10


def _grid() -> IntArray:
    """Steps (G, 2) of a and b; b = -a is white noise whatever a is, so it stands there once, first."""
    rows = [(i, j) for i in range(LAST_A + 1) for j in range(1 - i if i else 0, LAST_B + 1)]
    return np.array(rows, dtype=np.int64)


#: Steps of a and b at each point of the grid, (G, 2), and their values.
GRID_STEPS: IntArray = _grid()
ARMA_GRID: FloatArray = np.tanh(STEP * GRID_STEPS)
#: Distance from white noise on Fisher's scale, ``tanh^-1 a + tanh^-1 b``.
FROM_WHITE: FloatArray = STEP * GRID_STEPS.sum(axis=1)
_INDEX = np.zeros((LAST_A + 1, LAST_A + LAST_B + 1), dtype=np.int64)
_INDEX[GRID_STEPS[:, 0], GRID_STEPS[:, 1] + LAST_A] = np.arange(len(GRID_STEPS))


def step_index(a: IntArray, b: IntArray) -> IntArray:
    """Index of the point with these steps; beyond the grid the nearest, white noise at b <= -a."""
    a, b = np.clip(a, 0, LAST_A), np.clip(b, -LAST_A, LAST_B)
    return np.asarray(np.where((b <= -a) & (a > 0), 0, _INDEX[a, b + LAST_A]))


def arma_index(a: FloatArray, b: FloatArray) -> IntArray:
    """Index into `ARMA_GRID` of the point nearest to each (a, b); that of white noise for NaN."""
    steps = [np.arctanh(np.clip(np.nan_to_num(x), -0.999, 0.999)) / STEP for x in (a, b)]
    return step_index(*(np.rint(x).astype(np.int64) for x in steps))


def autocorrelations(a: FloatArray, b: FloatArray) -> FloatArray:
    """Autocorrelations (2, ...) at lags 1 and 2."""
    rho = (1 + a * b) * (a + b) / (1 + 2 * a * b + b**2)
    return np.stack([rho, a * rho])


def from_autocorrelations(rho: FloatArray) -> FloatArray:
    """Values (2, n) of `ARMA_GRID` nearest to autocorrelations (2, n) at lags 1 and 2: a is their ratio."""
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.nan_to_num(rho[1] / rho[0], posinf=0.0, neginf=0.0)
    a = np.clip(np.rint(np.arctanh(np.clip(ratio, 0, 0.999)) / STEP), 0, LAST_A).astype(np.int64)
    b = np.arange(-LAST_A, LAST_B + 1)
    points = ARMA_GRID[step_index(a[:, None], b)]
    distance = np.abs(autocorrelations(points[..., 0], points[..., 1])[0] - rho[0][:, None])
    return np.asarray(ARMA_GRID[step_index(a, b[np.argmin(distance, axis=1)])].T)


class Innovations(NamedTuple):
    """The recursion that turns a series into independent innovations.

    Attributes
    ----------
    ar, ma : (T,) arrays
        Weights of e and x at the row before; 0 where that has nothing to do with this one.
    variance : (T,) array
        Of x, in units of that of n.
    """

    ar: FloatArray
    ma: FloatArray
    variance: FloatArray

    @property
    def log_det(self) -> float:
        """``log|V|``."""
        return float(np.log(self.variance).sum())


def innovations(a: float, b: float, segments: Segments) -> Innovations:
    """Recursion of ARMA(1, 1) with these a and b."""
    return Innovations(*_innovations(a, b, segments.steps))


@nb.njit(nogil=True, cache=True)
def _innovations(a: float, b: float, steps: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    T, rest = len(steps), 1.0 - a * a
    ar, ma, variance = np.zeros(T), np.zeros(T), np.empty(T)
    for t in range(T):
        if steps[t] == 0:
            variance[t] = (1.0 + 2.0 * a * b + b * b) / rest
        else:
            c = a ** (steps[t] - 1)
            ar[t], ma[t] = c * a, c * b / variance[t - 1]
            variance[t] = 1.0 + (a + b) ** 2 * (1.0 - c * c) / rest + c * c * b * b - c * b * ma[t]
    return ar, ma, variance


#: Voxels side by side in a recursion.
TILE = 32


@nb.njit(nogil=True, cache=True)
def sum_of_squares(Y: FloatArray, ar: FloatArray, ma: FloatArray, variance: FloatArray) -> FloatArray:
    """``y'V^-1 y`` (n,) of the columns of Y (T, n)."""
    T, n = Y.shape
    total = np.empty(n)
    x, ss, last = np.zeros(TILE), np.zeros(TILE), np.zeros(TILE)
    for start in range(0, n, TILE):
        width = min(TILE, n - start)
        x[:], ss[:], last[:] = 0.0, 0.0, 0.0
        for t in range(T):
            alpha, beta, weight = ar[t], ma[t], 1.0 / variance[t]
            for v in range(width):
                y = Y[t, start + v]
                x[v] = y - alpha * last[v] - beta * x[v]
                ss[v] += weight * x[v] * x[v]
                last[v] = y
        total[start : start + width] = ss[:width]
    return total


@nb.njit(nogil=True, cache=True)
def apply_precision(F: FloatArray, ar: FloatArray, ma: FloatArray, variance: FloatArray) -> FloatArray:
    """``V^-1 F`` for F (T, n): innovations forward, their transpose backward."""
    T, n = F.shape
    out = np.empty((T, n))
    for t in range(T):
        for k in range(n):
            out[t, k] = F[t, k]
            if t > 0:
                out[t, k] -= ar[t] * F[t - 1, k] + ma[t] * out[t - 1, k]
    for k in range(n):
        out[T - 1, k] /= variance[T - 1]
    for t in range(T - 2, -1, -1):
        for k in range(n):
            out[t, k] = out[t, k] / variance[t] - ma[t + 1] * out[t + 1, k]
    for t in range(T - 1):
        for k in range(n):
            out[t, k] -= ar[t + 1] * out[t + 1, k]
    return out
