"""Restricted maximum likelihood of AR(p), voxel by voxel, by Newton's method on sums that all voxels share.

Up to a constant, ``log REML = (S log|D_p| - log|W| - (T - r) log rss) / 2`` with D_p the precision of p scans, S the
number of series, ``W = basis' D basis`` with a column for each scan that was left out (`kernels.noise.ar`), T - r
degrees of freedom and rss the whitened residual sum of squares. Its gradient needs ``e'S_ij e`` of the GLS residuals
e and ``tr(W^-1 basis'S_ij basis)``, no pass over the data. The Hessian is exact but for ``tr(W^-1 dW W^-1 dW)``,
where W^-1 counts as diagonal (in the basis of `kernels.noise.lags` it nearly is; the whole costs 2 p r^3 more). What
that lacks is learnt from how the gradient changes from step to step (symmetric rank one; Conn, Gould and Toint 1991).
Where the Hessian is not positive, or its step leads down, the step of an EM algorithm with beta as missing data is
taken instead, which never does; a step out of stationarity is halved.

Start: Yule-Walker on residual autocovariances corrected for the design (Worsley 2002). Alone that leaves REML far away:
it takes the autocovariances beyond p to be 0. In null data (T 150, 33 regressors, phi .6 and .2) it found .46 and .06,
REML .57 and .17.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.batched import invert
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.noise.ar import (
    MOST,
    ArDesign,
    coefficients,
    filters,
    from_autocorrelations,
    is_stationary,
    pairs,
    partial_autocorrelations,
)
from voxloom.kernels.noise.ar_solve import ArSums, Solved, applied, batch_size, solve_ar, traces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Steps at most; three or four are usual, a maximum near the unit root takes more.
STEPS = 30
#: A voxel is done when a step promises less than this gain in log likelihood: 0.4 % of a standard error.
GAIN = 1e-5
#: Partial autocorrelations begin within this. Beyond it at higher lags the estimates are no autocovariances of a
#: process (14 % of null voxels for p = 8, 150 scans and 33 regressors): then the first alone is taken.
FIRST_MOST = 0.9 * MOST


def starting_phi(design: ArDesign, sums: ArSums) -> FloatArray:
    """Yule-Walker on autocovariances whose expectation under the design is right up to lag p."""
    whole = np.flatnonzero(pairs(design.order).i == 0)
    # of the pseudo-inverse: no pair of scans may be some lag apart, which then tells nothing
    covariance = np.einsum("nk,lk->nl", sums.squares[:, whole], np.linalg.pinv(design.expected, rcond=1e-10))
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.nan_to_num(covariance[:, 1:] / covariance[:, :1], posinf=0.0, neginf=0.0)
    phi = from_autocorrelations(rho, FIRST_MOST)
    wild = (np.abs(partial_autocorrelations(phi))[:, 1:] >= FIRST_MOST - 1e-9).any(axis=1)
    phi[wild] = 0.0
    phi[wild, :1] = np.clip(rho[wild, :1], -FIRST_MOST, FIRST_MOST)
    return phi


class _Look(NamedTuple):
    """Log likelihood (n,), its gradient (n, p), minus its Hessian, nearly (n, p, p), and the step of EM (n, p)."""

    value: FloatArray
    gradient: FloatArray
    curvature: FloatArray
    em: FloatArray


def ar_reml(design: ArDesign, sums: ArSums) -> FloatArray:
    """REML estimates of phi (n, p); each depends on its own sums alone."""
    batches = sub_blocks(len(sums.squares), batch_size(design))
    found = [_ascend(design, ArSums(*(part[batch] for part in sums))) for batch in batches]
    return np.concatenate([np.empty((0, design.order)), *found])


def _ascend(design: ArDesign, sums: ArSums) -> FloatArray:
    """Newton's method for one batch. A voxel that is done leaves it."""
    phi = starting_phi(design, sums)
    here = _look(design, sums, phi)
    missed = np.zeros_like(here.curvature)
    step, _ = _newton(here, missed)
    fallback, left = here.em.copy(), np.flatnonzero(np.isfinite(here.value))
    for _ in range(STEPS):
        tried = phi[left] + step[left]
        inside = is_stationary(tried)
        there = _look(design, ArSums(*(part[left] for part in sums)), np.where(inside[:, None], tried, phi[left]))
        up = inside & (there.value >= here.value[left])
        risen, new = left[up], _Look(*(part[up] for part in there))
        missed[risen] = _secant(missed[risen], step[risen], here.gradient[risen] - new.gradient, new.curvature)
        for part, fresh in zip(here, new):
            part[risen] = fresh
        phi[risen], fallback[risen] = tried[up], new.em
        step[risen], gain = _newton(new, missed[risen])
        step[left[~inside]] /= 2
        down = left[inside & ~up]  # that of EM, then halves of it
        step[down] = fallback[down]
        fallback[down] /= 2
        left = np.sort(np.concatenate([left[~up], risen[gain > GAIN]]))
        if not left.size:
            break
    return phi


