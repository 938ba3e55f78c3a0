"""Restricted maximum likelihood of AR(p), voxel by voxel, by Newton's method on sums that all voxels share.

Up to a constant, ``log REML = (S log|D_p| - log|W| - (T - r) log rss) / 2`` with D_p the precision of p rows, S the
number of segments, ``W = Q'DQ`` and rss the whitened residual sum of squares. Its gradient needs ``e'S_ij e`` of the
GLS residuals e and ``tr(W^-1 Q'S_ij Q)``, no pass over the data. The Hessian is exact but for ``tr(W^-1 dW W^-1 dW)``,
where W^-1 counts as diagonal (in the basis of `kernels.lags` it nearly is; the whole costs 2 p r^3 more). Where the
Hessian is not positive, or its step leads down or out of stationarity, the step of an EM algorithm with beta as missing
data is taken instead, which never does.

Start: Yule-Walker on residual autocovariances corrected for the design (Worsley 2002). Alone that leaves REML far away:
it takes the autocovariances beyond p to be 0. In null data (T 150, 33 regressors, phi .6 and .2) it found .46 and .06,
REML .57 and .17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.ar import (
    MOST,
    ArDesign,
    coefficients,
    filters,
    from_autocorrelations,
    is_stationary,
    pairs,
)
from voxloom.kernels.batched import invert
from voxloom.kernels.lag_sums import REASSOCIATE
from voxloom.kernels.linalg import sub_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Steps at most; three or four are usual, a maximum near the unit root takes more.
STEPS = 30
#: A voxel is done when a step promises less than this gain in log likelihood: 0.4 % of a standard error.
GAIN = 1e-5
#: Bytes of one array (n, r, r) in Newton's method.
BATCH_BYTES = 2 * 2**20


class ArSums(NamedTuple):
    """What a fit needs to know of n voxels; R are their OLS residuals of unit length.

    Attributes
    ----------
    squares : (n, P) array
        ``R'S_ij R``.
    cross : (n, P, r) array
        ``Q'S_ij R``.
    """

    squares: FloatArray
    cross: FloatArray


def ar_sums(design: ArDesign, unit: FloatArray) -> ArSums:
    """Sums of the residuals (n, T) of one sub-block."""
    of = pairs(design.order)
    lag = of.j - of.i
    cross = np.zeros((len(unit), len(lag), design.base.rank))
    ends = np.ascontiguousarray(unit[:, design.rows])
    for k in range(design.order + 1):
        whole = unit @ design.lagged[k - 1] if k else 0.0  # Q'R is 0
        for pair in np.flatnonzero(lag == k):
            cross[:, pair] = whole - ends @ design.edges[pair]
    return ArSums(_squares(unit, design.weights, lag), cross)


@nb.njit(nogil=True, cache=True, fastmath=REASSOCIATE)
def _squares(unit: FloatArray, weights: FloatArray, lag: IntArray) -> FloatArray:
    n, T = unit.shape
    squares = np.empty((n, len(lag)))
    for v in range(n):
        y = unit[v]
        for pair in range(len(lag)):
            k, row, total = lag[pair], weights[pair], 0.0
            for t in range(T - k):
                total += row[t] * y[t] * y[t + k]
            squares[v, pair] = total if k == 0 else 2.0 * total
    return squares


def starting_phi(design: ArDesign, sums: ArSums) -> FloatArray:
    """Yule-Walker on autocovariances whose expectation under the design is right up to lag p."""
    of, Q = pairs(design.order), design.base.Q
    N_Q = [Q, *design.lagged]
    outer = np.array([[np.sum(a * b) for b in N_Q] for a in N_Q])
    inner = [Q.T @ N for N in N_Q]
    both = np.array([[np.sum(a * b.T) for b in inner] for a in inner])
    whole = np.flatnonzero(of.i == 0)
    own = design.weights[whole].sum(axis=1) * np.where(of.j[whole] == 0, 1.0, 2.0)
    covariance = np.linalg.solve(np.diag(own) - 2 * outer + both, sums.squares[:, whole].T).T
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.nan_to_num(covariance[:, 1:] / covariance[:, :1], posinf=0.0, neginf=0.0)
    return from_autocorrelations(rho, 0.9 * MOST)


class Solved(NamedTuple):
    """Generalised least squares of n voxels at their phi.

    Attributes
    ----------
    inverse : (n, r, r) array
        ``W^-1``.
    log_det : (n,) array
        ``log|W|``.
    delta : (n, r) array
        What it adds to OLS coefficients.
    rss : (n,) array
    """

    inverse: FloatArray
    log_det: FloatArray
    delta: FloatArray
    rss: FloatArray


def precision_inverse(design: ArDesign, phi: FloatArray) -> tuple[FloatArray, FloatArray]:
    """``W^-1`` (n, r, r) and ``log|W|`` (n,) at phi (n, p)."""
    r = design.base.rank
    W = coefficients(phi) @ design.gram.reshape(-1, r * r)
    return invert(W.reshape(-1, r, r))


def solve_ar(design: ArDesign, sums: ArSums, phi: FloatArray) -> Solved:
    """Solve for the coefficients at phi (n, p)."""
    c = coefficients(phi)
    inverse, log_det = precision_inverse(design, phi)
    right = np.einsum("np,npr->nr", c, sums.cross)
    delta = np.matmul(inverse, right[:, :, None])[:, :, 0]
    rss = (c * sums.squares).sum(axis=1) - (right * delta).sum(axis=1)
    return Solved(inverse, log_det, delta, rss)


class _Step(NamedTuple):
    """Log likelihood (n,), steps of Newton's method and of EM (n, p), and the gain (n,) that the first promises."""

    value: FloatArray
    newton: FloatArray
    em: FloatArray
    gain: FloatArray


