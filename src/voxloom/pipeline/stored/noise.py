"""Noise parameters in the store, ``noise/<digest>/<run>/<parameter>(voxel)``: of every voxel by itself, or smoothed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.io.store.arrays import create_array, open_array, unit_of
from voxloom.io.store.regions import read_voxels, write_voxels
from voxloom.schema import ChunkRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects


def make_noise_room(
    objects: Objects,
    path: str,
    parameters: Sequence[str],
    n_voxels: int,
    rule: ChunkRule,
    on_replace: Callable[[], None] | None = None,
) -> None:
    """Create an array for each parameter, cut as the run's BOLD is."""
    for name in parameters:
        create_array(
            objects,
            f"noise/{path}/{name}",
            dims=("voxel",),
            shape=(n_voxels,),
            chunks=(rule.chunk,),
            shards=(rule.shard,),
            on_replace=on_replace,
        )


def cut_of(objects: Objects, path: str, parameters: Sequence[str]) -> ChunkRule:
    """How the parameters that lie at a path are cut."""
    array = open_array(objects, f"noise/{path}/{parameters[0]}")
    return ChunkRule(chunk=array.chunks[0], shard=unit_of(array)[0])


def write_noise(
    objects: Objects, path: str, parameters: Sequence[str], values: NDArray[np.float64], voxels: slice
) -> int:
    """Write whole shards of the parameters (m, n); return their raw bytes."""
    for name, row in zip(parameters, values, strict=True):
        write_voxels(objects, f"noise/{path}/{name}", voxels, row)
    return values.nbytes


def read_noise(objects: Objects, path: str, parameters: Sequence[str], voxels: slice) -> NDArray[np.float64]:
    """Parameters (m, n) of a stretch of voxels."""
    return np.array([read_voxels(objects, f"noise/{path}/{name}", voxels) for name in parameters])
