"""One run into the store: a single decode, volume by volume, turned into voxel-major shards."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np

from voxloom._version import __version__
from voxloom.errors import CorruptionError, InputError
from voxloom.io.extras import check_extras, write_extras
from voxloom.io.header import scale
from voxloom.io.nifti import VolumeReader
from voxloom.io.runs import ATTRS
from voxloom.io.selection import select_voxels
from voxloom.io.store import create_array, get_attrs, put_array, put_group, write_voxels
from voxloom.io.study import open_study
from voxloom.io.transpose import Transposer
from voxloom.kernels.rounding import round_to_sd
from voxloom.kernels.smooth import smooth_volume
from voxloom.schema import MEMORY_BUDGET, MiB, bold_chunks, shard_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.io.extras import Extras
    from voxloom.io.nifti import NiftiInfo
    from voxloom.io.selection import Selection
    from voxloom.io.store import Objects
    from voxloom.io.stream import FilePath
    from voxloom.io.study import Study
    from voxloom.schema import ChunkRule

#: Arrays of a run beside those of `Extras`.
ARRAYS = ("bold", "in_mask", "mean", "tsnr")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")
#: Rows of a shard whose mean and deviation are taken at a time; their float64 copy stays in cache.
STATS_BYTES = MiB


class RunSummary(NamedTuple):
    """What one ingest did: bytes of the file read, and raw bytes of the arrays written (`runs.raw_bytes`)."""

    digest: str
    n_volumes: int
    bytes_read: int
    bytes_written: int
    n_outside: int
    n_nonfinite: int


class _Values(NamedTuple):
    """How stored values come out of the file's: as they are, or smoothed."""

    dtype: np.dtype[Any]
    slope: float
    inter: float
    fwhm: float
    max_error_sd: float  # 0: as they are


def write_run(
    objects: Objects,
    run_id: str,
    source: FilePath,
    *,
    mask: FilePath | NDArray[np.bool_] | None = None,
    t_r: float | None = None,
    events: pd.DataFrame | None = None,
    confounds: pd.DataFrame | None = None,
    components: Mapping[str, str | None] | None = None,
    entities: Mapping[str, Any] | None = None,
    sample_mask: NDArray[np.bool_] | None = None,
    smoothing_fwhm: float | None = None,
    max_error_sd: float | None = None,
    memory_budget: int = MEMORY_BUDGET,
    scratch: Path | None = None,
    checkpoint: Callable[[], None] = lambda: None,
) -> RunSummary:
    """Read a 4-D image once and write it as ``runs/<run_id>``.

    Values keep the file's data type (little-endian) with its slope and intercept; smoothed ones are
    float32 in physical units. Writing the same run again gives the same bytes, and a run counts as
    there only once its group's attributes, written last, are.

    Parameters
    ----------
    objects : Objects
        Of a study.
    run_id : str
        Letters, digits and ``_ + . -``.
    source : path-like
        ``.nii``, ``.nii.gz`` or either file of a ``.hdr``/``.img`` pair, on the study's grid.
    mask : path-like or (I, J, K) bool array, optional
        The run's own mask. Study voxels outside it are stored as 0 with ``in_mask`` False; its voxels that
        the study does not have are counted. Without it, the study's.
    t_r : float, optional
        Repetition time in s; the header's when not given.
    events, confounds : DataFrame, optional
        Kept with the run; confounds have one row per volume, their NaN are kept.
    components : mapping, optional
        CompCor components of the confounds by name with their masks (`voxloom.io.confounds.read_components`).
    entities : mapping, optional
        BIDS entities.
    sample_mask : (T,) bool array, optional
        Volumes to use; all when not given.
    smoothing_fwhm : float, optional
        In mm: `voxloom.kernels.smooth.smooth_volume` on each whole volume, before the mask.
    max_error_sd : float, optional
        Round every voxel's series: no value changes by more than this part of the voxel's temporal SD
        (`voxloom.kernels.rounding.round_to_sd`). Nothing is rounded when not given.
    memory_budget : int
        Bytes above the base of the process.
    scratch : path, optional
        Folder of the scratch file of a run beyond the budget.
    checkpoint : callable, optional
        Called before every volume and every shard; what it raises ends the ingest.

    Returns
    -------
    RunSummary

    Raises
    ------
    InputError
        Not 4-D, no repetition time, confounds or sample mask of another length.
    GridError
        Image or mask on another grid.
    CorruptionError
        The file ends early or does not match its checksum.
    MemoryBudgetError
        The budget is below what one shard and one volume need.
    """
    if not RUN_ID.fullmatch(run_id):
        raise InputError("run id", f"{run_id!r} cannot name a run.", "Use letters, digits and _ + . - only.")
    study = open_study(objects.url)
    with VolumeReader(source) as reader:
        info = reader.info
        info.require_4d()
        info.warn()
        study.grid.require(info.grid, info.path, "One study is one grid: resample the run, or give it another study.")
        extras = check_extras(info, t_r, events, confounds, components, entities, sample_mask)
        selection = select_voxels(study, mask)
        values = _values(info, smoothing_fwhm, max_error_sd)
        rule = bold_chunks(study.voxel.size, info.n_volumes, values.dtype.itemsize)
        slab = _slab_budget(memory_budget, rule, info, study.voxel.size, values)
        with Transposer(study.voxel.size, info.n_volumes, values.dtype, slab, scratch) as turned:
            checksum, n_nonfinite = _collect(reader, selection, values, turned, checkpoint)
            turned.release_slab()
            attrs = _attrs(reader, study, selection, values, extras, smoothing_fwhm, n_nonfinite)
            attrs["digest"] = _digest(checksum, study, selection, extras, attrs)
            # the file has been read to its checksum: only now may an older version of the run go
            path = f"runs/{run_id}"
            _make_way(objects, path, attrs, {*ARRAYS, *extras.arrays})
            written = _write_voxels(objects, path, selection, values, rule, turned, checkpoint)
        written += put_array(objects, f"{path}/in_mask", ["voxel"], selection.in_mask)
        written += write_extras(objects, path, extras)
        put_group(objects, path, {ATTRS: attrs})
    return RunSummary(attrs["digest"], info.n_volumes, reader.bytes_read, written, selection.n_outside, n_nonfinite)


