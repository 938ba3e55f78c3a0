"""Objects as files below a folder."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from zarr.storage import LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What an interrupted write leaves: those of this module and of Zarr.
PARTIAL = re.compile(r"\.[0-9a-f]{32}\.partial$")


class Disk:
    """The files below a folder, which is made at the first write.

    Plain calls: a small file is read in 0.03 ms, through Zarr's event loop in 0.35 ms, and a ledger has thousands.

    Parameters
    ----------
    root : Path
    """

    streams = True

    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, key: str) -> bytes | None:
        """Bytes of a file; None when there is none."""
        try:
            return (self.root / key).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None

    def put(self, key: str, value: bytes | memoryview) -> None:
        """Write a file beside its place, and let it take that once it is complete."""
        self.put_pieces(key, (value,))

    def put_pieces(self, key: str, pieces: Iterable[bytes | memoryview]) -> None:
        """As `put`, each piece as it comes."""
        path = self.root / key
        partial = _partial(path)
        with _created(partial) as file:
            for piece in pieces:
                file.write(piece)
        os.replace(partial, path)

    def put_new(self, key: str, value: bytes) -> bool:
        """Create a file with its content in one step; False when there is one."""
        path = self.root / key
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

    def delete(self, key: str) -> None:
        """Remove a file, if there is one."""
        (self.root / key).unlink(missing_ok=True)

    def delete_tree(self, prefix: str) -> None:
        """Remove a folder, if there is one."""
        with suppress(FileNotFoundError):
            shutil.rmtree(self.root / prefix)

    def keys(self, prefix: str) -> list[str]:
        """Paths of all files below a folder, relative to the root; those being written are left out."""
        return [path.relative_to(self.root).as_posix() for path in self._files(prefix) if not PARTIAL.search(path.name)]

    def children(self, prefix: str) -> list[str]:
        """Names in a folder; those being written are left out."""
        try:
            return [name for name in os.listdir(self.root / prefix) if not PARTIAL.search(name)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def clean_partial(self) -> int:
        """Remove files that were being written; return how many."""
        left = [path for path in self._files("") if PARTIAL.search(path.name)]
        for path in left:
            path.unlink(missing_ok=True)
        return len(left)

    def zarr_store(self, *, read_only: bool) -> LocalStore:
        """Zarr's store of the folder."""
        return LocalStore(self.root, read_only=read_only)

    def _files(self, prefix: str) -> list[Path]:
        return [Path(folder, name) for folder, _, names in os.walk(self.root / prefix) for name in names]


def _created(path: Path) -> BinaryIO:
    try:
        return open(path, "wb")
    except FileNotFoundError:  # the first object of its folder
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "wb")


def _partial(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
