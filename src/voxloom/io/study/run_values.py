"""How the stored values of a run come out of those of its file, and what is told of them per voxel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.kernels.volumes.series import moments
from voxloom.kernels.volumes.smooth import smooth_volume

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.nifti.info import NiftiInfo


class RunValues(NamedTuple):
    """Stored values: those of the file, or smoothed ones in float32."""

    dtype: np.dtype[Any]  # little-endian
    slope: float
    inter: float
    fwhm: float  # mm; 0: not smoothed
    max_error_sd: float  # 0: not rounded

    @classmethod
    def of(cls, info: NiftiInfo, fwhm: float | None, max_error_sd: float | None) -> RunValues:
        """Values of an image, by what is wanted of them."""
        if fwhm:
            return cls(np.dtype(np.float32), 1.0, 0.0, float(fwhm), max_error_sd or 0.0)
        return cls(info.dtype.newbyteorder("<"), info.slope, info.inter, 0.0, max_error_sd or 0.0)

    @property
    def volume_bytes(self) -> int:
        """Bytes beside the file's own that a voxel of a volume takes while it is read.

        Its position in the mask; and smoothing holds the volume in float64 three times.
        """
        return 32 if self.fwhm else 8

    def of_volume(self, volume: NDArray[Any], info: NiftiInfo) -> NDArray[Any]:
        """Turn one volume of the file into a flat one (Fortran order) that can be stored."""
        if self.fwhm:
            smooth = smooth_volume(info.physical(volume), self.fwhm, info.grid.voxel_sizes)
            return smooth.reshape(-1, order="F").astype(self.dtype)
        flat = volume.reshape(-1, order="F")
        return flat if flat.dtype.isnative else flat.astype(self.dtype)

    def mean_tsnr(self, block: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Temporal mean and mean / SD (divisor T) of physical values; NaN tSNR where nothing varies."""
        mean, variance = moments(block)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = self.slope * mean + self.inter
            sd = abs(self.slope) * np.sqrt(variance)
            return mean.astype(np.float32), np.where(sd > 0, mean / sd, np.nan).astype(np.float32)
