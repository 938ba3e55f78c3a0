"""Arrays and groups of a store: made with voxloom's settings, opened, described."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.metadata import ArrayV3Metadata
from zarr.storage import StorePath

from voxloom.errors import StoreError
from voxloom.io.store.shard import CLEVEL, CNAME, encode_shard
from voxloom.sealed import BLANK, KEY, is_sealed, require_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from voxloom.io.store.objects import Objects

    Array = zarr.Array[Any]

#: Chunks of zeros are written too, so that a missing one is known to be lost.
CONFIG: Any = {"write_empty_chunks": True}
#: What Zarr raises for bytes that are not what was written: wrong checksums, sizes, offsets.
DECODING_ERRORS = (ValueError, RuntimeError, IndexError, OverflowError, TypeError)
REMAKE = "Mend the store: `voxloom verify ANALYSIS --repair`."


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
    on_replace: Callable[[], None] | None = None,
    resizable: str | None = None,
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
    on_replace : callable, optional
        Called before an array is removed for another one: whoever keeps account of its data forgets it here.
    resizable : str, optional
        Axis along which one that is there is made longer or shorter instead: its data stay where they are.
    """
    memory: dict[str, Any] = {}
    _create(memory, dims, tuple(shape), tuple(chunks), tuple(shards) if shards else None, dtype, fill_value, attrs)
    wanted, key = _sealed(json.loads(memory["zarr.json"].to_bytes())), _metadata_key(path)
    found = objects.get(key)
    if found != wanted:
        if found is not None and (resizable is None or _resized(found, shape, dims.index(resizable)) != wanted):
            if on_replace is not None:
                on_replace()
            objects.delete_tree(path)
        _put_parents(objects, path)
        objects.put(key, wanted)
    return open_array(objects, path, writable=True)


def _resized(found: bytes, shape: Sequence[int], axis: int) -> bytes | None:
    """Metadata of an array with another length along one axis; None for a group, or what is not what was written."""
    node = json.loads(found) if is_sealed(found) else {}
    if node.get("node_type") != "array" or len(node["shape"]) != len(shape):
        return None
    node["shape"][axis] = shape[axis]
    return _sealed(node)


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
    """Make an array in memory, with all of voxloom's settings."""
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


def put_array(
    objects: Objects,
    path: str,
    dims: Sequence[str],
    values: Any,
    *,
    attrs: Mapping[str, Any] | None = None,
) -> int:
    """Write a small array as one chunk; return the raw bytes of its numbers (text counts none)."""
    values = np.asarray(values)
    memory: dict[str, Any] = {}
    chunk = tuple(max(1, n) for n in values.shape)
    dtype = str if values.dtype.kind in "UOT" else values.dtype
    array = _create(memory, dims, values.shape, chunk, None, dtype, None, attrs)
    if dtype is str:
        array[...] = values
    _put_parents(objects, path)
    encoded = {key: value.to_bytes() for key, value in memory.items()}
    encoded["zarr.json"] = _sealed(json.loads(encoded["zarr.json"]))
    if dtype is not str:
        key = array.metadata.encode_chunk_key((0,) * values.ndim)
        encoded[key] = encode_shard(values, chunk, None, array.fill_value)
    for key in sorted(encoded):  # data ("c/0") before the metadata that announce them
        objects.put(f"{path}/{key}", encoded[key])
    return 0 if dtype is str else int(values.nbytes)


def put_group(objects: Objects, path: str, attrs: Mapping[str, Any]) -> None:
    """Write a group's metadata, over older ones, in one step."""
    _put_parents(objects, path)
    objects.put(_metadata_key(path), _group(attrs))


def _group(attrs: Mapping[str, Any]) -> bytes:
    return _sealed({"zarr_format": 3, "node_type": "group", "attributes": dict(attrs)})


def _sealed(node: dict[str, Any]) -> bytes:
    """Metadata of a group or array as bytes, with their checksum among the attributes."""
    node["attributes"] = node.get("attributes", {}) | BLANK
    return seal(json.dumps(node, indent=2, allow_nan=False).encode())


def _put_parents(objects: Objects, path: str) -> None:
    """Make the groups above a path, so that xarray and other readers can walk the store."""
    parts = path.split("/")[:-1] if path else []
    # from the nearest up: a group that is there has its own parents
    for depth in range(len(parts), -1 if path else 0, -1):
        key = _metadata_key("/".join(parts[:depth]))
        if objects.get(key) is not None:
            return
        objects.put_new(key, _group({}))


def _metadata_key(path: str) -> str:
    return f"{path}/zarr.json" if path else "zarr.json"


def _read_node(objects: Objects, path: str) -> dict[str, Any] | None:
    """Metadata of a group or array without their checksum; None when there is none."""
    key = _metadata_key(path)
    found = objects.get(key)
    if found is None:
        return None
    require_sealed(found, f"{objects.url}/{key}")
    node: dict[str, Any] = json.loads(found)
    del node["attributes"][KEY]
    return node


def get_attrs(objects: Objects, path: str = "") -> dict[str, Any] | None:
    """Attributes of a group or array; None when there is none.

    Raises
    ------
    CorruptionError
        The metadata do not match their checksum.
    """
    node = _read_node(objects, path)
    return None if node is None else dict(node["attributes"])


def open_array(objects: Objects, path: str, *, writable: bool = False) -> Array:
    """Open an array: one that raises where a chunk is missing, or one to write to.

    Raises
    ------
    StoreError
        There is none.
    CorruptionError
        Its metadata do not match their checksum.
    """
    node = _read_node(objects, path)
    if node is None or node["node_type"] != "array":
        raise StoreError(f"{objects.url}/{path}", "is not in the store.", "Run the stage that writes it.")
    store = objects.store if writable else objects.strict_store
    return zarr.Array.from_dict(StorePath(store, path), node)


def unit_of(array: Array) -> tuple[int, ...]:
    """Shape of what is written at once: the shard, or the chunk of an array without shards."""
    return array.shards or array.chunks


def dims_of(array: Array) -> tuple[str, ...]:
    """Names of the axes."""
    assert isinstance(array.metadata, ArrayV3Metadata)
    return tuple(str(name) for name in array.metadata.dimension_names or ())


def voxel_axis(array: Array) -> int:
    """Position of the ``voxel`` axis."""
    return dims_of(array).index("voxel")
