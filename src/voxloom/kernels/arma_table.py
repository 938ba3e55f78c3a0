"""Contrast table of ARMA(1, 1) fits: Kenward and Roger's covariance and degrees of freedom on the grid (`kernels.dof`).

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

from voxloom.kernels.arma import ARMA_GRID, apply_precision, innovations
from voxloom.kernels.contrast_tables import empty_table
from voxloom.kernels.dof import Derivatives, SmallSample, kenward_roger, small_sample
from voxloom.kernels.lags import LagDesign, lag_design, segments_of
from voxloom.kernels.pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxloom.kernels.contrast import ContrastTable

    FloatArray = NDArray[np.float64]

#: Information added for a and b each on Fisher's scale: that of a coefficient of which nothing is known but that it is
#: within -1 and 1, where its variance is pi^2 / 12. Ten times as much gives 1.1 to 1.3 times the false positives.
PRIOR = 12 / np.pi**2


def arma_table(
    X: FloatArray, C: FloatArray, segments: Sequence[int], cases: Sequence[int] | NDArray[np.int64]
) -> ContrastTable:
    """Tabulate C (q, K) for these points of `ARMA_GRID`; the others stay NaN. Other parameters as `ar1_table`."""
    design, pieces = _arma_pieces(X.tobytes(), X.shape, tuple(int(s) for s in segments))
    weights = C @ design.back
    table = empty_table(len(ARMA_GRID), len(C))
    for case in cases:
        table.cov[case], table.dof[case], table.scale[case] = kenward_roger(pieces.at(int(case)), weights)
    return table


@lru_cache(maxsize=1)
def _arma_pieces(X: bytes, shape: tuple[int, int], segments: tuple[int, ...]) -> tuple[LagDesign, Pieces[int]]:
    """The design with these values, and its pieces by index into `ARMA_GRID`."""
    design = lag_design(np.frombuffer(X).reshape(shape), segments_of(segments, shape[0], stationary=True))

    def make(case: int) -> SmallSample:
        a, b = ARMA_GRID[case]
        return small_sample(arma_derivatives(design, float(a), float(b)), design.dof, PRIOR)

    return design, Pieces(make)


def arma_derivatives(design: LagDesign, a: float, b: float) -> Derivatives:
    """`Derivatives` by ``tanh^-1 a`` and ``tanh^-1 b``."""
    found = innovations(a, b, design.segments)
    V_Q = apply_precision(design.Q, *found)
    # dD = -V^-1 dV V^-1
    moved = np.array([_covariance_slope(design, V_Q, row) for row in _autocovariance_slopes(a, b, len(V_Q))])
    solved = np.array([apply_precision(F, *found) for F in moved])
    starts = np.isin(np.arange(len(V_Q)), design.segments.starts)
    first, second = _traces(a, b, starts, found.variance)
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
    bounds = np.append(design.segments.starts, len(F))
    return np.concatenate([matmul_toeplitz(row[: t - s], F[s:t]) for s, t in pairwise(bounds)])


@nb.njit(nogil=True, cache=True)
def _traces(a: float, b: float, starts: NDArray[np.bool_], variance: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``tr(V^-1 dV_i)`` and ``tr(V^-1 dV_i V^-1 dV_j)`` by a and b, the latter twice the Fisher information."""
    first, second = np.zeros(2), np.zeros((2, 2))
    rest = 1.0 - a * a
    at_start = np.array([2.0 * b / rest + 2.0 * a * (1.0 + 2.0 * a * b + b * b) / rest**2, 2.0 * (a + b) / rest])
    slope, step = np.zeros(2), np.zeros((4, 4))
    moments = np.zeros((4, 4))  # of e, x and the derivatives of x, at the row before
    for t in range(len(variance)):
        if starts[t]:
            slope = at_start.copy()
            moments = np.zeros((4, 4))
        else:
            last = variance[t - 1]
            ma, square = b / last, (b / last) ** 2
            ma_slope = np.array([0.0, 1.0 / last]) - b * slope / last**2
            slope = np.array([0.0, 2.0 * (b - ma)]) + square * slope
            step[0, 0], step[0, 1] = a, ma
            step[2, 0], step[2, 1], step[2, 2] = -1.0, -ma_slope[0], -ma
            step[3, 1], step[3, 3] = -ma_slope[1], -ma
            moments = step @ moments @ step.T
        v = variance[t]
        moments[:2, :2] += v
        first += slope / v
        second += np.outer(slope, slope) / v**2 + 2.0 * moments[2:, 2:] / v
    return first, second
