"""A store as keys and bytes: what the ledger, locks and metadata need, on a disk or an object store."""

from __future__ import annotations

import os
import re
import uuid
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from zarr.core.buffer.core import default_buffer_prototype
from zarr.core.buffer.cpu import Buffer
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, WrapperStore

from voxloom.errors import CorruptionError
from voxloom.sealed import require_sealed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from zarr.abc.store import ByteRequest, Store
    from zarr.core.buffer import Buffer as AnyBuffer
    from zarr.core.buffer import BufferPrototype

#: What an interrupted write leaves on a disk.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")
#: Key of a chunk or shard of an array.
CHUNK_KEY = re.compile(r"(^|/)c(/\d+)*$")
#: Inside `Objects`, ``list`` is a method.
Names = list[str]


class Objects:
    """The objects of one store by key. Cheap to make and to pickle; opens nothing before it is used.

    Parameters
    ----------
    url : path-like or str
        A folder, or an address with ``://`` that fsspec knows (``s3://bucket/study``).
    """

    def __init__(self, url: str | os.PathLike[str]) -> None:
        text = os.fspath(url).removeprefix("file://")
        self.url = text.rstrip("/") if "://" in text else str(Path(text).expanduser().absolute())

    def __reduce__(self) -> tuple[type[Objects], tuple[str]]:
        return Objects, (self.url,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objects) and other.url == self.url

    def __hash__(self) -> int:
        return hash(self.url)

    def __repr__(self) -> str:
        return f"Objects({self.url!r})"

    @property
    def root(self) -> Path | None:
        """The folder, for a store on a disk."""
        return None if "://" in self.url else Path(self.url)

    @cached_property
    def store(self) -> Store:
        """The Zarr store to write to; its folder is made at the first use."""
        return self._open(read_only=False)

    @cached_property
    def strict_store(self) -> Store:
        """The Zarr store to read from: a missing chunk raises, where Zarr would give its fill value."""
        return _Strict(self._open(read_only=True))

    def _open(self, read_only: bool) -> Store:
        if self.root is None:
            return FsspecStore.from_url(self.url, read_only=read_only)
        return LocalStore(self.root, read_only=read_only)

    def get(self, key: str) -> bytes | None:
        """Bytes of an object; None when there is none."""
        if self.root is not None:  # 0.03 ms; through Zarr's event loop 0.35 ms, and a ledger has thousands
            try:
                return (self.root / key).read_bytes()
            except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
                return None
        try:
            found = sync(self._reader.get(key, default_buffer_prototype()))
        except FileNotFoundError:  # the folder itself is missing
            return None
        return None if found is None else found.to_bytes()

    @cached_property
    def _reader(self) -> Store:
        return self._open(read_only=True)

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Write an object, whole or not at all, over an older one."""
        if self.root is not None:
            _replace(self.root / key, value)
            return
        sync(self.store.set(key, Buffer.from_array_like(np.frombuffer(value, np.uint8))))

    def put_new(self, key: str, value: bytes) -> bool:
        """Write an object unless there is one; of several callers at once, one gets True.

        On a store that is not a disk, `value` must be the caller's own (hold a random token): who won is
        told by reading back.
        """
        if self.root is not None:
            return _link_new(self.root / key, value)
        sync(self.store.set_if_not_exists(key, Buffer.from_bytes(value)))
        return self.get(key) == value

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        if self.root is not None:
            (self.root / key).unlink(missing_ok=True)
        elif sync(self._reader.exists(key)):
            sync(self.store.delete(key))

    def delete_tree(self, prefix: str) -> None:
        """Remove everything below a prefix."""
        sync(self.store.delete_dir(prefix))

    def list(self, prefix: str) -> Names:
        """Keys below a prefix, at any depth, sorted; those being written are left out."""
        return self._collect(self._reader.list_prefix, prefix.rstrip("/") + "/" if prefix else "")

    def children(self, prefix: str) -> Names:
        """Names directly below a prefix, sorted."""
        return self._collect(self._reader.list_dir, prefix.rstrip("/"))

    def _collect(self, lister: Callable[[str], AsyncIterator[str]], prefix: str) -> Names:
        async def collect() -> Names:
            return [name async for name in lister(prefix)]

        try:
            names = sync(collect())
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not PARTIAL.search(name))


def _replace(path: Path, value: bytes | memoryview) -> None:
    """Write a file beside `path` that takes its place once it is complete."""
    partial = _partial(path)
    try:
        partial.write_bytes(value)
    except FileNotFoundError:  # the first object of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(value)
    os.replace(partial, path)


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")


def _link_new(path: Path, value: bytes) -> bool:
    """Create a file with its content in one step; False when there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    partial.write_bytes(value)
    try:
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink()
    return True


def clean_partial(objects: Objects) -> int:
    """Remove what interrupted writes left in a store on a disk; return how many files.

    Only the holder of the store's lock may call it: a write that is under way would be lost.
    Object stores leave nothing behind.
    """
    if objects.root is None:
        return 0
    left = [path for path in objects.root.rglob("*.partial") if PARTIAL.search(path.name)]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


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
                "Run `voxloom verify`, then the stage that wrote it.",
            )
        if found is not None and key.endswith("zarr.json"):
            require_sealed(found.to_bytes(), f"{self._store}/{key}")
        return found
