"""The voxel axis of a study and its grid, made anew from what is left of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.errors import StoreError
from voxloom.io.store.arrays import get_attrs
from voxloom.io.store.integrity import metadata_key, open_if_array
from voxloom.io.store.regions import read_region, read_voxels
from voxloom.io.store.shard import is_intact
from voxloom.io.study.open import describe_study, write_axis
from voxloom.io.study.retrace import Retrace
from voxloom.io.study.runs import ATTRS
from voxloom.pipeline.masks import study_mask
from voxloom.pipeline.prepare import read_headers, study_grid
from voxloom.schema import Grid
from voxloom.sealed import is_sealed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.workspace import Workspace

ROOT = metadata_key("")
#: The arrays of the axis (`io.study.open.AXIS`) are one shard each.
SHARDS = {"voxel": "voxel/c/0", "ijk": "ijk/c/0/0", "mask": "mask/c/0/0/0"}


def mend_axis(ws: Workspace) -> None:
    """Make damaged or missing objects of the axis and the root anew: from each other, else from the images.

    Raises
    ------
    StoreError
        The images give other voxels than those that are left.
    """
    bad = bad_objects(ws.objects)
    if not bad:
        return
    inputs = read_headers(tuple(ws.runs))
    grid = stored_grid(ws.objects) if ROOT not in bad else study_grid(ws, inputs)
    mask = find_mask(ws, inputs, grid, bad)
    trial = Retrace(ws.objects, "", bad)
    write_axis(trial, mask)
    if trial.different:
        raise StoreError(
            ws.url,
            f"the images give another {trial.different[0]} than the study was made with.",
            "Bring the masks back that it was made with, or give the analysis another `store:`.",
        )
    write_axis(Retrace(ws.objects, "", bad, mend=True), mask)
    if ROOT in bad:
        describe_study(ws.objects, grid, {"mask": ws.analysis.to_dict()["data"]["mask"]})


def bad_objects(objects: Objects) -> set[str]:
    """Objects of axis and root that are damaged or missing; with the metadata of an array, its shard is suspect."""
    bad = set() if is_sealed(objects.get(ROOT) or b"") else {ROOT}
    for node, shard in SHARDS.items():
        array = open_if_array(objects, node)
        if array is None:
            bad |= {metadata_key(node), shard}
        elif not is_intact(objects.get(shard) or b"", array.chunks, array.shards):
            bad.add(shard)
    return bad


def stored_grid(objects: Objects) -> Grid:
    """Grid of the study, as its root says."""
    return Grid.from_attrs((get_attrs(objects) or {})[ATTRS]["grid"])


def find_mask(ws: Workspace, inputs: Inputs, grid: Grid, bad: set[str]) -> NDArray[np.bool_]:
    """Voxels of the study: as stored, where an array that tells them is sound, else from the images as at first."""
    if SHARDS["mask"] not in bad:
        return read_region(ws.objects, "mask", [slice(None)] * 3)
    if SHARDS["voxel"] not in bad:
        mask = np.zeros(grid.shape, bool)
        mask.reshape(-1)[read_voxels(ws.objects, "voxel", slice(None))] = True
        return mask
    return study_mask(ws, inputs, grid)