def _newton(look: _Look, missed: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Newton's step (n, p), that of EM where the curvature is not positive, and the gain (n,) that it promises."""
    step = _solve(look.curvature + missed, look.gradient)
    step = np.where(np.isfinite(step), step, look.em)
    return step, (look.gradient * step).sum(axis=1) / 2


def _secant(missed: FloatArray, step: FloatArray, drop: FloatArray, curvature: FloatArray) -> FloatArray:
    """What the curvature lacks (n, p, p), from the drop of the gradient over a step (symmetric, of rank one)."""
    rest = drop - np.matmul(curvature + missed, step[:, :, None])[:, :, 0]
    along = (rest * step).sum(axis=1)
    sound = np.abs(along) > 0.01 * np.linalg.norm(rest, axis=1) * np.linalg.norm(step, axis=1)
    scale = np.divide(1.0, along, out=np.zeros_like(along), where=sound)
    return np.asarray(missed + scale[:, None, None] * rest[:, :, None] * rest[:, None, :])


def _look(design: ArDesign, sums: ArSums, phi: FloatArray) -> _Look:
    """Look at phi (n, p). Ends, design and data enter alike: as a weight for each S_ij."""
    of, (n, p), P = pairs(design.order), phi.shape, len(design.weights)
    dof, series = design.base.dof, design.series.starts.size
    first = (filters(phi) @ of.first.transpose(1, 2, 0).reshape(p + 1, -1)).reshape(n, p, P)  # d(w_i w_j) / dphi_k
    second = of.second.reshape(P, -1)
    solved = solve_ar(design, sums, phi)
    trace, diagonal = traces(design, solved.precision)
    rest = applied(design, solved.delta)
    np.subtract(sums.cross, rest, out=rest)  # basis' S_ij e
    explained = np.matmul(sums.cross, solved.delta[:, :, None]) + np.matmul(rest, solved.delta[:, :, None])
    data = (dof / solved.rss)[:, None] * (sums.squares - explained[:, :, 0])
    corner, corner_log = invert((coefficients(phi) @ design.corner.reshape(P, -1)).reshape(n, p, p))
    end = series * (corner.reshape(n, -1) @ design.corner.reshape(P, -1).T)
    gradient = _weigh(first, end - trace - data) / 2
    complete = ((trace + data) @ second).reshape(n, p, p) / 2
    barrier = series * _corner_curvature(design, corner, first) - (end @ second).reshape(n, p, p)
    known = _known(design, solved, first, rest, diagonal, _weigh(first, data))
    value = (series * corner_log - solved.precision.log_det - dof * np.log(solved.rss)) / 2
    return _Look(value, gradient, complete + (barrier - known) / 2, _solve(complete, gradient))


def _weigh(first: FloatArray, values: FloatArray) -> FloatArray:
    """``sum_ij first_k,ij values_ij`` (n, p) for values (n, P)."""
    return np.asarray(np.matmul(first, values[:, :, None])[:, :, 0])


def _corner_curvature(design: ArDesign, inverse: FloatArray, first: FloatArray) -> FloatArray:
    """``tr(D_p^-1 dD_k D_p^-1 dD_l)``, (n, p, p)."""
    n, p, P = first.shape
    slopes = (first.reshape(n * p, P) @ design.corner.reshape(P, -1)).reshape(n, p, p, p)
    solved = np.matmul(inverse[:, None], slopes)
    return np.asarray(np.matmul(solved.reshape(n, p, -1), solved.transpose(0, 3, 2, 1).reshape(n, -1, p)))


def _known(
    design: ArDesign, solved: Solved, first: FloatArray, rest: FloatArray, diagonal: FloatArray, drop: FloatArray
) -> FloatArray:
    """What the Hessian lacks of that of complete data, twice: beta and sigma2 are estimated."""
    n, p, P = first.shape
    slope = np.matmul(first, rest)
    of_gram = np.concatenate([np.einsum("prr->pr", design.gram.rows), design.gram.bands[:, :, 0]], axis=1)
    shares = (first.reshape(n * p, P) @ of_gram).reshape(n, p, -1) * diagonal[:, None]
    scale = 2 * design.base.dof / solved.rss[:, None, None]
    return np.asarray(
        np.matmul(shares, shares.swapaxes(1, 2))
        + scale * np.matmul(slope, solved.precision.solve(np.ascontiguousarray(slope.swapaxes(1, 2))))
        + drop[:, :, None] * drop[:, None, :] / design.base.dof
    )


def _solve(H: FloatArray, g: FloatArray) -> FloatArray:
    """``H^-1 g`` for small symmetric H; NaN where H is not positive definite."""
    return np.asarray(np.matmul(invert(H)[0], g[:, :, None])[:, :, 0])
