"""Making a part of a store once more, to compare it with what is there or to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore, StorePath

from voxloom.io.store.arrays import open_array, unit_of
from voxloom.io.store.integrity import METADATA, metadata_key, node_of
from voxloom.io.store.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from numpy.typing import NDArray

    from voxloom.io.store.arrays import Array


class Retrace(Objects):
    """A store to write again what is in another already: what is put is compared, and only bad objects are replaced.

    Below `prefix` a writer finds nothing but what it has put itself, as at the first time. Encoding is deterministic,
    so equal bytes are equal content; where only the bytes differ (another version of a codec), the values decide.

    Parameters
    ----------
    objects : Objects
        The store.
    prefix : str
        Group that is written again.
    bad : collection of str
        Keys of objects that are not compared; nor are shards of arrays whose metadata are among them.
    mend : bool
        Put these in their place.

    Attributes
    ----------
    different : list of str
        Keys of the other objects that hold something else than what was put.
    metadata : dict of str to bytes
        Metadata that were put, by key.
    """

    def __init__(self, objects: Objects, prefix: str, bad: Collection[str] = (), *, mend: bool = False) -> None:
        super().__init__(objects.url)
        self.there, self.prefix, self.bad, self.mend = objects, prefix, bad, mend
        self.different: list[str] = []
        self.metadata: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; below the prefix, of metadata that were put."""
        return self.metadata.get(key) if self._is_below(key) else self.there.get(key)

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Compare with what is there, or mend it where it is bad."""
        if key.endswith(METADATA):
            self.metadata[key] = bytes(value)
        if self._is_bad(key):
            if self.mend and self.there.get(key) != value:
                self.there.put(key, value)
        elif not self._holds(key, bytes(value)):
            self.different.append(key)

    @property
    def streams(self) -> bool:
        """Whole objects are compared."""
        return False

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """As `put`."""
        self.put(key, b"".join(pieces))

    def put_new(self, key: str, value: bytes) -> bool:
        """Groups above an array are there, or are put by name later."""
        return True

    def delete(self, key: str) -> None:
        """Leave what is there: it is what shall be compared."""

    def delete_tree(self, prefix: str) -> None:
        """Leave what is there: it is what shall be compared."""

    def _is_bad(self, key: str) -> bool:
        """Whether an object is bad, or a shard of an array of which that cannot be told without its metadata."""
        return key in self.bad or metadata_key(node_of(key) or "") in self.bad

    def _is_below(self, key: str) -> bool:
        return key.startswith(f"{self.prefix}/")

    def _holds(self, key: str, wanted: bytes) -> bool:
        found = self.there.get(key)
        if found == wanted or found is None or key.endswith(METADATA):
            return found == wanted
        array = open_array(self.there, node_of(key) or "")
        return _same(_decoded(array, key, found), _decoded(array, key, wanted))


def _decoded(array: Array, key: str, raw: bytes) -> NDArray[Any]:
    """Values of one shard, given its bytes."""
    alone = StorePath(MemoryStore({key: Buffer.from_bytes(raw)}), array.path)
    indices = map(int, key.rpartition("/c/")[2].split("/"))
    block = tuple(slice(i * size, (i + 1) * size) for i, size in zip(indices, unit_of(array)))
    return np.asarray(type(array).from_dict(alone, array.metadata.to_dict())[block])


def _same(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether values are equal, numbers bit for bit: NaN is NaN, and -0 is not 0."""
    return a.tobytes() == b.tobytes() if a.dtype.kind in "biuf" else np.array_equal(a, b)