def batch_size(design: ArDesign) -> int:
    """Voxels whose matrices (r, r) are worked on at once: a multiple of 8 that stays within `BATCH_BYTES`."""
    return max(8, BATCH_BYTES // (8 * design.base.rank**2) // 8 * 8)


def ar_reml(design: ArDesign, sums: ArSums) -> FloatArray:
    """REML estimates of phi (n, p); each depends on its own sums alone."""
    batches = sub_blocks(len(sums.squares), batch_size(design))
    found = [_ascend(design, ArSums(*(part[batch] for part in sums))) for batch in batches]
    return np.concatenate([np.empty((0, design.order)), *found])


def _ascend(design: ArDesign, sums: ArSums) -> FloatArray:
    """Newton's method for one batch. A voxel that is done leaves it."""
    phi = starting_phi(design, sums)
    here = _look(design, sums, phi)
    value, step, fallback = here.value, here.newton, here.em
    left = np.flatnonzero(np.isfinite(value))
    for _ in range(STEPS):
        tried = phi[left] + step[left]
        inside = is_stationary(tried)
        there = _look(design, ArSums(*(part[left] for part in sums)), np.where(inside[:, None], tried, phi[left]))
        up = inside & (there.value >= value[left])
        risen = left[up]
        phi[risen], value[risen], step[risen], fallback[risen] = (
            tried[up],
            there.value[up],
            there.newton[up],
            there.em[up],
        )
        # after a step too far that of EM, then halves of it
        step[left[~up]] = fallback[left[~up]]
        fallback[left[~up]] /= 2
        left = left[~up | (there.gain > GAIN)]
        if not left.size:
            break
    return phi


def _look(design: ArDesign, sums: ArSums, phi: FloatArray) -> _Step:
    """Likelihood and steps at phi (n, p). Ends, design and data enter alike: as a weight for each S_ij."""
    of, p = pairs(design.order), phi.shape[1]
    dof, segments = design.base.dof, design.base.segments.starts.size
    first = np.einsum("pwk,nw->npk", of.first, filters(phi))
    solved = solve_ar(design, sums, phi)
    trace = _traces(solved.inverse, design.gram)
    scatter = (solved.delta @ design.gram.reshape(-1, design.base.rank).T).reshape(sums.cross.shape)
    rest = sums.cross - scatter  # Q'S_ij e
    scale = dof / solved.rss
    data = scale[:, None] * (sums.squares - np.einsum("npr,nr->np", sums.cross + rest, solved.delta))
    corner, corner_log = invert((coefficients(phi) @ design.corner.reshape(-1, p * p)).reshape(-1, p, p))
    end = segments * _traces(corner, design.corner)
    gradient = np.einsum("np,npk->nk", end - trace - data, first) / 2
    complete = np.einsum("np,pkl->nkl", trace + data, of.second) / 2
    barrier = segments * _corner_curvature(design.corner, corner, first) - np.einsum("np,pkl->nkl", end, of.second)
    known = _known(design, solved, first, rest, np.einsum("npk,np->nk", first, data))
    em = _solve(complete, gradient)
    newton = _solve(complete + (barrier - known) / 2, gradient)
    newton = np.where(np.isfinite(newton), newton, em)
    value = (segments * corner_log - solved.log_det - dof * np.log(solved.rss)) / 2
    return _Step(value, newton, em, (gradient * newton).sum(axis=1) / 2)


def _traces(inverse: FloatArray, matrices: FloatArray) -> FloatArray:
    """``tr(inverse_v M_ij)``, (n, P)."""
    return np.asarray(inverse.reshape(len(inverse), -1) @ matrices.reshape(len(matrices), -1).T)


def _corner_curvature(matrices: FloatArray, inverse: FloatArray, first: FloatArray) -> FloatArray:
    """``tr(D_p^-1 dD_k D_p^-1 dD_l)``, (n, p, p)."""
    slopes = np.einsum("npk,pab->nkab", first, matrices)
    solved = np.matmul(inverse[:, None], slopes)
    return np.asarray(np.einsum("nkab,nlba->nkl", solved, solved))


def _known(design: ArDesign, solved: Solved, first: FloatArray, rest: FloatArray, drop: FloatArray) -> FloatArray:
    """What the Hessian lacks of that of complete data, twice: beta and sigma2 are estimated."""
    slope = np.einsum("npk,npr->nkr", first, rest)
    diagonal = np.einsum("npk,pr->nkr", first, np.einsum("prr->pr", design.gram))
    diagonal = diagonal * np.einsum("nrr->nr", solved.inverse)[:, None, :]
    scale = 2 * design.base.dof / solved.rss[:, None, None]
    return np.asarray(
        np.matmul(diagonal, diagonal.swapaxes(1, 2))
        + scale * np.matmul(slope, np.matmul(solved.inverse, slope.swapaxes(1, 2)))
        + drop[:, :, None] * drop[:, None, :] / design.base.dof
    )


def _solve(H: FloatArray, g: FloatArray) -> FloatArray:
    """``H^-1 g`` for small symmetric H; NaN where H is not positive definite."""
    return np.asarray(np.matmul(invert(H)[0], g[:, :, None])[:, :, 0])
