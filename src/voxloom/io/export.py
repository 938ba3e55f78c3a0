"""A run back out of the store, as the NIfTI file it came from."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.io.arrays import unit_of
from voxloom.io.header import HEADERS, header_size
from voxloom.io.ingest import MEMORY_BUDGET
from voxloom.io.runs import read_bold, run_attrs
from voxloom.io.store import open_array
from voxloom.io.write import single_file_header, write_volumes
from voxloom.schema import shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from voxloom.io.nifti import FilePath
    from voxloom.io.study import Study


def export_run(study: Study, run_id: str, path: FilePath, *, memory_budget: int = MEMORY_BUDGET) -> Path:
    """Write a run as NIfTI with its original header; stored values are bit for bit those of the source.

    Voxels that the study does not have, or that lie outside the run's mask, are 0 as stored. A smoothed
    run has float32 values and a header that says so.

    Parameters
    ----------
    study : Study
    run_id : str
    path : path-like
        ``.nii`` or ``.nii.gz``.
    memory_budget : int
        Bytes of values held at a time; a longer run is read in several passes over its shards.

    Raises
    ------
    StoreError
        There is no such run.
    CorruptionError
        A shard is missing or does not match its checksums.
    """
    attrs = run_attrs(study.objects, run_id)
    header = base64.b64decode(attrs["source"]["header"])
    dtype = np.dtype(attrs["source"]["dtype"])
    if attrs["smoothing_fwhm"]:
        header, dtype = _float32_header(header), np.dtype(np.float32)
    return write_volumes(path, header, _volumes(study, run_id, attrs, dtype, memory_budget))


def _float32_header(block: bytes) -> bytes:
    size = header_size(block) or len(block)
    header = HEADERS[size](block[:size], check=False).as_byteswapped("<")
    header.set_data_dtype(np.float32)
    header["scl_slope"], header["scl_inter"] = 1, 0
    return single_file_header(header)


def _volumes(
    study: Study, run_id: str, attrs: dict[str, Any], dtype: np.dtype[Any], budget: int
) -> Iterator[NDArray[Any]]:
    n_times, n_voxels = attrs["n_volumes"], attrs["n_voxels"]
    array = open_array(study.objects, f"runs/{run_id}/bold")
    shards = shard_slices(n_voxels, unit_of(array)[0])
    place = np.unravel_index(study.voxel, study.grid.shape)
    slab = np.empty((min(n_times, max(1, budget // (n_voxels * dtype.itemsize))), n_voxels), array.dtype)
    volume = np.zeros(study.grid.shape, dtype, order="F")
    for first in range(0, n_times, len(slab)):
        last = min(first + len(slab), n_times)
        for shard in shards:
            slab[: last - first, shard] = read_bold(study.objects, run_id, shard, raw=True)[:, first:last].T
        for row in slab[: last - first]:
            volume[place] = row
            yield volume
