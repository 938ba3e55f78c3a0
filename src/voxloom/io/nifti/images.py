"""NIfTI images to Datasets in memory and back."""

from __future__ import annotations

from collections.abc import Iterable
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
import xarray as xr

import voxloom.io.accessor  # noqa: F401  (registers .vx)
from voxloom.errors import GridError, InputError
from voxloom.io.nifti.header import t_r_of
from voxloom.io.nifti.volumes import VolumeReader, read_header, read_mask
from voxloom.io.nifti.write import make_image, write_nifti
from voxloom.schema import Grid, grid_of, voxel_coords

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

__all__ = ["from_nifti", "to_nifti", "write_nifti"]


class _Source(NamedTuple):
    """An image, wherever it lies: what is known of it and how to go through its physical volumes."""

    name: str
    shape: tuple[int, ...]
    grid: Grid
    dtype: np.dtype[Any]
    t_r: float | None
    volumes: Callable[[], Iterator[NDArray[Any]]]

    @property
    def n_volumes(self) -> int:
        return int(np.prod(self.shape[3:], dtype=int))


def from_nifti(
    imgs: Any, mask: Any = None, *, t_r: float | None = None, dim: Literal["time", "map"] | None = None
) -> xr.Dataset:
    """Read images into memory as a Dataset over voxels.

    Parameters
    ----------
    imgs : path, image, or sequence of them
        One 4-D series, or several 3-D maps.
    mask : path, image or (I, J, K) bool array, optional
        Voxels to keep. Without it: those that are finite in every volume and not 0 in all of them.
    t_r : float, optional
        Repetition time in s; the header's when not given.
    dim : {"time", "map"}, optional
        What the volumes are; by default those of one 4-D image are times, and several images are maps.

    Returns
    -------
    Dataset
        ``bold(voxel, time)`` or ``effect(map, voxel)`` in physical units. The data type is the file's
        where it holds plain integers or floats; scaled integers become float32, or float64 over 16 bits.
        Coordinates: ``voxel`` (flat C-order index: the order of ``data[mask]``), ``grid``, and ``time``
        (s) or ``map`` (file names without folder and ending, else counted).

    Raises
    ------
    InputError
        A 3-D image where a series is meant or the reverse, no repetition time, no voxel left.
    GridError
        Images or mask of another grid; the message names the file.
    """
    is_many = not isinstance(imgs, str | PathLike) and isinstance(imgs, Iterable)
    sources = [_source(img, i) for i, img in enumerate(imgs if is_many else [imgs])]
    if not sources:
        raise InputError("from_nifti", "no images were given.", "Pass one 4-D image or a list of 3-D images.")
    for source in sources[1:]:
        sources[0].grid.require(source.grid, source.name)
    grid = sources[0].grid
    voxel = _mask_voxels(mask, grid) if mask is not None else _live_voxels(sources)
    if dim == "map" or (dim is None and is_many):
        return _maps(sources, grid, voxel)
    if is_many:
        raise InputError("from_nifti", "several images were given as one series.", "Pass one 4-D image.")
    return _bold(sources[0], voxel, t_r)


def _bold(source: _Source, voxel: NDArray[np.int64], t_r: float | None) -> xr.Dataset:
    if len(source.shape) != 4:
        raise InputError(
            source.name,
            f"has shape {source.shape}, but a 4-D series is wanted.",
            "Pass a list of 3-D images, or dim='map', for maps.",
        )
    t_r = source.t_r if t_r is None else t_r
    if t_r is None:
        raise InputError(source.name, "its header gives no repetition time.", "Pass t_r= in seconds.")
    bold = _select([source], source.grid, voxel).T
    coords = voxel_coords(source.grid, voxel) | {"time": ("time", t_r * np.arange(source.n_volumes), {"units": "s"})}
    return xr.Dataset({"bold": (("voxel", "time"), np.ascontiguousarray(bold))}, coords, {"t_r": t_r})


def _maps(sources: list[_Source], grid: Grid, voxel: NDArray[np.int64]) -> xr.Dataset:
    if len(sources) > 1 and any(source.n_volumes > 1 for source in sources):
        name = next(source.name for source in sources if source.n_volumes > 1)
        raise InputError(name, "has several volumes, but is one of several maps.", "Pass 3-D images, or one 4-D image.")
    effect = _select(sources, grid, voxel)
    coords = voxel_coords(grid, voxel) | {"map": ("map", _map_names(sources))}
    return xr.Dataset({"effect": (("map", "voxel"), effect)}, coords)


def _map_names(sources: list[_Source]) -> list[str]:
    """File names without folder and ending; with their folders where these are not unique."""
    if len(sources) == 1:
        return [str(i) for i in range(sources[0].n_volumes)] if sources[0].n_volumes > 1 else [_stem(sources[0].name)]
    stems = [_stem(source.name) for source in sources]
    return stems if len(set(stems)) == len(stems) else [source.name for source in sources]


def _stem(name: str) -> str:
    return Path(name).name.removesuffix(".gz").removesuffix(".nii")


