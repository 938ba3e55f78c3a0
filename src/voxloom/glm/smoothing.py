"""Smoothing of maps as whole images, before the mask, as nilearn does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.glm.images import is_many, load
from voxloom.glm.parameters import is_number
from voxloom.kernels.volumes.smooth import smooth_volume
from voxloom.schema import grid_of

if TYPE_CHECKING:
    import xarray as xr


def require_fwhm(fwhm: Any) -> None:
    """Raise `InputError` unless this is a width or None."""
    if fwhm is not None and (not is_number(fwhm) or fwhm < 0):
        raise InputError("smoothing_fwhm", f"is {fwhm!r}.", "One width in mm is wanted, or None.")


def smoothed(maps: xr.DataArray, images: Any, fwhm: float | None) -> xr.DataArray:
    """Values ``(map, voxel)`` of images, smoothed by a Gaussian of `fwhm` mm; as they are without one."""
    if not fwhm:
        return maps
    grid = grid_of(maps)
    volumes = [np.asanyarray(load(img).dataobj) for img in (images if is_many(images) else [images])]
    stack = [v for volume in volumes for v in np.moveaxis(volume.reshape((*grid.shape, -1)), -1, 0)]
    inside = maps["voxel"].to_numpy()
    return maps.copy(data=np.array([smooth_volume(v, fwhm, grid.voxel_sizes).ravel()[inside] for v in stack]))
