"""Statistic maps in the store: per unit as they are made, and consolidated for the group stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.io.store.arrays import create_array
from voxloom.io.store.regions import write_region, write_voxels
from voxloom.schema import MAP_CHUNK_VOXELS, MAP_SHARD_VOXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects

#: Maps kept of every run and subject; z and p follow from stat and dof.
STATISTICS = ("effect", "variance", "stat", "dof")


def map_chunks(n_voxels: int) -> tuple[int, int]:
    """Voxels per chunk and per shard of a map of so many voxels."""
    chunk = min(MAP_CHUNK_VOXELS, n_voxels)
    return chunk, min(MAP_SHARD_VOXELS, -(-n_voxels // chunk) * chunk)


def make_map_array(
    objects: Objects,
    path: str,
    leading: Mapping[str, int],
    n_voxels: int,
    *,
    chunk: Sequence[int] | None = None,
    attrs: Mapping[str, Any] | None = None,
    on_replace: Callable[[], None] | None = None,
) -> None:
    """Create a float64 array of dims ``(*leading, voxel)``; one map a chunk unless told otherwise."""
    voxel_chunk, voxel_shard = map_chunks(n_voxels)
    create_array(
        objects,
        path,
        dims=(*leading, "voxel"),
        shape=(*leading.values(), n_voxels),
        chunks=(*(chunk or (1,) * len(leading)), voxel_chunk),
        shards=(*(chunk or (1,) * len(leading)), voxel_shard),
        attrs=attrs,
        on_replace=on_replace,
    )


def make_maps(objects: Objects, path: str, contrasts: Sequence[str], n_voxels: int) -> None:
    """Room for the contrast maps of one run or subject: one object a shard; they are read by whole shards."""
    _, voxels = map_chunks(n_voxels)
    for name in STATISTICS:
        create_array(
            objects,
            f"{path}/{name}",
            dims=("contrast", "voxel"),
            shape=(len(contrasts), n_voxels),
            chunks=(1, voxels),
            shards=(len(contrasts), voxels),
        )


def write_maps(objects: Objects, path: str, maps: xr.Dataset, voxels: slice) -> int:
    """Write a stretch of voxels of every statistic; return the raw bytes."""
    for name in STATISTICS:
        write_voxels(objects, f"{path}/{name}", voxels, maps[name].to_numpy())
    return sum(maps[name].nbytes for name in STATISTICS)


def write_block(objects: Objects, path: str, corner: Sequence[int], values: NDArray[Any]) -> None:
    """Write whole shards of an array, the first element at `corner`."""
    region = [slice(start, start + n) for start, n in zip(corner, values.shape, strict=True)]
    write_region(objects, path, region, values)
