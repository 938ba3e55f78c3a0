"""Contrast table of ARMA(1, 1) fits: covariance and degrees of freedom on the grid (`kernels.first_level.dof`).

The expected information of a and b comes from the innovations: ``sum_t (v'_i v'_j / 2 v^2 + E[x'_i x'_j] / v)``, where
the second moments of the derivatives of x follow a recursion of their own. Near white noise a and b say the same and
cannot be told apart, while the information counts them as free to go anywhere; so a little is added (`PRIOR`).
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numba as nb
import numpy as np
from scipy.linalg import matmul_toeplitz

from voxloom.kernels.first_level.contrast_tables import empty_table
from voxloom.kernels.first_level.dof import Derivatives, SmallSample, kenward_roger, small_sample
from voxloom.kernels.first_level.pieces import Pieces
from voxloom.kernels.noise.arma import ARMA_GRID, apply_precision, innovations
from voxloom.kernels.noise.lags import LagDesign, lag_design
from voxloom.kernels.noise.segments import numbered, segments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.contrast import ContrastTable

    FloatArray = NDArray[np.float64]

#: Information added for a and b each on Fisher's scale: that of a coefficient of which nothing is known but that it is
#: within -1 and 1, where its variance is pi^2 / 12. Ten times as much gives 1.1 to 1.3 times the false positives.
PRIOR = 12 / np.pi**2


def arma_table(
    X: FloatArray, C: FloatArray, scans: ArrayLike | None, cases: Sequence[int] | NDArray[np.int64]
) -> ContrastTable:
    """Tabulate C (q, K) for these points of `ARMA_GRID`; the others stay NaN. Other parameters as `ar1_table`."""
    design, pieces = _arma_pieces(X.tobytes(), X.shape, numbered(scans, len(X)).tobytes())
    weights = C @ design.back
    table = empty_table(len(ARMA_GRID), len(C))
    for case in cases:
        table.cov[case], table.dof[case], table.scale[case] = kenward_roger(pieces.at(int(case)), weights)
    return table


@lru_cache(maxsize=1)
def _arma_pieces(X: bytes, shape: tuple[int, int], scans: bytes) -> tuple[LagDesign, Pieces[int]]:
    """The design with these values, and its pieces by index into `ARMA_GRID`."""
    segments = segments_of(np.frombuffer(scans, dtype=np.int64), shape[0], stationary=True)
    design = lag_design(np.frombuffer(X).reshape(shape), segments)

    def make(case: int) -> SmallSample:
        a, b = ARMA_GRID[case]
        return small_sample(arma_derivatives(design, float(a), float(b)), design.dof, PRIOR)

    return design, Pieces(make)


def arma_derivatives(design: LagDesign, a: float, b: float) -> Derivatives:
    """`Derivatives` by ``tanh^-1 a`` and ``tanh^-1 b``."""
    found = innovations(a, b, design.segments)
    V_Q = apply_precision(design.Q, *found)
    length = int(design.segments.steps.sum()) + 1
    # dD = -V^-1 dV V^-1
    moved = np.array([_covariance_slope(design, V_Q, row) for row in _autocovariance_slopes(a, b, length)])
    solved = np.array([apply_precision(F, *found) for F in moved])
    first, second = _traces(a, b, design.segments.steps, found.variance)
    chain = np.array([1 - a**2, 1 - b**2])
    both = np.outer(chain, chain)
    return Derivatives(
        W=design.Q.T @ V_Q,
        A=-chain[:, None, None] * (V_Q.T @ moved),
        B=both[:, :, None, None] * np.einsum("ita,jtb->ijab", moved, solved, optimize=True),
        first=-chain * first,
        second=both * second,
    )


def _autocovariance_slopes(a: float, b: float, n: int) -> FloatArray:
    """Derivatives of the autocovariances at lags 0 to n - 1 by a and by b, (2, n)."""
    rest, lag = 1 - a**2, np.arange(n - 1)
    one = (1 + a * b) * (a + b) / rest
    zero_slope = np.array([2 * b + 2 * a * (1 + 2 * a * b + b**2) / rest, 2 * (a + b)]) / rest
    one_slope = np.array([b * (a + b) + 1 + a * b + 2 * a * one, a * (a + b) + 1 + a * b]) / rest
    slopes = one_slope[:, None] * a**lag
    slopes[0] += one * lag * a ** np.maximum(lag - 1, 0)
    return np.column_stack([zero_slope, slopes])


def _covariance_slope(design: LagDesign, F: FloatArray, row: FloatArray) -> FloatArray:
    """``dV F`` for F (T, n) and the derivative of the autocovariances."""
    steps = design.segments.steps
    at = np.cumsum(steps)
    out = np.empty_like(F)
    for s, t in pairwise(np.append(np.flatnonzero(steps == 0), len(F))):
        near = at[s:t] - at[s]
        spread = np.zeros((near[-1] + 1, F.shape[1]))
        spread[near] = F[s:t]
        out[s:t] = matmul_toeplitz(row[: len(spread)], spread)[near]
    return out


@nb.njit(nogil=True, cache=True)
def _traces(a: float, b: float, steps: NDArray[np.int64], variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``tr(V^-1 dV_i)`` and ``tr(V^-1 dV_i V^-1 dV_j)`` by a and b, the latter twice the Fisher information."""
    first, second = np.zeros(2), np.zeros((2, 2))
    rest = 1.0 - a * a
    at_start = np.array([2.0 * b / rest + 2.0 * a * (1.0 + 2.0 * a * b + b * b) / rest**2, 2.0 * (a + b) / rest])
    slope, step = np.zeros(2), np.zeros((4, 4))
    moments = np.zeros((4, 4))  # of e, x and the derivatives of x, at the row before
    for t in range(len(variance)):
        d = steps[t]
        if d == 0:
            slope = at_start.copy()
            moments = np.zeros((4, 4))
        else:
            last = variance[t - 1]
            c = a ** (d - 1)
            dc = (d - 1) * a ** (d - 2) if d > 1 else 0.0
            ma = c * b / last
            ma_slope = np.array([dc * b / last, c / last]) - c * b * slope / last**2
            left, more = 1.0 - 1.0 / last, (1.0 - c * c) / rest  # of the innovation before; of those left out
            dmore = 2.0 * (a * more - c * dc) / rest
            slope = ma**2 * slope
            slope[0] += 2.0 * (a + b) * more + (a + b) ** 2 * dmore + 2.0 * c * dc * b * b * left
            slope[1] += 2.0 * (a + b) * more + 2.0 * c * c * b * left
            step[0, 0], step[0, 1] = c * a, ma
            step[2, 0], step[2, 1], step[2, 2] = -d * c, -ma_slope[0], -ma
            step[3, 1], step[3, 3] = -ma_slope[1], -ma
            moments = step @ moments @ step.T
        v = variance[t]
        moments[:2, :2] += v
        first += slope / v
        second += np.outer(slope, slope) / v**2 + 2.0 * moments[2:, 2:] / v
    return first, second