def _make_way(objects: Objects, path: str, attrs: Mapping[str, Any], arrays: Collection[str]) -> None:
    """Remove another version of a run; this one, finished or half done, is written over in place.

    Another process may be writing this very run, one that a dead client left behind: what it has finished and
    recorded must not be missing at any moment, or would be lost with this process.
    """
    try:
        found = (get_attrs(objects, path) or {}).get(ATTRS)
    except CorruptionError:
        found = {}
    if found not in (None, attrs):
        objects.delete(f"{path}/zarr.json")  # from here on the run is not there
        objects.delete_tree(path)
    for name in {*objects.children(path)} - {*arrays, "zarr.json"}:
        objects.delete_tree(f"{path}/{name}")


def _values(info: NiftiInfo, fwhm: float | None, max_error_sd: float | None) -> _Values:
    if fwhm:
        return _Values(np.dtype(np.float32), 1.0, 0.0, float(fwhm), max_error_sd or 0.0)
    return _Values(info.dtype.newbyteorder("<"), info.slope, info.inter, 0.0, max_error_sd or 0.0)


def _slab_budget(budget: int, rule: ChunkRule, info: NiftiInfo, n_voxels: int, values: _Values) -> int:
    """Bytes for the slab: what the budget leaves beside one shard being written and one volume being read.

    A shard exists as turned values and encoded; BOLD encodes to at most about its raw size. Smoothing
    holds a volume in float64 three times.
    """
    n = min(rule.shard, n_voxels)
    shard = n * info.n_volumes * values.dtype.itemsize
    volume = int(np.prod(info.grid.shape)) * (info.dtype.itemsize + (32 if values.fwhm else 8))
    return max(0, budget - volume - 2 * shard)


