"""Threshold-free cluster enhancement of maps and volumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from voxloom.errors import InputError
from voxloom.kernels.maps.neighbours import Neighbourhood, neighbourhood
from voxloom.kernels.maps.tfce import tfce_scores
from voxloom.schema import grid_of
from voxloom.spec.statistics import TFCE

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxloom.spec.statistics import Connectivity


def tfce(
    volume: xr.DataArray | NDArray[Any],
    *,
    mask: ArrayLike | None = None,
    E: float = 0.5,
    H: float = 2.0,
    connectivity: Connectivity = 6,
    two_sided: bool = False,
    steps: int | None = None,
) -> xr.DataArray | NDArray[np.float64]:
    """Enhance a map by the extent of its clusters at all heights (Smith and Nichols 2009).

    The score of a voxel is the integral of extent^E height^H over heights from 0 to its value, where the extent is
    that of the cluster of voxels above the height that holds it. It is exact, with nothing to choose.

    Parameters
    ----------
    volume : (I, J, K) array or DataArray
        Of z (or t). A DataArray is over ``voxel``, with its place in a grid as all maps of voxloom have it
        (`from_nifti`); other dims are maps enhanced one by one. A lazy one is computed.
    mask : array of bool, optional
        Voxels that take part, of the shape of the volume or over ``voxel``. All of them when not given.
    E, H : float
        Exponents of extent and height.
    connectivity : 6, 18 or 26
        Neighbours share a face; or an edge too; or a corner too.
    two_sided : bool
        Negative values make clusters of their own and have negative scores; else they have none.
    steps : int, optional
        Take a sum over so many heights (a right Riemann sum up to the map's maximum, times their distance) in
        place of the integral, as FSL, PALM and nilearn do with 100.

    Returns
    -------
    array or DataArray
        Scores, as `volume` but float64 and in memory. 0 outside the mask, NaN where the map is.

    Raises
    ------
    InputError
        The array is no volume, the mask is of another shape, the map has no place in a grid, or a parameter is out
        of range.
    """
    parameters = TFCE(E=E, H=H, connectivity=connectivity, steps=steps)
    if isinstance(volume, xr.DataArray):
        return _of_maps(volume, mask, parameters, two_sided)
    return _of_volume(np.asarray(volume), mask, parameters, two_sided)


def _of_volume(volume: NDArray[Any], mask: ArrayLike | None, parameters: TFCE, two_sided: bool) -> NDArray[np.float64]:
    if volume.ndim != 3:
        raise InputError("volume", f"has shape {volume.shape}.", "Three dimensions are wanted.")
    inside = _inside(mask, volume.shape)
    around = neighbourhood(np.flatnonzero(inside), volume.shape, parameters.connectivity)
    out = np.zeros(volume.shape)
    out[inside] = _scores(volume[inside][np.newaxis], around, parameters, two_sided)[0]
    return out


def _of_maps(maps: xr.DataArray, mask: ArrayLike | None, parameters: TFCE, two_sided: bool) -> xr.DataArray:
    if "voxel" not in maps.coords:
        raise InputError(str(maps.name or "volume"), "has no `voxel` coordinate.", "Make it with voxloom.from_nifti.")
    grid, voxel_last = grid_of(maps), maps.transpose(..., "voxel")
    inside = _inside(mask, (maps.sizes["voxel"],))
    around = neighbourhood(maps["voxel"].to_numpy()[inside], grid.shape, parameters.connectivity)
    values = voxel_last.to_numpy()
    out = np.zeros(values.shape)
    out[..., inside] = _scores(values[..., inside].reshape(-1, inside.sum()), around, parameters, two_sided).reshape(
        *values.shape[:-1], -1
    )
    return voxel_last.copy(data=out).transpose(*maps.dims).rename("tfce").drop_attrs(deep=False)


def _inside(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    inside = np.ones(shape, bool) if mask is None else np.asarray(mask).astype(bool)
    if inside.shape != shape:
        raise InputError("mask", f"has shape {inside.shape}.", f"That of the volume, {shape}, is wanted.")
    return inside


def _scores(values: NDArray[Any], around: Neighbourhood, parameters: TFCE, two_sided: bool) -> NDArray[np.float64]:
    values = np.ascontiguousarray(values, dtype=np.float64)
    scores = tfce_scores(values, around, E=parameters.E, H=parameters.H, steps=parameters.steps, two_sided=two_sided)
    return cast("NDArray[np.float64]", np.where(np.isnan(values), np.nan, scores))
