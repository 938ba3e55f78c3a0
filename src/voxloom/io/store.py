"""Arrays of a store: created with voxloom's codecs, written by whole shards, read with checksums.

Options considered and measurements: docs/design/001-store.md.
"""

from __future__ import annotations

import itertools
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec

from voxloom.errors import CorruptionError, StoreError
from voxloom.io.objects import Objects, clean_partial
from voxloom.io.shard import CLEVEL, CNAME, encode_shard
from voxloom.schema import shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    Array = zarr.Array[Any]

__all__ = [
    "Objects",
    "clean_partial",
    "create_array",
    "damaged_shards",
    "get_attrs",
    "open_array",
    "open_group_dataset",
    "put_array",
    "put_group",
    "read_voxels",
    "write_region",
    "write_voxels",
]

#: Chunks of zeros are written too, so that a missing one is known to be lost.
CONFIG: Any = {"write_empty_chunks": True}
#: What Zarr raises for bytes that are not what was written: wrong checksums, sizes, offsets.
DECODING_ERRORS = (ValueError, RuntimeError, IndexError, OverflowError, TypeError)
REMAKE = "Run `voxloom verify`, then the stage that wrote it again."


def create_array(
    objects: Objects,
    path: str,
    *,
    dims: Sequence[str],
    shape: Sequence[int],
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
    dtype: Any = np.float64,
    fill_value: Any = None,
    attrs: Mapping[str, Any] | None = None,
) -> Array:
    """Make room for an array; one that is there with the same metadata is kept, another is replaced.

    Parameters
    ----------
    objects : Objects
    path : str
        ``runs/sub-01/bold``; the groups above are made.
    dims : sequence of str
        Names of the axes.
    shape, chunks, shards : sequence of int
        `chunks` is the unit of reading, `shards` (a multiple) of writing; without it, a chunk is.
    dtype : dtype
    fill_value : scalar, optional
        NaN for floats, 0 otherwise, when not given.
    attrs : mapping, optional
        JSON-able.
    """
    memory: dict[str, Any] = {}
    _create(memory, dims, tuple(shape), tuple(chunks), tuple(shards) if shards else None, dtype, fill_value, attrs)
    wanted, key = memory["zarr.json"].to_bytes(), f"{path}/zarr.json"
    found = objects.get(key)
    if found != wanted:
        if found is not None:
            objects.delete_tree(path)
        _put_parents(objects, path)
        objects.put(key, wanted)
    return open_array(objects, path, writable=True)


def _create(
    memory: dict[str, Any],
    dims: Sequence[str],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    shards: tuple[int, ...] | None,
    dtype: Any,
    fill_value: Any,
    attrs: Mapping[str, Any] | None,
) -> Array:
    """An array in memory, with all of voxloom's settings."""
    return zarr.create_array(
        memory,
        shape=shape,
        chunks=chunks,
        shards=shards,
        dtype=dtype,
        compressors=(BloscCodec(cname=CNAME, clevel=CLEVEL, shuffle="bitshuffle"), Crc32cCodec()),
        fill_value=_default_fill(dtype) if fill_value is None else fill_value,
        dimension_names=tuple(dims),
        attributes=dict(attrs or {}),
        config=CONFIG,
    )


def _default_fill(dtype: Any) -> Any:
    if dtype is str:
        return ""
    return np.nan if np.dtype(dtype).kind == "f" else 0


def _group(attrs: Mapping[str, Any]) -> bytes:
    return json.dumps(
        {"zarr_format": 3, "node_type": "group", "attributes": dict(attrs)}, indent=2, allow_nan=False
    ).encode()


def put_group(objects: Objects, path: str, attrs: Mapping[str, Any]) -> None:
    """Write a group's metadata, over older ones, in one step."""
    _put_parents(objects, path)
    key = f"{path}/zarr.json" if path else "zarr.json"
    objects.put(key, _group(attrs))


