"""Responses by nilearn's names, sampled on the fine grid of ``t_r / oversampling`` seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.kernels.design.hrf import GLOVER, LENGTH, SPM, dispersion_derivative, sampled, time_derivative

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def spm_hrf(t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0) -> FloatArray:
    """SPM's response over `time_length` s, at sum 1, begun at `onset` s: one value per grid point."""
    return sampled(SPM, t_r, oversampling, onset, time_length)


def spm_time_derivative(
    t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0
) -> FloatArray:
    """Change of SPM's response per second that it comes earlier."""
    return time_derivative(SPM, t_r, oversampling, onset, time_length)


def spm_dispersion_derivative(
    t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0
) -> FloatArray:
    """Change of SPM's response per unit of its peak's dispersion."""
    return dispersion_derivative(SPM, t_r, oversampling, onset, time_length)


def glover_hrf(t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0) -> FloatArray:
    """Glover's response over `time_length` s, at sum 1, begun at `onset` s: one value per grid point."""
    return sampled(GLOVER, t_r, oversampling, onset, time_length)


def glover_time_derivative(
    t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0
) -> FloatArray:
    """Change of Glover's response per second that it comes earlier."""
    return time_derivative(GLOVER, t_r, oversampling, onset, time_length)


def glover_dispersion_derivative(
    t_r: float, oversampling: int = 50, time_length: float = LENGTH, onset: float = 0.0
) -> FloatArray:
    """Change of Glover's response per unit of its peak's dispersion."""
    return dispersion_derivative(GLOVER, t_r, oversampling, onset, time_length)
