"""The store: objects by key, arrays in whole shards with checksums, groups as lazy Datasets.

Layout, options considered and measurements: docs/design/001-store.md.
"""

from __future__ import annotations

import xarray as xr

from voxloom.errors import StoreError
from voxloom.io.store.arrays import create_array, get_attrs, open_array, put_array, put_group
from voxloom.io.store.objects import Objects, clean_partial
from voxloom.io.store.regions import read_region, read_voxels, write_region, write_shard, write_voxels
from voxloom.sealed import KEY as CHECKSUM

__all__ = [
    "Objects",
    "clean_partial",
    "create_array",
    "get_attrs",
    "open_array",
    "open_group_dataset",
    "put_array",
    "put_group",
    "read_region",
    "read_voxels",
    "write_region",
    "write_shard",
    "write_voxels",
]


def open_group_dataset(objects: Objects, group: str, *, by_shard: bool = False) -> xr.Dataset:
    """Open a group's arrays as a lazy Dataset.

    Arrays with shards become Dask arrays, one block per chunk of voxels, or per shard; the others are read
    when they are first used. Scaled integers (``scale_factor``, ``add_offset``) read as float64.

    Raises
    ------
    StoreError
        There is no such group.
    """
    if get_attrs(objects, group) is None:
        raise StoreError(f"{objects.url}/{group}", "is not in the store.", "Run the stage that writes it.")
    ds: xr.Dataset = xr.open_zarr(
        objects.strict_store, group=group, chunks=None, consolidated=False, zarr_format=3, decode_times=False
    )
    ds.attrs.pop(CHECKSUM, None)
    for variable in ds.variables.values():
        variable.attrs.pop(CHECKSUM, None)
    for name, variable in ds.variables.items():
        shards = variable.encoding.get("shards")
        if shards is not None:
            sizes = shards if by_shard else variable.encoding["chunks"]
            ds[name] = ds[name].chunk(dict(zip(variable.dims, sizes)))
    return ds
