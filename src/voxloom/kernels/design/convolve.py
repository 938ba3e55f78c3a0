"""Events convolved with response kernels, in closed form at the frames.

Events are placed on a fine grid by nilearn's rules. Convolving that whole grid costs T * oversampling * L
operations for a kernel of L points, and all but T results are then thrown away. But a course of events is a
sum of steps, so its convolution is a sum of step responses (running sums of the kernel), which change only
for the 32 s after an edge. For T 6804, TR 0.7 and a condition of 300 events that takes 1.6 ms, not 100 ms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.design.gram_schmidt import orthogonalize

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.design.hrf import HrfBasis

    FloatArray = NDArray[np.float64]

#: Frames are evenly spaced when their mean spacing is the smallest one to this share.
UNIFORM_RTOL = 1e-6


class FineGrid(NamedTuple):
    """Times at which events are placed, and how the frames lie between them.

    Attributes
    ----------
    times : (N,) array
        Seconds.
    lower : (T,) array of int
        Grid point at or before each frame.
    weight : (T,) array
        Share of the next grid point in the linear interpolation to the frame.
    t_r : float
        Smallest spacing of the frames, in seconds.
    """

    times: FloatArray
    lower: NDArray[np.intp]
    weight: FloatArray
    t_r: float


def fine_grid(frame_times: ArrayLike, *, oversampling: int = 50, min_onset: float = -24.0) -> FineGrid:
    """Grid from `min_onset` before the first frame to one frame after the last.

    Evenly spaced frames give nilearn's grid. Where frames are missing nilearn spreads the points by the mean
    spacing, which stretches the response; here the step stays that of the kernels.

    Raises
    ------
    DesignError
        Where the frame times are not finite and increasing, or the options make no grid.
    """
    frames = check_frame_times(frame_times)
    if oversampling != int(oversampling) or oversampling < 1:
        raise DesignError("oversampling", f"is {oversampling!r}.", "Give a whole number from 1; 50 is usual.")
    if not -np.inf < min_onset <= 0:
        raise DesignError("min_onset", f"is {min_onset!r}.", "Give seconds before the first frame, as 0 or less.")
    n, first, last = frames.size, float(frames[0]), float(frames[-1])
    t_r = float(np.diff(frames).min())
    end, rate = last + t_r, 1 / t_r
    if first >= 0 and abs((last - first) / (n - 1) / t_r - 1) <= UNIFORM_RTOL:
        # nilearn's expressions to the letter: a last bit may move an onset by one step of the grid
        end, rate = last * (1 + 1.0 / (n - 1)), (n - 1) * 1.0 / (last - first)
    points = rate * ((end - first - min_onset) * oversampling) + 1
    times = np.linspace(first + min_onset, end, int(np.rint(points)))
    lower = np.clip(np.searchsorted(times, frames) - 1, 0, times.size - 2)
    weight = (frames - times[lower]) / (times[lower + 1] - times[lower])
    return FineGrid(times, lower, weight, t_r)


def check_frame_times(frame_times: ArrayLike) -> FloatArray:
    """Return the frame times as a float array (T,).

    Raises
    ------
    DesignError
        Unless there are two or more, finite and increasing.
    """
    frames = np.asarray(frame_times, dtype=np.float64)
    if frames.ndim != 1 or frames.size < 2 or not np.all(np.diff(frames) > 0):
        raise DesignError(
            "frame_times",
            f"of shape {frames.shape} are not an increasing series.",
            "Give the time of every volume in seconds, two or more.",
        )
    if not np.isfinite(frames).all():
        raise DesignError("frame_times", "hold a value that is not finite.", "Give seconds.")
    return frames


def convolve_events(
    onsets: ArrayLike, durations: ArrayLike, amplitudes: ArrayLike, basis: HrfBasis, grid: FineGrid
) -> FloatArray:
    """Course of one condition, convolved with every kernel of `basis`, at the frames of `grid`.

    An event starts and ends at the first grid point not before its onset and its end; one of no duration
    lasts one step. Events that start before the grid are dropped, those after it contribute nothing.

    Parameters
    ----------
    onsets, durations, amplitudes : (E,) array_like
        Seconds, seconds, and the height of each event.
    basis : HrfBasis
    grid : FineGrid

    Returns
    -------
    (T, n) array
        Orthogonalised in turn where the basis asks for it.
    """
    on, off, height = _edges(onsets, durations, amplitudes, grid.times)
    edges, steps = np.concatenate([on, off]), np.concatenate([height, -height])
    course = _sum_of_steps(edges, steps, _step_responses(basis.kernels), grid.lower + basis.lead, grid.weight)
    return orthogonalize(course).residual if basis.orthogonal else course


def place_events(onsets: ArrayLike, durations: ArrayLike, amplitudes: ArrayLike, times: FloatArray) -> FloatArray:
    """Course of events on the fine grid (N,), before any convolution, by the rules of `convolve_events`."""
    on, off, height = _edges(onsets, durations, amplitudes, times)
    edges, steps = np.concatenate([on, off]), np.concatenate([height, -height])
    return np.asarray(np.bincount(edges, steps, minlength=times.size).cumsum())


def _edges(
    onsets: ArrayLike, durations: ArrayLike, amplitudes: ArrayLike, times: FloatArray
) -> tuple[NDArray[np.intp], NDArray[np.intp], FloatArray]:
    """Grid points where events start and end, and their heights."""
    start, duration, height = (np.asarray(a, dtype=np.float64) for a in (onsets, durations, amplitudes))
    kept = start >= times[0]
    start, duration, height = start[kept], duration[kept], height[kept]
    last = times.size - 1
    on = np.minimum(np.searchsorted(times, start), last)
    off = np.minimum(np.searchsorted(times, start + duration), last)
    return on, off + ((off == on) & (off < last)), height


def _step_responses(kernels: Sequence[FloatArray]) -> FloatArray:
    """Accumulate the kernels to (n, 1 + L), from 0 before the step; shorter ones stay at their last value."""
    response = np.zeros((len(kernels), 1 + max(kernel.size for kernel in kernels)))
    for row, kernel in zip(response, kernels):
        row[1 : 1 + kernel.size] = kernel
    return np.asarray(response.cumsum(axis=1))


def _sum_of_steps(
    edges: NDArray[np.intp],
    steps: FloatArray,
    response: FloatArray,
    lower: NDArray[np.intp],
    weight: FloatArray,
) -> FloatArray:
    """Add up ``steps[j] * response(frame - edges[j])``, interpolated between grid points: (T, n)."""
    n_frames, length = lower.size, response.shape[1] - 1
    # frames first to settled - 1 lie on the changing part of the edge's response, later ones on its end value
    first = np.searchsorted(lower, edges - 1)
    settled = np.searchsorted(lower, edges + length - 1)
    counts = settled - first
    edge = np.repeat(np.arange(edges.size), counts)
    frame = np.arange(counts.sum()) + np.repeat(first - (np.cumsum(counts) - counts), counts)
    lag = lower[frame] - edges[edge] + 1
    to_next = weight[frame]
    values = steps[edge] * ((1 - to_next) * response[:, lag] + to_next * response[:, lag + 1])
    changing = [np.bincount(frame, row, minlength=n_frames) for row in values]
    level = np.bincount(settled, steps, minlength=n_frames + 1)[:n_frames].cumsum()
    settled_part = np.outer(level, response[:, -1])
    return np.asarray(np.column_stack(changing) + settled_part, dtype=np.float64)
