"""Reading and writing parts of an array: whole shards in, any part out, with every checksum checked."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import CorruptionError, StoreError
from voxloom.io.store.arrays import DECODING_ERRORS, REMAKE, open_array, unit_of, voxel_axis
from voxloom.io.store.shard import encode_shard, shard_pieces
from voxloom.schema import shard_slices

#: Values that Zarr is asked for at once. It holds them encoded, as chunks and as the result side by side.
READ_BYTES = 8 * 2**20

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from voxloom.io.store.arrays import Array
    from voxloom.io.store.objects import Objects


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


def write_shard(objects: Objects, array: Array, start: int, blocks: Iterable[NDArray[Any]]) -> None:
    """Write one shard of voxels chunk by chunk; on a disk no more than a chunk of it is held.

    Parameters
    ----------
    objects : Objects
    array : Array
        With shards; its chunks hold all of the axes past the first.
    start : int
        First voxel of the shard.
    blocks : iterable of array
        Values of its chunks in order, in the array's dtype; the last may be smaller. Each is encoded before the next
        is asked for.
    """
    assert array.shards is not None
    rest = (0,) * (array.ndim - 1)
    key = array.metadata.encode_chunk_key((start // array.shards[0], *rest))
    placed = (((i, *rest), block) for i, block in enumerate(blocks))
    objects.put_pieces(f"{array.path}/{key}", shard_pieces(placed, array.chunks, array.shards, array.fill_value))


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


def read_region(objects: Objects, path: str, region: Sequence[slice]) -> NDArray[Any]:
    """Read a part of an array: one slice (of step 1) per axis.

    Raises
    ------
    StoreError
        There is no such array.
    CorruptionError
        A shard is missing or does not match its checksums; the message names it.
    """
    return _read(objects, open_array(objects, path), path, region)


def read_voxels(objects: Objects, path: str, voxels: slice) -> NDArray[Any]:
    """Read a stretch of voxels, all of the other axes.

    Raises
    ------
    StoreError, CorruptionError
        As `read_region`.
    """
    array = open_array(objects, path)
    region = [slice(None)] * array.ndim
    region[voxel_axis(array)] = voxels
    return _read(objects, array, path, region)


def _read(objects: Objects, array: Array, path: str, region: Sequence[slice]) -> NDArray[Any]:
    bounds = [wanted.indices(n)[:2] for wanted, n in zip(region, array.shape)]
    found = np.empty([max(0, stop - start) for start, stop in bounds], array.dtype)
    try:
        for block in _blocks(bounds, array.chunks, array.dtype.itemsize):
            found[tuple(slice(b.start - start, b.stop - start) for b, (start, _) in zip(block, bounds))] = array[block]
        return found
    except CorruptionError:
        raise
    except DECODING_ERRORS as error:
        # only now look for the shard: one by one
        for damage in _damaged(objects, array, path, region):
            raise damage from error
        raise


def _blocks(bounds: Sequence[tuple[int, int]], chunks: Sequence[int], itemsize: int) -> Iterator[tuple[slice, ...]]:
    """Cut a region at chunk edges into blocks of about `READ_BYTES`, longest along the last axes."""
    steps = list(chunks)
    for axis in reversed(range(len(steps))):
        room = READ_BYTES // max(1, itemsize * math.prod(steps))
        steps[axis] *= max(1, min(room, -(-bounds[axis][1] // steps[axis])))
    axes = [
        [slice(max(a, start), min(a + step, stop)) for a in range(start - start % step, stop, step)]
        for (start, stop), step in zip(bounds, steps)
    ]
    return itertools.product(*axes)


def _damaged(objects: Objects, array: Array, path: str, region: Sequence[slice]) -> Iterator[CorruptionError]:
    """Yield an error for each shard that meets the region and cannot be read."""
    unit, axes = unit_of(array), []
    for wanted, n, size in zip(region, array.shape, unit):
        start, stop, _ = wanted.indices(n)
        axes.append([slice(a, min(a + size, n)) for a in range(start - start % size, stop, size)])
    for block in itertools.product(*axes):
        try:
            array[block]
        except CorruptionError as error:
            yield error
        except DECODING_ERRORS as error:
            place = "/".join(str(b.start // size) for b, size in zip(block, unit))
            stretch = ", ".join(f"{b.start}:{b.stop}" for b in block)
            yield CorruptionError(f"{objects.url}/{path}", f"shard {place} ([{stretch}]) is damaged ({error}).", REMAKE)
