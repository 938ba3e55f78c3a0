"""Encoding of one Zarr v3 shard.

Zarr's own writer gives the same bytes, but reads the old shard before it replaces one, copies every chunk
three times and hands each to a thread: 1.6 times the CPU of the compression alone. Reading is left to Zarr.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any, Literal

import google_crc32c
import numpy as np
from numcodecs import Blosc  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

#: Measured in docs/design/001-store.md.
CNAME: Literal["lz4"] = "lz4"
CLEVEL = 5
#: Offset and length in the index of a chunk that holds nothing of the array.
ABSENT = 2**64 - 1


def encode_shard(
    values: NDArray[Any], chunks: tuple[int, ...], shards: tuple[int, ...] | None, fill_value: Any
) -> bytes | memoryview:
    """Encode one shard: chunks (little-endian, blosc, crc32c) one after the other, then their index.

    The shard grows in place: beside the values it is held once, and one chunk.

    Parameters
    ----------
    values : array
        What the array holds of this shard; smaller than the shard at the end of an axis.
    chunks : tuple of int
    shards : tuple of int or None
        None for an array without shards, whose unit is one chunk.
    fill_value : scalar
        Fills the last chunk of an axis up to its full shape.
    """
    if shards is None:
        return b"".join(_encode_chunk(values, chunks, fill_value))
    places = itertools.product(*(range(-(-n // c)) for n, c in zip(values.shape, chunks)))
    blocks = ((place, values[tuple(slice(i * c, (i + 1) * c) for i, c in zip(place, chunks))]) for place in places)
    encoded = bytearray()
    for piece in shard_pieces(blocks, chunks, shards, fill_value):
        encoded += piece
    return memoryview(encoded)


def shard_pieces(
    blocks: Iterable[tuple[tuple[int, ...], NDArray[Any]]],
    chunks: tuple[int, ...],
    shards: tuple[int, ...],
    fill_value: Any,
) -> Iterator[bytes]:
    """Yield the bytes of one shard in turn while its chunks, each with its place in the shard, are being made.

    A chunk may lie where the one before it lay.
    """
    index = np.full((*(s // c for s, c in zip(shards, chunks)), 2), ABSENT, "<u8")
    size = 0
    for place, values in blocks:
        data, checksum = _encode_chunk(values, chunks, fill_value)
        index[place] = size, len(data) + len(checksum)
        size += len(data) + len(checksum)
        yield data
        yield checksum
    places = index.tobytes()
    yield places
    yield _checksum(places)


def is_intact(encoded: bytes, chunks: tuple[int, ...], shards: tuple[int, ...] | None) -> bool:
    """Whether every byte of a shard is what `encode_shard` gave, by its checksums alone; nothing is decoded."""
    if shards is None:
        return _matches(encoded)
    size = 16 * math.prod(s // c for s, c in zip(shards, chunks)) + 4
    index, end = encoded[-size:], len(encoded) - size
    if end < 0 or not _matches(index):
        return False
    places = np.frombuffer(index[:-4], "<u8").reshape(-1, 2)
    edge = 0
    for start, length in sorted((int(a), int(n)) for a, n in places if a != ABSENT):
        if start != edge or not _matches(encoded[start : start + length]):
            return False
        edge += length
    return edge == end


def _matches(data: bytes) -> bool:
    """Whether the last four bytes are the checksum of the others."""
    return len(data) >= 4 and _checksum(data[:-4]) == data[-4:]


def _encode_chunk(values: NDArray[Any], chunk: tuple[int, ...], fill_value: Any) -> tuple[bytes, bytes]:
    """Encode a chunk; give it and its checksum."""
    if values.shape != chunk:
        whole = np.full(chunk, fill_value, values.dtype)
        whole[tuple(slice(0, n) for n in values.shape)] = values
        values = whole
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    codec = Blosc(CNAME, CLEVEL, Blosc.BITSHUFFLE, typesize=little.dtype.itemsize)
    data = codec.encode(little)
    return data, _checksum(data)


def _checksum(data: bytes) -> bytes:
    checksum: int = google_crc32c.value(data)
    return checksum.to_bytes(4, "little")
