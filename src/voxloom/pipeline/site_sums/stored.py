"""Sums of a group model, between Datasets and files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import xarray as xr

from voxloom.errors import InputError
from voxloom.io.maps.sums import SumsFile, block_voxels, open_sums, write_sums
from voxloom.models.group.about_sums import AboutSums
from voxloom.models.group.sums import DIMS
from voxloom.schema import grid_of, shard_slices, voxel_coords

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike
    from pathlib import Path

    from numpy.typing import NDArray


def save_sums(sums: xr.Dataset, path: str | PathLike[str], *, site: str = "") -> Path:
    """Write sums of a group model as a file, to be sent to others.

    Parameters
    ----------
    sums : Dataset
        From `group_sums`, `merge_sums` or `subtract_sums`; of lazy ones a block of voxels is computed at a time.
    path : path
        Such as ``oslo.npz``.
    site : str
        Names whose maps they are, where that is not known.

    Returns
    -------
    Path

    Raises
    ------
    InputError
        They do not know their grid and voxels, tell of fewer maps than their `min_n`, or are of another version.
    """
    about = AboutSums.from_attrs(sums.attrs)
    about.require_told()
    if "voxel" not in sums.coords:
        raise InputError("sums", "do not know their voxels.", "Make them of maps from from_nifti or of a study.")
    attrs = about.to_attrs() | ({"sites": {site: about.n}} if site and not about.sites else {})
    blocks = (_arrays(sums.isel(voxel=block)) for block in shard_slices(sums.sizes["voxel"], block_voxels(about.width)))
    return write_sums(str(path), attrs, grid_of(sums), sums["voxel"].to_numpy(), blocks)


def _arrays(sums: xr.Dataset) -> dict[str, NDArray[Any]]:
    found = sums[list(DIMS)].compute()
    return {name: found[name].transpose(*dims, "voxel").to_numpy() for name, dims in DIMS.items()}


def load_sums(path: str | PathLike[str]) -> xr.Dataset:
    """Read a file of sums whole, for `merge_sums`, `subtract_sums` and `fit_sums`.

    Parameters
    ----------
    path : path
        From `save_sums` or `voxloom group --export-sums`.

    Returns
    -------
    Dataset
        As from `group_sums`.

    Raises
    ------
    InputError
        There is none, it is something else, or of a newer version.
    CorruptionError
        It is damaged; the message says where.
    """
    file = open_sums(str(path))
    return dataset_of(file, slice(0, len(file.voxel))).assign_coords(voxel_coords(file.grid, file.voxel))


def dataset_of(file: SumsFile, voxels: slice) -> xr.Dataset:
    """A stretch of voxels of a file, without their coordinates."""
    return dataset(file.read(voxels), file.attrs)


def dataset(arrays: Mapping[str, NDArray[Any]], attrs: Mapping[str, Any]) -> xr.Dataset:
    """Sums as `group_sums` gives them."""
    variables = {name: ((*dims, "voxel"), arrays[name]) for name, dims in DIMS.items()}
    coords = {"part": ["high", "low"], "regressor": list(attrs["regressors"])}
    return xr.Dataset(variables, coords=coords, attrs=dict(attrs))


def about_files(files: Sequence[SumsFile]) -> AboutSums:
    """What files of sums are together.

    Raises
    ------
    InputError
        They are of other designs, codings, grids, voxels or versions, or a map is in several; names both.
    """
    first, *others = files
    about = about_file(first)
    for other in others:
        where = f"{first.path} and {other.path}"
        first.grid.require(other.grid, where, "Bring the maps of all sites onto one grid first.")
        if first.voxel.shape != other.voxel.shape or (first.voxel != other.voxel).any():
            counts = f"{len(first.voxel)} and {len(other.voxel)} voxels"
            raise InputError(where, f"are of other voxels ({counts}).", "Use one mask at all sites.")
        about = about.with_others(about_file(other), 1, where)
    return about


def about_file(file: SumsFile) -> AboutSums:
    """What the sums in a file are."""
    return AboutSums.from_attrs(file.attrs, str(file.path))
