"""How many runs cover each voxel of a study: counted from the masks kept with the runs, whenever those change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from voxloom.io.store.access import get_attrs, open_array, put_array, read_voxels
from voxloom.io.study.runs import ATTRS, members, run_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from voxloom.io.store.access import Objects

PATH = "coverage"
#: Reads in flight: most of the time of a small read goes to the file system or the network.
READERS = 16


def complete_runs(objects: Objects) -> list[str]:
    """Runs of a store, one stored version of each, in order of their names."""
    versions: dict[str, str] = {}
    names = members(objects, "runs")
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda name: get_attrs(objects, f"runs/{name}"), names)
        for name, attrs in zip(names, found):
            if ATTRS in (attrs or {}):
                versions.setdefault(run_of(name), name)
    return list(versions.values())


def count_coverage(objects: Objects, run_ids: Iterable[str], n_voxels: int) -> NDArray[np.int32]:
    """Count the runs whose own mask covers each voxel of the study: (V,).

    Raises
    ------
    StoreError
        There is no such run.
    CorruptionError
        The mask of a run is damaged.
    """
    counts, whole = np.zeros(n_voxels, np.int32), slice(0, n_voxels)
    with ThreadPoolExecutor(READERS) as pool:
        for in_mask in pool.map(lambda name: read_voxels(objects, f"runs/{name}/in_mask", whole), run_ids):
            counts += in_mask
    return counts


def write_coverage(objects: Objects, state: str = "") -> None:
    """Count all runs of the store and write ``coverage(voxel)``; the same runs give the same bytes.

    Parameters
    ----------
    objects : Objects
        Of a study.
    state : str
        What tells these runs from others. It is written after the counts: where a process ends in between,
        `coverage_state` does not say that they are of these runs.
    """
    n_voxels = open_array(objects, "voxel").shape[0]
    counts = count_coverage(objects, complete_runs(objects), n_voxels)
    put_array(objects, PATH, ["voxel"], counts, attrs={"units": "runs", "state": state})


def coverage_state(objects: Objects) -> str | None:
    """Which runs the stored counts are of; None where there are no counts."""
    attrs = get_attrs(objects, PATH)
    return None if attrs is None else str(attrs["state"])
