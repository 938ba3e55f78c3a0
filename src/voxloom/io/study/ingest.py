"""One run into the store: a single decode, volume by volume, turned into voxel-major shards."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import google_crc32c
import numpy as np

from voxloom.errors import CorruptionError, InputError
from voxloom.io.nifti.volumes import VolumeReader
from voxloom.io.store.access import create_array, get_attrs, put_array, put_group, write_shard
from voxloom.io.study.extras import check_extras, write_extras
from voxloom.io.study.open import open_study
from voxloom.io.study.provenance import attributes, run_digest
from voxloom.io.study.run_memory import RunMemory
from voxloom.io.study.run_values import RunValues
from voxloom.io.study.runs import ATTRS
from voxloom.io.study.selection import select_voxels
from voxloom.io.study.transpose import Transposer
from voxloom.kernels.volumes.rounding import round_to_sd
from voxloom.kernels.volumes.series import pick
from voxloom.schema import MEMORY_BUDGET, bold_chunks, shard_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    from voxloom.io.nifti.stream import FilePath
    from voxloom.io.store.access import Objects
    from voxloom.io.study.selection import Selection
    from voxloom.schema import ChunkRule

#: Arrays of a run beside those of `Extras`.
ARRAYS = ("bold", "in_mask", "mean", "tsnr")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_+.-]*")


class RunSummary(NamedTuple):
    """What one ingest did: bytes of the file read, and raw bytes of the arrays written (`runs.raw_bytes`).

    Voxels of the run's mask: `n_outside` that the study does not have, `n_still` whose signal does not vary or is not
    finite.
    """

    digest: str
    n_volumes: int
    bytes_read: int
    bytes_written: int
    n_outside: int
    n_nonfinite: int
    n_still: int


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
        CompCor components of the confounds by name with their masks (`voxloom.io.bids.confounds.read_components`).
    entities : mapping, optional
        BIDS entities.
    sample_mask : (T,) bool array, optional
        Volumes to use; all when not given.
    smoothing_fwhm : float, optional
        In mm: `voxloom.kernels.volumes.smooth.smooth_volume` on each whole volume, before the mask.
    max_error_sd : float, optional
        Round every voxel's series: no value changes by more than this part of the voxel's temporal SD
        (`voxloom.kernels.volumes.rounding.round_to_sd`). Nothing is rounded when not given.
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
        The budget is below what two volumes and some chunks, or for a bucket a shard, need.
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
        values = RunValues.of(info, smoothing_fwhm, max_error_sd)
        rule = bold_chunks(study.voxel.size, info.n_volumes, values.dtype.itemsize)
        slab = RunMemory.of(info, study.voxel.size, values, streams=objects.streams).slab(memory_budget)
        with Transposer(study.voxel.size, info.n_volumes, values.dtype, slab, scratch) as turned:
            checksum, n_nonfinite = _collect(reader, selection, values, turned, checkpoint)
            turned.release_slab()
            attrs = attributes(reader, study, selection, values, extras, n_nonfinite)
            attrs["digest"] = run_digest(checksum, study, selection, extras, attrs)
            # the file has been read to its checksum: only now may an older version of the run go
            path = f"runs/{run_id}"
            _make_way(objects, path, attrs, {*ARRAYS, *extras.arrays})
            written, n_still = _write_voxels(objects, path, selection, values, rule, turned, checkpoint)
        written += put_array(objects, f"{path}/in_mask", ["voxel"], selection.in_mask)
        written += write_extras(objects, path, extras)
        put_group(objects, path, {ATTRS: attrs})
    counts = selection.n_outside, n_nonfinite, n_still
    return RunSummary(attrs["digest"], info.n_volumes, reader.bytes_read, written, *counts)


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


def _collect(
    reader: VolumeReader,
    selection: Selection,
    values: RunValues,
    turned: Transposer,
    checkpoint: Callable[[], None],
) -> tuple[int, int]:
    """Take every volume's voxels; return the crc32c of them in time order and how many are not finite."""
    checksum, n_nonfinite, info = 0, 0, reader.info
    counts, bits = info.dtype.kind == "f", f"u{values.dtype.itemsize}"  # one compiled `pick` per size of a value
    for volume in reader:
        checkpoint()
        if counts:
            n_nonfinite += _count_nonfinite(volume.reshape(-1, order="F"), selection)
        row = turned.next_row()
        flat = values.of_volume(volume, info)
        pick(flat.view(bits), selection.source, selection.place, row.view(bits))
        row[selection.outside] = 0
        checksum = google_crc32c.extend(checksum, row.view(np.uint8))
        turned.commit()
    return checksum, n_nonfinite


def _count_nonfinite(flat: NDArray[Any], selection: Selection) -> int:
    """How many of the run's own voxels are not finite."""
    inside = flat if selection.run_voxels.size == flat.size else flat[selection.run_voxels]
    return inside.size - int(np.count_nonzero(np.isfinite(inside)))


def _write_voxels(
    objects: Objects,
    path: str,
    selection: Selection,
    values: RunValues,
    rule: ChunkRule,
    turned: Transposer,
    checkpoint: Callable[[], None],
) -> tuple[int, int]:
    """Write ``bold`` shard by shard with the mean and tSNR of its voxels; return their raw bytes, and `n_still`."""
    n, scaled = turned.n_voxels, (values.slope, values.inter) != (1.0, 0.0)
    bold = create_array(
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
    mean, tsnr = np.empty(n, np.float32), np.empty(n, np.float32)
    chunks = _chunks(turned, values, rule, mean, tsnr)
    for start in range(0, n, rule.shard):
        checkpoint()
        write_shard(objects, bold, start, itertools.islice(chunks, rule.shard // rule.chunk))
    mean[selection.outside] = tsnr[selection.outside] = np.nan
    written = n * turned.n_times * values.dtype.itemsize
    written += put_array(objects, f"{path}/mean", ["voxel"], mean)
    written += put_array(objects, f"{path}/tsnr", ["voxel"], tsnr)
    return written, int(np.count_nonzero(np.isnan(tsnr) & selection.in_mask))


def _chunks(
    turned: Transposer, values: RunValues, rule: ChunkRule, mean: NDArray[np.float32], tsnr: NDArray[np.float32]
) -> Iterator[NDArray[Any]]:
    """Yield ``bold`` chunk by chunk, each good until the next; what is done to one is done while it is in cache."""
    for voxels in shard_slices(turned.n_voxels, rule.chunk):
        block = turned.voxels(voxels.start, voxels.stop)
        if values.max_error_sd:
            round_to_sd(block, values.max_error_sd)
        mean[voxels], tsnr[voxels] = values.mean_tsnr(block)
        yield block