def _put_parents(objects: Objects, path: str) -> None:
    """Make the groups above a path, so that xarray and other readers can walk the store."""
    parts = path.split("/")[:-1]
    for depth in range(len(parts) + (path != "")):
        key = "/".join([*parts[:depth], "zarr.json"])
        if objects.get(key) is None:
            objects.put_new(key, _group({}))


def get_attrs(objects: Objects, path: str = "") -> dict[str, Any] | None:
    """Attributes of a group or array; None when there is none.

    Raises
    ------
    CorruptionError
        The metadata cannot be read.
    """
    key = f"{path}/zarr.json" if path else "zarr.json"
    found = objects.get(key)
    if found is None:
        return None
    try:
        return dict(json.loads(found).get("attributes", {}))
    except (ValueError, AttributeError, TypeError) as error:
        raise CorruptionError(f"{objects.url}/{key}", f"cannot be read ({error}).", REMAKE) from error


def open_array(objects: Objects, path: str, *, writable: bool = False) -> Array:
    """Open an array: one that raises where a chunk is missing, or one to write to.

    Raises
    ------
    StoreError
        There is none.
    CorruptionError
        Its metadata cannot be read.
    """
    store = objects.store if writable else objects.strict_store
    try:
        return zarr.open_array(store, path=path, mode="r+" if writable else "r", zarr_format=3, config=CONFIG)
    except FileNotFoundError as error:
        raise StoreError(f"{objects.url}/{path}", "is not in the store.", "Run the stage that writes it.") from error
    except (*DECODING_ERRORS, KeyError) as error:
        raise CorruptionError(f"{objects.url}/{path}", f"has damaged metadata ({error}).", REMAKE) from error


def put_array(
    objects: Objects,
    path: str,
    dims: Sequence[str],
    values: Any,
    *,
    attrs: Mapping[str, Any] | None = None,
) -> int:
    """Write a small array as one chunk; return the bytes it takes in the store."""
    values = np.asarray(values)
    memory: dict[str, Any] = {}
    chunk = tuple(max(1, n) for n in values.shape)
    dtype = str if values.dtype.kind in "UOT" else values.dtype
    _create(memory, dims, values.shape, chunk, None, dtype, None, attrs)[...] = values
    _put_parents(objects, path)
    for key in sorted(memory):  # data ("c/0") before the metadata that announces them
        objects.put(f"{path}/{key}", memoryview(memory[key].as_numpy_array()))
    return sum(len(value) for value in memory.values())


def unit_of(array: Array) -> tuple[int, ...]:
    """Shape of what is written at once: the shard, or the chunk of an array without shards."""
    return array.shards or array.chunks


def write_region(objects: Objects, path: str, region: Sequence[slice], values: NDArray[Any]) -> int:
    """Write whole shards of an array; return the bytes they take in the store.

    Every shard is encoded in memory and put in one step, so that a reader sees the old one or the new
    one, and equal values give equal bytes.

    Parameters
    ----------
    objects : Objects
    path : str
    region : sequence of slice
        One per axis; begins at a shard's edge and ends at one or at the end of the axis.
    values : array
        In the shape of the region.

    Raises
    ------
    StoreError
        The region cuts a shard, or the values are of another shape.
    """
    return _write(objects, open_array(objects, path, writable=True), path, region, values)


