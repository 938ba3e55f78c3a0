"""Slow drifts of the scanner as regressors: cosines or polynomials, the constant last."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import DesignError
from voxloom.kernels.design.gram_schmidt import orthogonalize

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def cosine_drift(high_pass: float, frame_times: ArrayLike) -> FloatArray:
    """Discrete cosines (DCT-II) slower than `high_pass`, then a column of ones.

    Parameters
    ----------
    high_pass : float
        Cut-off in Hz; ``floor(2 T high_pass TR)`` cosines, TR the mean spacing of the frames.
    frame_times : (T,) array_like
        Seconds.

    Returns
    -------
    (T, order + 1) array
        Cosines of norm 1, and the constant. The numbers of nilearn's ``create_cosine_drift``.

    Raises
    ------
    DesignError
        Where `high_pass` is negative, or so high (half the sampling rate) that cosines explain any signal.
    """
    times = np.asarray(frame_times, dtype=np.float64)
    n = times.size
    t_r = (times[-1] - times[0]) / (n - 1) if n > 1 else 0.0
    if not 0 <= high_pass * t_r < 0.5:
        raise DesignError(
            "high_pass",
            f"{high_pass:g} Hz with volumes every {t_r:g} s: the cosines would span every frequency.",
            f"Give a value from 0 to well below {0.5 / t_r:g} Hz; 0.01 is usual.",
        )
    order = min(n - 1, int(np.floor(2 * n * high_pass * t_r)))
    phase = (np.pi / n) * (np.arange(n) + 0.5)
    cosines = np.sqrt(2.0 / n) * np.cos(np.outer(phase, np.arange(1, order + 1)))
    return np.column_stack([cosines, np.ones(n)])


def polynomial_drift(order: int, frame_times: ArrayLike) -> FloatArray:
    """Powers 1 to `order` of time, each orthogonal to the lower ones, then a column of ones.

    Parameters
    ----------
    order : int
        Highest power; 0 gives the constant alone.
    frame_times : (T,) array_like
        Seconds.

    Returns
    -------
    (T, order + 1) array
        The numbers of nilearn's polynomial drift: powers of time over its maximum, not normalised.

    Raises
    ------
    DesignError
        Where `order` is not a whole number from 0 to T - 1.
    """
    times = np.asarray(frame_times, dtype=np.float64)
    if order != int(order) or not 0 <= order < times.size:
        raise DesignError(
            "drift_order", f"is {order!r}.", f"Give a whole number from 0 to {times.size - 1} (volumes - 1)."
        )
    scaled = times / (np.abs(times).max() or 1.0)
    powers = orthogonalize(np.vander(scaled, int(order) + 1, increasing=True)).residual
    return np.column_stack([powers[:, 1:], powers[:, 0]])
