"""A store as keys and bytes: what the ledger, locks and metadata need, on a disk or an object store."""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from zarr.core.buffer.core import default_buffer_prototype
from zarr.storage import WrapperStore

from voxloom.errors import CorruptionError, InputError, StoreAccessError
from voxloom.io.store.disk import Disk
from voxloom.sealed import require_sealed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer as AnyBuffer
    from zarr.core.buffer import BufferPrototype

#: What looks like an address; a folder of Windows (``c:/``) does not.
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/")
BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]+(/(?!\.{1,2}(/|$))[^/]+)*")
#: Key of a chunk or shard of an array.
CHUNK_KEY = re.compile(r"(^|/)c(/\d+)*$")


class Place(Protocol):
    """Where objects are kept. Keys are relative; a prefix ends where a part of a key ends."""

    streams: bool

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; None when there is none."""

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Write an object, whole or not at all, over an older one."""

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Write an object, whole or not at all, whose bytes are made while it is written."""

    def put_new(self, key: str, value: bytes) -> bool:
        """Write an object unless there is one; of several callers at once, one gets True."""

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""

    def delete_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""

    def keys(self, prefix: str) -> Sequence[str]:
        """Keys below a prefix, at any depth."""

    def children(self, prefix: str) -> Sequence[str]:
        """Names directly below a prefix."""

    def clean_partial(self) -> int:
        """Remove what interrupted writes left; return how many."""

    def zarr_store(self, *, read_only: bool) -> Store:
        """The same objects, as Zarr reads and writes them."""


class Objects:
    """The objects of one store by key. Cheap to make and to pickle; opens nothing before it is used.

    Parameters
    ----------
    url : path-like or str
        A folder, or ``s3://bucket/prefix``. Where a bucket is and who may enter it is told by the environment of
        the process (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID`` and the like), never kept here or pickled.

    Raises
    ------
    InputError
        An address of another kind.
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        text = os.fspath(url).removeprefix("file://")
        if not ADDRESS.match(text):
            text = str(Path(text).expanduser().absolute())
        elif not BUCKET.fullmatch(text.rstrip("/")):
            raise InputError(text, "is no place for a store.", "Wanted: a folder, or s3://bucket/prefix.")
        self.url = text.rstrip("/")

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objects) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    @cached_property
    def _place(self) -> Place:
        return _open_bucket(self.url) if self.url.startswith("s3://") else Disk(Path(self.url))

    @cached_property
    def store(self) -> Store:
        """The Zarr store to write to; its folder is made at the first use."""
        return self._place.zarr_store(read_only=False)

    @cached_property
    def strict_store(self) -> Store:
        """The Zarr store to read from: a missing chunk raises, where Zarr would give its fill value."""
        return _Strict(self._place.zarr_store(read_only=True))

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; None when there is none."""
        return self._place.get(key)

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Write an object, whole or not at all, over an older one."""
        self._place.put(key, value)

    @property
    def streams(self) -> bool:
        """Whether `put_pieces` holds one piece at a time; a bucket takes an object in one request."""
        return self._place.streams

    def put_pieces(self, key: str, pieces: Iterable[bytes]) -> None:
        """Write an object, whole or not at all, whose bytes are made while it is written."""
        self._place.put_pieces(key, pieces)

    def put_new(self, key: str, value: bytes) -> bool:
        """Write an object unless there is one; of several callers at once, one gets True.

        Where it matters who that is, `value` must be the caller's own (hold a random token): after a lost
        answer of an object store, reading back tells who won.
        """
        return self._place.put_new(key, value)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        self._place.delete(key)

    def delete_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        self._place.delete_tree(prefix.rstrip("/"))

    def children(self, prefix: str) -> list[str]:
        """Names directly below a prefix, sorted."""
        return sorted(self._place.children(prefix.rstrip("/")))

    def list(self, prefix: str) -> list[str]:
        """Keys below a prefix, at any depth, sorted; those being written are left out."""
        return sorted(self._place.keys(prefix.rstrip("/")))


def clean_partial(objects: Objects) -> int:
    """Remove what interrupted writes left in a store on a disk; return how many files.

    Only the holder of the store's lock may call it: a write that is under way would be lost.
    Object stores leave nothing behind.
    """
    return objects._place.clean_partial()


def _open_bucket(url: str) -> Place:
    try:
        from voxloom.io.store.bucket import Bucket  # with the S3 library, which a store on a disk does not need
    except ModuleNotFoundError as error:
        raise StoreAccessError(f"{url}: {error.name} is not installed. Run: pip install 'voxloom[s3]'") from None
    return Bucket(url)


class _Strict(WrapperStore[Any]):
    """A store in which every chunk that is asked for must be there, and metadata must match their checksum."""

    async def get(
        self, key: str, prototype: BufferPrototype | None = None, byte_range: ByteRequest | None = None
    ) -> AnyBuffer | None:
        found: AnyBuffer | None = await self._store.get(key, prototype or default_buffer_prototype(), byte_range)
        # bytes past the end of a file that was cut short come back as none at all
        if CHUNK_KEY.search(key) and (found is None or len(found) == 0):
            raise CorruptionError(
                f"{self._store}/{key}",
                "is missing or cut short.",
                "Mend the store: `voxloom verify ANALYSIS --repair`.",
            )
        if found is not None and key.endswith("zarr.json"):
            require_sealed(found.to_bytes(), f"{self._store}/{key}")
        return found