def _select(sources: list[_Source], grid: Grid, voxel: NDArray[np.int64]) -> NDArray[Any]:
    """Values (volumes, voxels) of all sources, one volume beyond them in memory."""
    ijk = np.unravel_index(voxel, grid.shape)
    dtype = np.result_type(*(source.dtype for source in sources))
    values = np.empty((sum(source.n_volumes for source in sources), voxel.size), dtype)
    rows = iter(values)
    for source in sources:
        for volume in source.volumes():
            next(rows)[:] = volume[ijk]
    return values


def _source(img: Any, i: int) -> _Source:
    if isinstance(img, str | PathLike):
        return _file_source(fspath(img))
    return _image_source(img, i)


def _file_source(path: str) -> _Source:
    info = read_header(path)
    info.warn()
    plain = not info.is_scaled
    dtype = info.dtype.newbyteorder("=") if plain else np.result_type(np.float32, info.dtype)

    def volumes() -> Iterator[NDArray[Any]]:
        with VolumeReader(path) as reader:
            for raw in reader:
                yield raw if plain else info.physical(raw)

    return _Source(path, info.shape, info.grid, dtype, info.t_r, volumes)


def _image_source(img: Any, i: int) -> _Source:
    if not isinstance(img, nib.nifti1.Nifti1Pair):
        raise InputError(
            "from_nifti",
            f"got a {type(img).__name__}.",
            "Wanted: a path or a NIfTI image, or a list of these.",
        )
    data = np.asanyarray(img.dataobj)
    if data.dtype.kind not in "iuf" or data.ndim < 3:
        raise InputError(
            "from_nifti",
            f"got an image of shape {data.shape} and type {data.dtype}.",
            "Wanted: real 3-D or 4-D.",
        )
    shape = data.shape[:3] + tuple(n for n in data.shape[3:] if n > 1)
    stack = data.reshape((*shape[:3], -1))

    def volumes() -> Iterator[NDArray[Any]]:
        yield from np.moveaxis(stack, -1, 0)

    return _Source(
        img.get_filename() or str(i),
        shape,
        Grid.of(shape, img.affine),
        data.dtype.newbyteorder("="),
        t_r_of(img.header) if len(shape) == 4 else None,
        volumes,
    )


def _live_voxels(sources: list[_Source]) -> NDArray[np.int64]:
    """Voxels that are finite in every volume and differ from 0 in some."""
    finite = np.ones(sources[0].grid.shape, bool)
    live = np.zeros_like(finite)
    for source in sources:
        for volume in source.volumes():
            finite &= np.isfinite(volume)
            live |= volume != 0
    voxel = np.flatnonzero(finite & live)
    if voxel.size == 0:
        raise InputError(sources[0].name, "no voxel is finite everywhere and not 0.", "Check the images or pass mask=.")
    return voxel


def _mask_voxels(mask: Any, grid: Grid) -> NDArray[np.int64]:
    """Flat indices of a mask given as path, image or array."""
    if isinstance(mask, str | PathLike):
        chosen, mask_grid = read_mask(mask)
        grid.require(mask_grid, str(mask))
        return np.flatnonzero(chosen)
    if isinstance(mask, nib.nifti1.Nifti1Pair):
        grid.require(Grid.of(mask.shape, mask.affine), mask.get_filename() or "mask")
        mask = np.asanyarray(mask.dataobj).reshape(grid.shape)
    mask = np.asarray(mask)
    if mask.shape != grid.shape:
        raise GridError("mask", f"has shape {mask.shape}, but the images have {grid.shape}.", "Use the images' grid.")
    voxel = np.flatnonzero(np.nan_to_num(mask) != 0)
    if voxel.size == 0:
        raise InputError("mask", "is empty: no voxel is set.", "Check the mask or leave it out.")
    return voxel


def to_nifti(data: xr.DataArray, *, fill: float = 0.0, dtype: Any = "float32") -> Any:
    """Put an array over voxels back into its volume.

    Parameters
    ----------
    data : DataArray
        Over ``voxel`` (3-D image) or ``voxel`` and one more dim (4-D image, one volume per map or time).
        Lazy arrays are computed.
    fill : float
        Value outside the voxel axis. The default 0 is what FSL, SPM and nilearn write; NaN of voxels on
        the axis (missing) stays NaN.
    dtype : dtype
        Of the image.

    Returns
    -------
    Nifti1Image
        With sform and qform code 4 where the grid is of an MNI space, else 2; units mm and s; the repetition
        time where there is a ``time`` coordinate.

    Raises
    ------
    InputError
        No ``voxel`` dim, no ``grid`` coordinate, or more than one other dim.
    """
    grid, others = grid_of(data), [dim for dim in data.dims if dim != "voxel"]
    if "voxel" not in data.dims or len(others) > 1:
        raise InputError(
            str(data.name), f"has dims {data.dims}.", "Wanted: voxel, or voxel and one more; select first."
        )
    values = data.transpose("voxel", *others).to_numpy()
    volume = np.full((int(np.prod(grid.shape)), *values.shape[1:]), fill, dtype)
    volume[data["voxel"].to_numpy()] = values
    t_r = None
    if others == ["time"] and data.sizes["time"] > 1 and "time" in data.coords:
        t_r = float(np.median(np.diff(data["time"].to_numpy())))
    return make_image(volume.reshape((*grid.shape, *values.shape[1:])), grid, t_r=t_r)
