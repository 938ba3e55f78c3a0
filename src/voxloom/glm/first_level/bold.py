"""BOLD of runs: files are streamed into a store, images are taken as they are."""

from __future__ import annotations

import hashlib
import tempfile
import warnings
from itertools import islice
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm.images import Masker, is_many, load, mask_of
from voxloom.glm.parameters import is_number
from voxloom.glm.smoothing import smoothed
from voxloom.io.nifti.header import t_r_of
from voxloom.io.nifti.volumes import volumes
from voxloom.io.nifti.write import make_image
from voxloom.io.study.run_files import run_file
from voxloom.io.study.runs import read_run, stored_name
from voxloom.kernels.volumes.automask import compute_brain_mask
from voxloom.pipeline.ingest_images import ingest
from voxloom.pipeline.masks import MASK_VOLUMES
from voxloom.schema import Grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr


#: A repetition time of this and more (s) is one in ms.
LONGEST_T_R = 100
#: What headers say of which nobody set the time (s).
UNSET_T_R = 1.0
#: Repetition times that differ by less than this share are the same, rounded.
TOLERANCE = 0.01


def require_series(runs: Sequence[Any]) -> Grid:
    """The grid of the runs.

    Raises
    ------
    InputError
        No run, or one that is no 4-D image.
    GridError
        They differ in their grids.
    """
    if not runs:
        raise InputError("run_imgs", "the list is empty.", "Give one 4-D image per run.")
    grids = []
    for i, run in enumerate(runs, 1):
        img = load(run)
        if len(img.shape) != 4:
            raise InputError(f"run_imgs, run {i}", f"has shape {img.shape}.", "A 4-D series is wanted per run.")
        grids.append(Grid.of(img.shape, img.affine))
    for i, grid in enumerate(grids[1:], 2):
        grids[0].require(grid, f"run_imgs, run {i}")
    return grids[0]


def masker_of(mask_img: Any, runs: Sequence[Any], grid: Grid) -> Masker:
    """Voxels of the fit: of the mask; every one where it is False; of the brain where there is none."""
    mask_img = mask_of(mask_img)
    if mask_img is False:
        return Masker(make_image(np.ones(grid.shape, np.uint8), grid)).fit()
    if mask_img is not None:
        masker = Masker(mask_img).fit()
        grid.require(Grid.from_attrs(masker.coords["grid"].attrs), "mask_img")
        return masker
    share = np.mean([compute_brain_mask(_first_mean(run)) for run in runs], axis=0)
    if not (share > 0.5).any():
        raise InputError("mask_img", "no brain was found in the images.", "Pass a mask, or False for every voxel.")
    return Masker(make_image((share > 0.5).astype(np.uint8), grid)).fit()


def _first_mean(run: Any) -> Any:
    if is_file(run):
        first = [np.array(volume, dtype=np.float64) for volume in islice(volumes(Path(run)), MASK_VOLUMES)]
        return np.mean(first, axis=0)
    return np.asarray(run.dataobj[..., :MASK_VOLUMES], dtype=np.float64).mean(axis=-1)


def repetition_time(given: Any, run: Any) -> float | None:
    """Seconds from volume to volume: as given, else the header's.

    Raises
    ------
    InputError
        What is given cannot be seconds.
    """
    header = t_r_of(load(run).header)
    if given is None:
        return header
    if not is_number(given) or not 0 < given < LONGEST_T_R:
        raise InputError("t_r", f"is {given!r}.", "The repetition time in seconds is wanted.")
    if header not in (None, UNSET_T_R) and abs(header - given) > TOLERANCE * given:
        what = f"t_r: {given:g} s is taken, but the image's header says {header:g} s."
        warnings.warn(what, VoxloomWarning, stacklevel=4)
    return float(given)


def series(
    runs: Sequence[Any], masker: Masker, t_r: Sequence[float], *, fwhm: float | None, store: Any, client: Any
) -> list[xr.DataArray]:
    """``bold(voxel, time)`` of every run: lazy from the store for files, in memory for images."""
    files = [i for i, run in enumerate(runs) if is_file(run)]
    stored = _from_files([fspath(runs[i]) for i in files], masker, [t_r[i] for i in files], fwhm, store, client)
    lazy = dict(zip(files, stored))
    return [lazy[i] if i in lazy else _in_memory(run, masker, t_r[i], fwhm) for i, run in enumerate(runs)]


def _in_memory(img: Any, masker: Masker, t_r: float, fwhm: float | None) -> xr.DataArray:
    found = smoothed(masker.maps(img)["effect"], img, fwhm).rename(map="time").rename("bold")
    return _timed(found, t_r).transpose("voxel", "time")


def _from_files(
    paths: Sequence[str], masker: Masker, t_r: Sequence[float], fwhm: float | None, store: Any, client: Any
) -> list[xr.DataArray]:
    if not paths:
        return []
    ids = [_id(path) for path in paths]
    rows = {run_id: {"id": run_id, "bold": path} for run_id, path in zip(ids, paths)}
    with tempfile.TemporaryDirectory() as folder:
        mask = Path(folder) / "mask.nii.gz"
        nib.save(masker.mask_img_, mask)
        # the store wants a repetition time for every header that has none; times are set below
        study = ingest(list(rows.values()), store, mask=mask, t_r=t_r[0], smoothing_fwhm=fwhm, client=client)
    names, there = [stored_name(run_id, smooth=fwhm, error=None) for run_id in ids], study.runs.index
    lost = [path for path, name in zip(paths, names) if name not in there]
    if lost:
        raise InputError("run_imgs", f"{lost} cannot be used; a warning says why.", "Mend them or leave them out.")
    return [
        _timed(study.run(name)["bold"], seconds).assign_attrs(digest=read_run(study.objects, name).digest)
        for name, seconds in zip(names, t_r)
    ]


def _id(path: str) -> str:
    """Name of a run: its file's, with a digest of the path, for files of several folders may have one name."""
    place = hashlib.sha256(str(Path(path).absolute()).encode()).hexdigest()[:8]
    return f"{run_file(path).id}_path-{place}"


def _timed(bold: xr.DataArray, t_r: float) -> xr.DataArray:
    return bold.assign_coords(time=t_r * np.arange(bold.sizes["time"]))


def is_file(run: Any) -> bool:
    """Whether a run is a path."""
    return isinstance(run, str | PathLike)


def runs_of(run_imgs: Any) -> list[Any]:
    """Runs as a list."""
    return list(run_imgs) if is_many(run_imgs) else [run_imgs]
