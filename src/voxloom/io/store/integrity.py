"""Whether the objects of a store are what was written: every byte lies under a checksum, and none may be missing."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from voxloom.errors import CorruptionError, StoreError
from voxloom.io.store.arrays import dims_of, open_array, unit_of
from voxloom.io.store.objects import CHUNK_KEY
from voxloom.io.store.shard import is_intact
from voxloom.sealed import is_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from voxloom.io.store.arrays import Array
    from voxloom.io.store.objects import Objects

#: Of metadata, for groups and arrays.
METADATA = "zarr.json"


class Damage(NamedTuple):
    """An object of a store that is not what was written.

    Parameters
    ----------
    key : str
        Its name in the store.
    what : str
        How that shows.
    """

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key}: {self.what}"


def node_of(key: str) -> str | None:
    """Path of the group or array that an object belongs to; None for what is no part of one."""
    if key == METADATA:
        return ""
    if key.endswith(f"/{METADATA}"):
        return key.removesuffix(f"/{METADATA}")
    chunk = CHUNK_KEY.search(key)
    return key[: chunk.start()] if chunk else None


def metadata_key(node: str) -> str:
    """Name of the object that describes a group or array."""
    return f"{node}/{METADATA}" if node else METADATA


def damage_of(objects: Objects, node: str, keys: Sequence[str], places: Iterable[str] = ()) -> Iterator[Damage]:
    """Check a group or array: its metadata, its shards, and that those which should be there are.

    One read and one pass of crc32c per object; nothing is decoded, and one object is in memory at a time. Shards of
    an array whose metadata are damaged or missing are not looked at: only they tell where its chunks lie.

    Parameters
    ----------
    objects : Objects
    node : str
    keys : sequence of str
        Its objects.
    places : iterable of str
        Which shards should be there: an index per axis (``0/3``), ``*`` for all of an axis; an empty text for all.
    """
    described = metadata_key(node)
    if described in keys and not is_sealed(objects.get(described) or b""):
        yield Damage(described, "does not match its checksum")
        return
    array = open_if_array(objects, node)
    if array is None:
        return
    wanted = {f"{node}/{key}" for place in places for key in _shard_keys(array, place)}
    yield from (Damage(key, "is missing") for key in sorted(wanted.difference(keys)))
    for key in keys:
        if key != described and not is_intact(objects.get(key) or b"", array.chunks, array.shards):
            yield Damage(key, f"does not match its checksums ({_stretch(array, key)})")


def damaged_documents(objects: Objects, keys: Iterable[str]) -> Iterator[Damage]:
    """Check JSON documents against the checksums they hold."""
    for key in keys:
        if not is_sealed(objects.get(key) or b""):
            yield Damage(key, "does not match its checksum")


def open_if_array(objects: Objects, node: str) -> Array | None:
    """Open an array; None for a group, for nothing, and where the metadata are damaged."""
    try:
        return open_array(objects, node)
    except (StoreError, CorruptionError):
        return None


def _shard_keys(array: Array, place: str) -> Iterator[str]:
    """Names, below the array, of the shards at a place."""
    indices = place.split("/") if place else ["*"] * array.ndim
    axes = [
        range(-(-n // size)) if index == "*" else [int(index)]
        for n, size, index in zip(array.shape, unit_of(array), indices, strict=True)
    ]
    for found in itertools.product(*axes):
        yield array.metadata.encode_chunk_key(found)


def _stretch(array: Array, key: str) -> str:
    """Which part of the array a shard holds."""
    indices = map(int, key.rpartition("/c/")[2].split("/"))
    return ", ".join(
        f"{dim} {i * size}:{min((i + 1) * size, n)}"
        for dim, i, size, n in zip(dims_of(array), indices, unit_of(array), array.shape)
    )
