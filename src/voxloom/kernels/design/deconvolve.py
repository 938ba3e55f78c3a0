"""Neural activity behind a BOLD series: a ridge in a cosine basis, its penalty by maximum likelihood.

Gitelman et al. 2003 (NeuroImage 19:200), with the white prior that SPM's `spm_peb_ppi` uses now. Over the fine grid
of G points the activity is x = C b, C the T slowest of the G orthonormal cosines (DCT-II), and the series
y = Z g + A C b + e, A the convolution read at the frames, Z confounds with a flat prior. With b ~ N(0, lambda s2 I) and
e ~ N(0, s2 I) the restricted likelihood is a function of lambda alone, since one SVD of A C gives it for every
lambda; the mean of b at its maximum is a ridge estimate with the penalty 1 / lambda.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.fft import dct, idct
from scipy.optimize import minimize_scalar

from voxloom.kernels.linalg import reduce_design

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.design.convolve import FineGrid

    FloatArray = NDArray[np.float64]

#: Frames whose rows of A are held at once: 64 rows of 109,000 points (T 6804, 16 points each) are 56 MB.
ROWS = 64
#: Range of the search for log10 of lambda times the mean squared singular value: from noise alone to none.
SEARCH = (-8.0, 8.0)


class Deconvolved(NamedTuple):
    """Result of `deconvolve`.

    Attributes
    ----------
    course : (G,) array
        Activity on the fine grid, in units of the series for a kernel of sum 1.
    ratio : float
        lambda: variance of a coefficient over that of the noise.
    """

    course: FloatArray
    ratio: float


def observe(course: FloatArray, kernel: FloatArray, grid: FineGrid) -> FloatArray:
    """Convolve a course on the fine grid (G,) with a kernel, and interpolate to the frames: (T,)."""
    response = np.convolve(course, kernel)[: course.size]
    return np.asarray(response[grid.lower] * (1 - grid.weight) + response[grid.lower + 1] * grid.weight)


def deconvolve(y: FloatArray, kernel: FloatArray, grid: FineGrid, confounds: FloatArray) -> Deconvolved:
    """Most probable activity behind a series.

    Parameters
    ----------
    y : (T,) array
    kernel : (L,) array
        Response on the fine grid.
    grid : FineGrid
    confounds : (T, q) array
        What is taken out of the series first, the constant among it.
    """
    basis = reduce_design(confounds).Q
    M = observed_cosines(kernel, grid)
    M = M - basis @ (basis.T @ M)
    y = y - basis @ (basis.T @ y)
    U, s, Vt = np.linalg.svd(M, full_matrices=False)
    ratio = likeliest_ratio(s, U.T @ y, float(y @ y), y.size - basis.shape[1])
    b = Vt.T @ (ratio * s / (1 + ratio * s**2) * (U.T @ y))
    coefficients = np.zeros(grid.times.size)
    coefficients[: b.size] = b
    return Deconvolved(np.asarray(idct(coefficients, type=2, norm="ortho")), ratio)


def observed_cosines(kernel: FloatArray, grid: FineGrid) -> FloatArray:
    """A C (T, T): what the frames see of each of the T slowest cosines."""
    n = grid.lower.size
    seen = np.empty((n, min(n, grid.times.size)))
    for start in range(0, n, ROWS):
        rows = slice(start, start + ROWS)
        seen[rows] = dct(_convolution_rows(kernel, grid, rows), type=2, norm="ortho", axis=1)[:, : seen.shape[1]]
    return seen


def _convolution_rows(kernel: FloatArray, grid: FineGrid, frames: slice) -> FloatArray:
    """Rows of A (n, G): the kernel backwards from each frame, interpolated between two grid points."""
    lower, weight = grid.lower[frames, np.newaxis], grid.weight[frames, np.newaxis]
    later = np.concatenate([[0.0], kernel]), np.concatenate([kernel, [0.0]])
    values = (1 - weight) * later[0] + weight * later[1]
    at = lower + 1 - np.arange(kernel.size + 1)
    rows = np.zeros((lower.size, grid.times.size))
    row, lag = np.nonzero((at >= 0) & (at < grid.times.size))
    rows[row, at[row, lag]] = values[row, lag]
    return rows


def likeliest_ratio(s: FloatArray, z: FloatArray, total: float, n: int) -> float:
    """The lambda of highest restricted likelihood.

    Parameters
    ----------
    s : (r,) array
        Singular values of the observed basis, confounds taken out.
    z : (r,) array
        The series along its left singular vectors.
    total : float
        Sum of squares of the series.
    n : int
        Scans less the rank of the confounds.
    """
    scale = float(np.mean(s**2)) or 1.0

    def loss(log_ratio: float) -> float:
        d = 1 + 10.0**log_ratio / scale * s**2
        rss = max(total - float(np.sum(z**2 * (1 - 1 / d))), np.finfo(float).tiny)
        return float(n * np.log(rss) + np.sum(np.log(d)))

    # it may have several maxima: the best of a coarse grid, then refined beside it
    coarse = np.linspace(*SEARCH, 65)
    best = coarse[int(np.argmin([loss(point) for point in coarse]))]
    step = coarse[1] - coarse[0]
    found = minimize_scalar(loss, bounds=(best - step, best + step), method="bounded", options={"xatol": 1e-6})
    return float(10.0**found.x / scale)