def peak_memory(info: NiftiInfo, n_voxels: int, fwhm: float | None, memory_budget: int) -> int:
    """Bytes that `write_run` holds at most for an image with this header in a study of `n_voxels`.

    More than the budget where not even one volume's voxels are left room for.
    """
    values = _values(info, fwhm, None)  # rounding is done in place
    row, itemsize = n_voxels * values.dtype.itemsize, values.dtype.itemsize
    rule = bold_chunks(n_voxels, info.n_volumes, itemsize)
    n_rows = min(info.n_volumes, max(1, _slab_budget(memory_budget, rule, info, n_voxels, values) // row))
    shard = 2 * min(rule.shard, n_voxels) * info.n_volumes * itemsize
    volume = int(np.prod(info.grid.shape)) * (2 * info.dtype.itemsize + (32 if values.fwhm else 8))
    axis = n_voxels * (8 + 8 + 8 + 1)  # of the study and of the run, and where its voxels lie
    spills = n_rows < info.n_volumes
    return axis + (max(row * n_rows + volume, shard) if spills else row * n_rows + max(volume, shard))


def _collect(
    reader: VolumeReader,
    selection: Selection,
    values: _Values,
    turned: Transposer,
    checkpoint: Callable[[], None],
) -> tuple[int, int]:
    """Take every volume's voxels; return the crc32c of them in time order and how many are not finite."""
    checksum, n_nonfinite, info = 0, 0, reader.info
    counts = info.dtype.kind == "f"
    for volume in reader:
        checkpoint()
        flat = volume.reshape(-1, order="F")
        if counts:
            inside = flat if selection.run_voxels.size == flat.size else flat[selection.run_voxels]
            n_nonfinite += inside.size - int(np.count_nonzero(np.isfinite(inside)))
        if values.fwhm:
            smooth = smooth_volume(info.physical(volume), values.fwhm, info.grid.voxel_sizes)
            flat = smooth.reshape(-1, order="F").astype(values.dtype)
        elif not flat.dtype.isnative:
            flat = flat.astype(values.dtype)
        row = turned.next_row()
        np.take(flat, selection.source, out=row, mode="clip")
        row[selection.outside] = 0
        checksum = google_crc32c.extend(checksum, row.tobytes())
        turned.commit()
    return checksum, n_nonfinite


def _write_voxels(
    objects: Objects,
    path: str,
    selection: Selection,
    values: _Values,
    rule: ChunkRule,
    turned: Transposer,
    checkpoint: Callable[[], None],
) -> int:
    """Write ``bold`` shard by shard with the mean and tSNR of its voxels; return their raw bytes."""
    n, scaled = turned.n_voxels, (values.slope, values.inter) != (1.0, 0.0)
    create_array(
        objects,
        f"{path}/bold",
        dims=("voxel", "time"),
        shape=(n, turned.n_times),
        dtype=values.dtype,
        chunks=(rule.chunk, turned.n_times),
        shards=(rule.shard, turned.n_times),
        # CF: xarray reads physical float64; both are given because it takes float32 for either alone
        attrs={"scale_factor": values.slope, "add_offset": values.inter} if scaled else {},
    )
    mean, tsnr, written = np.empty(n, np.float32), np.empty(n, np.float32), 0
    for shard in shard_slices(n, rule.shard):
        checkpoint()
        block = turned.voxels(shard.start, shard.stop)
        if values.max_error_sd:
            round_to_sd(block, values.max_error_sd)
        write_voxels(objects, f"{path}/bold", shard, block)
        written += block.nbytes
        mean[shard], tsnr[shard] = _mean_tsnr(block, values)
    mean[selection.outside] = tsnr[selection.outside] = np.nan
    written += put_array(objects, f"{path}/mean", ["voxel"], mean)
    return written + put_array(objects, f"{path}/tsnr", ["voxel"], tsnr)


def _mean_tsnr(block: NDArray[Any], values: _Values) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Temporal mean and mean / SD (divisor T) of physical values; NaN tSNR where nothing varies."""
    n, n_times = block.shape
    mean, variance = np.empty(n), np.empty(n)
    step = max(1, STATS_BYTES // (8 * n_times))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for start in range(0, n, step):
            x = scale(block[start : start + step], values.slope, values.inter)
            mean[start : start + step] = m = x.mean(axis=1)
            x -= m[:, None]
            variance[start : start + step] = np.einsum("vt,vt->v", x, x) / n_times
        tsnr = np.where(variance > 0, mean / np.sqrt(variance), np.nan)
        return mean.astype(np.float32), tsnr.astype(np.float32)


def _attrs(
    reader: VolumeReader,
    study: Study,
    selection: Selection,
    values: _Values,
    extras: Extras,
    fwhm: float | None,
    n_nonfinite: int,
) -> dict[str, Any]:
    info, stat = reader.info, Path(reader.path).stat()
    return {
        "n_volumes": info.n_volumes,
        "n_voxels": int(study.voxel.size),
        "n_in_mask": int(np.count_nonzero(selection.in_mask)),
        "n_outside": selection.n_outside,
        "n_nonfinite": n_nonfinite,
        "t_r": extras.t_r,
        "dtype": values.dtype.str,
        "slope": values.slope,
        "inter": values.inter,
        "smoothing_fwhm": fwhm or None,
        "max_error_sd": values.max_error_sd or None,
        "entities": extras.entities,
        "events": extras.events,
        "confounds": extras.names,
        "components": extras.components,
        "source": {
            "path": str(Path(reader.path).absolute()),
            "size": stat.st_size,
            "mtime_ns": stat.st_mtime_ns,
            "sha256": reader.sha256,
            "dtype": info.dtype.str,
            "shape": list(info.shape),
            "header": base64.b64encode(info.header_bytes).decode(),
            "pair_offset": info.pair_offset,
        },
        "versions": {"voxloom": __version__, "numpy": np.__version__},
    }


def _digest(checksum: int, study: Study, selection: Selection, extras: Extras, attrs: dict[str, Any]) -> str:
    """Digest of all that results depend on; of nothing else (not of where the file lies, nor of chunks).

    The file's sha256 stands for its values, which are not hashed a second time (a tenth of the ingest); the
    crc32c of the stored ones stands for what was made of them.
    """
    kept = (
        "n_volumes",
        "t_r",
        "dtype",
        "slope",
        "inter",
        "smoothing_fwhm",
        "entities",
        "events",
        "confounds",
    )
    content = [attrs["source"]["sha256"], checksum]
    if attrs["max_error_sd"]:  # the checksum is of the values before they are rounded
        content.append(attrs["max_error_sd"])
    text = json.dumps([content, study.digest, {name: attrs[name] for name in kept}], sort_keys=True)
    digest = hashlib.sha256(text.encode())
    if extras.components is not None:
        digest.update(json.dumps(extras.components, sort_keys=True).encode())
    digest.update(np.packbits(selection.in_mask).tobytes())
    digest.update(np.packbits(extras.sample_mask).tobytes())
    if extras.confounds is not None:
        digest.update(np.ascontiguousarray(extras.confounds.to_numpy(dtype="<f8")).tobytes())
    return digest.hexdigest()[:16]
