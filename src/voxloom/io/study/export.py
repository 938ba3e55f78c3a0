"""A run back out of the store, as the file it came from."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.io.nifti.header import HEADERS, PAIR, SINGLE, header_size
from voxloom.io.nifti.write import make_image, single_file_header, write_pair, write_volumes
from voxloom.io.store.access import open_array
from voxloom.io.study.runs import read_bold, run_attrs
from voxloom.schema import MEMORY_BUDGET, shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.io.nifti.stream import FilePath
    from voxloom.io.study.open import Study
    from voxloom.schema import Grid

#: Chunks (of 4 MiB) read at a time. A whole shard takes 2.6 times its 64 MiB to read, for nothing.
CHUNKS_AT_ONCE = 4
#: NIfTI's code of an extension that is plain text.
COMMENT = 6


def export_run(study: Study, run_id: str, path: FilePath, *, memory_budget: int = MEMORY_BUDGET) -> Path:
    """Write a run with its original header; stored values are bit for bit those of the source.

    Voxels that the study does not have, or that lie outside the run's mask, are 0 as stored. A smoothed
    run has float32 values and a header that says so; a run from a ``.hdr``/``.img`` pair is written as such
    a pair, or with a NIfTI header that says the same. Of a run that was rounded, a comment in the header says so.

    Parameters
    ----------
    study : Study
    run_id : str
    path : path-like
        ``.nii`` or ``.nii.gz``; also ``.img`` or ``.img.gz`` for a run from a pair.
    memory_budget : int
        Bytes above the base of the process; a longer run is read in several passes over its shards.

    Returns
    -------
    Path
        Of the file with the data.

    Raises
    ------
    InputError
        The name of a pair for a run from a single file, or smoothed; or of no image.
    StoreError
        There is no such run.
    CorruptionError
        A shard is missing or does not match its checksums.
    """
    attrs = run_attrs(study.objects, run_id)
    source, path, changed = attrs["source"], Path(path), attrs["smoothing_fwhm"] or attrs["max_error_sd"]
    dtype = np.dtype(np.float32 if attrs["smoothing_fwhm"] else source["dtype"])
    volumes = _volumes(study, run_id, attrs, dtype, memory_budget)
    if not path.name.endswith((".img", ".img.gz")):
        return write_volumes(path, _with_note(_single_header(attrs, study.grid, dtype), attrs), volumes)
    if source["pair_offset"] is None or changed:
        raise InputError(str(path), f"run {run_id} does not come from a pair as it is stored.", "End it in .nii.gz.")
    return write_pair(path, base64.b64decode(source["header"]), source["pair_offset"], volumes)


def _single_header(attrs: dict[str, Any], grid: Grid, dtype: np.dtype[Any]) -> bytes:
    """Everything before the data in one file: as in the source where that was one, and its values are stored."""
    block = base64.b64decode(attrs["source"]["header"])
    size = header_size(block) or len(block)
    if block[344:347] not in SINGLE + PAIR and size == 348:
        return single_file_header(_header_of_analyze(attrs, grid, dtype))
    header = HEADERS[size](block[:size], check=False)
    if attrs["smoothing_fwhm"]:
        header = header.as_byteswapped("<")
        header.set_data_dtype(dtype)
        header["scl_slope"], header["scl_inter"] = 1, 0
        return single_file_header(header)
    if attrs["source"]["pair_offset"] is None:
        return block
    return single_file_header(header, block[size:] or bytes(4))


def _with_note(block: bytes, attrs: dict[str, Any]) -> bytes:
    """Add a comment to the extensions of a header where values were rounded."""
    if not attrs["max_error_sd"]:
        return block
    size = header_size(block) or len(block)
    header = HEADERS[size](block[:size], check=False)
    text = f"voxloom: no value differs by more than {attrs['max_error_sd']:g} of its voxel's temporal SD"
    note = np.zeros(8 + -(-len(text) // 16) * 16 + 8, np.uint8)
    note[:8] = np.array([note.size, COMMENT], f"{header.endianness}i4").view(np.uint8)
    note[8 : 8 + len(text)] = list(text.encode())
    return single_file_header(header, bytes([1, 0, 0, 0]) + block[size + 4 :] + note.tobytes())


def _header_of_analyze(attrs: dict[str, Any], grid: Grid, dtype: np.dtype[Any]) -> Any:
    """NIfTI-1 header that says what was read from an Analyze one."""
    header = make_image(np.empty((*grid.shape, 0), dtype), grid, t_r=attrs["t_r"]).header
    header = header.as_byteswapped(">" if dtype.byteorder == ">" else "<")
    header.set_data_shape(attrs["source"]["shape"])
    header["scl_slope"], header["scl_inter"] = attrs["slope"], attrs["inter"]
    return header


def _volumes(
    study: Study, run_id: str, attrs: dict[str, Any], dtype: np.dtype[Any], budget: int
) -> Iterator[NDArray[Any]]:
    """Volumes in turn, from a slab of as many times as the budget leaves beside the chunks being read and a volume."""
    n_times, n_voxels = attrs["n_volumes"], attrs["n_voxels"]
    array = open_array(study.objects, f"runs/{run_id}/bold")
    pieces = shard_slices(n_voxels, CHUNKS_AT_ONCE * array.chunks[0])
    place = np.unravel_index(study.voxel, study.grid.shape)
    volume = np.zeros(study.grid.shape, dtype, order="F")
    # as encoded, as decoded one by one, and as joined
    reading = 3 * (pieces[0].stop - pieces[0].start) * n_times * dtype.itemsize
    left = budget - reading - 3 * volume.nbytes
    slab = np.empty((min(n_times, max(1, left // (n_voxels * dtype.itemsize))), n_voxels), array.dtype)
    for first in range(0, n_times, len(slab)):
        last = min(first + len(slab), n_times)
        for piece in pieces:
            slab[: last - first, piece] = read_bold(study.objects, run_id, piece, raw=True)[:, first:last].T
        for row in slab[: last - first]:
            volume[place] = row
            yield volume