def _write(objects: Objects, array: Array, path: str, region: Sequence[slice], values: NDArray[Any]) -> int:
    unit, written = unit_of(array), 0
    _require_whole(f"{objects.url}/{path}", array.shape, unit, region, values.shape)
    values = values.astype(array.dtype, copy=False)
    for block in itertools.product(*(shard_slices(n, size) for n, size in zip(values.shape, unit))):
        place = tuple((r.start + b.start) // size for r, b, size in zip(region, block, unit))
        encoded = encode_shard(values[block], array.chunks, array.shards, array.fill_value)
        objects.put(f"{path}/{array.metadata.encode_chunk_key(place)}", encoded)
        written += len(encoded)
    return written


def _require_whole(
    where: str, shape: Sequence[int], unit: Sequence[int], region: Sequence[slice], given: Sequence[int]
) -> None:
    wanted = tuple(r.stop - r.start for r in region)
    if wanted != tuple(given):
        raise StoreError(where, f"values of shape {tuple(given)} were given for a region of shape {wanted}.")
    for r, size, n in zip(region, unit, shape, strict=True):
        if r.start % size or (r.stop % size and r.stop != n) or r.stop > n or r.start < 0:
            raise StoreError(
                where,
                f"{r.start}:{r.stop} is not made of whole shards of {size} (axis of {n}).",
                "Parts of a shard cannot be written without losing what another task writes beside them.",
            )


def voxel_axis(array: Array) -> int:
    """Position of the ``voxel`` axis."""
    names: Any = array.metadata.dimension_names
    return list(names).index("voxel")


def write_voxels(objects: Objects, path: str, voxels: slice, values: NDArray[Any]) -> int:
    """Write whole shards of voxels, all of the other axes; return the bytes they take in the store.

    Raises
    ------
    StoreError
        As `write_region`.
    """
    array = open_array(objects, path, writable=True)
    region = [slice(0, n) for n in array.shape]
    region[voxel_axis(array)] = slice(voxels.start, voxels.stop)
    return _write(objects, array, path, region, values)


def read_voxels(objects: Objects, path: str, voxels: slice) -> NDArray[Any]:
    """Read a stretch of voxels, all of the other axes.

    Raises
    ------
    CorruptionError
        A shard is missing or does not match its checksums; the message names it.
    """
    array = open_array(objects, path)
    axis = voxel_axis(array)
    start, stop, _ = voxels.indices(array.shape[axis])
    size = unit_of(array)[axis]
    parts = []
    for first in range(start - start % size, stop, size):
        stretch = slice(max(first, start), min(first + size, stop))
        region = (slice(None),) * axis + (stretch,)
        try:
            parts.append(np.asarray(array[region]))
        except CorruptionError:
            raise
        except DECODING_ERRORS as error:
            where = f"{objects.url}/{path}, shard {first // size} (voxels {first}:{min(first + size, array.shape[axis])})"
            raise CorruptionError(where, f"is damaged ({error}).", REMAKE) from error
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts, axis=axis) if parts else np.asarray(array[(slice(None),) * axis + (slice(0, 0),)])


def damaged_shards(objects: Objects, prefix: str = "") -> Iterator[CorruptionError]:
    """Read every shard of every array below a prefix; yield what is missing or does not match its checksums."""
    for key in objects.list(prefix):
        if not key.endswith("zarr.json"):
            continue
        path = key.removesuffix("/zarr.json")
        try:
            node = json.loads(objects.get(key) or b"null")
            if node["node_type"] != "array":
                continue
            array = open_array(objects, path)
        except (ValueError, KeyError, TypeError, CorruptionError) as error:
            yield CorruptionError(f"{objects.url}/{key}", f"cannot be read ({error}).", REMAKE)
            continue
        yield from _damaged(objects, path, array)


def _damaged(objects: Objects, path: str, array: Array) -> Iterator[CorruptionError]:
    for block in itertools.product(*(shard_slices(n, size) for n, size in zip(array.shape, unit_of(array)))):
        try:
            array[block]
        except CorruptionError as error:
            yield error
        except DECODING_ERRORS as error:
            place = tuple(b.start // size for b, size in zip(block, unit_of(array)))
            yield CorruptionError(f"{objects.url}/{path}, shard {place}", f"is damaged ({error}).", REMAKE)


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
    ds = xr.open_zarr(
        objects.strict_store, group=group, chunks=None, consolidated=False, zarr_format=3, decode_times=False
    )
    for name, variable in ds.variables.items():
        shards = variable.encoding.get("shards")
        if shards is not None:
            sizes = shards if by_shard else variable.encoding["chunks"]
            ds[name] = ds[name].chunk(dict(zip(variable.dims, sizes)))
    return ds
