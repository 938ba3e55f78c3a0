"""Gaussian smoothing of volumes, and of maps within a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.ndimage import gaussian_filter1d

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

#: Full width at half maximum of a Gaussian of unit standard deviation.
FWHM_PER_SIGMA = float(np.sqrt(8 * np.log(2)))


def smooth_volume(volume: NDArray[Any], fwhm: float, voxel_sizes: Sequence[float]) -> NDArray[np.float64]:
    """Convolve a volume with an isotropic Gaussian of `fwhm` mm, one axis after the other.

    The kernel ends at four standard deviations and the volume is mirrored at its faces, as nilearn's
    ``smooth_img`` does. The whole volume is smoothed, not the mask, so that a voxel at the edge of the
    brain takes in what lies outside it. Non-finite values count as 0.

    Parameters
    ----------
    volume : (I, J, K) array
        Physical values. Not changed.
    fwhm : float
        In mm; 0 only replaces non-finite values.
    voxel_sizes : 3 floats
        In mm.

    Returns
    -------
    (I, J, K) float64 array
        In the memory order of `volume`.
    """
    smooth = np.nan_to_num(volume.astype(np.float64, order="K"), copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    for axis, size in enumerate(voxel_sizes):
        if fwhm > 0:
            gaussian_filter1d(smooth, fwhm / (FWHM_PER_SIGMA * size), axis=axis, output=smooth)
    return smooth


def smooth_within(
    values: NDArray[np.float64],
    voxel: NDArray[np.int64],
    shape: Sequence[int],
    fwhm: float,
    voxel_sizes: Sequence[float],
) -> NDArray[np.float64]:
    """Smooth values (m, V) at flat voxel indices (V,) of a volume; only these voxels count (normalised convolution)."""
    smoothed, smooth = smoother_within(voxel, shape, fwhm, voxel_sizes), np.empty_like(values)
    for row, out in zip(values, smooth):
        out[:] = smoothed(row)
    return smooth


def smoother_within(
    voxel: NDArray[np.int64], shape: Sequence[int], fwhm: float, voxel_sizes: Sequence[float]
) -> Callable[[NDArray[np.float64]], NDArray[np.float64]]:
    """Do `smooth_within` for a map (V,) at a time."""

    def spread(values: NDArray[np.float64] | float) -> NDArray[np.float64]:
        volume = np.zeros(shape)
        volume.flat[voxel] = values
        return np.asarray(smooth_volume(volume, fwhm, voxel_sizes).flat[voxel])

    weight = spread(1.0)
    return lambda values: spread(values) / weight
