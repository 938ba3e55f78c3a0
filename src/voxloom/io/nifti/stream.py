"""A file as one stream of decoded bytes, gzip or not, counted and hashed on the way."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from isal import igzip, isal_zlib

from voxloom.errors import CorruptionError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from os import PathLike

    FilePath = str | PathLike[str]

T = TypeVar("T")

#: ISA-L's own; its stub types it as an instance.
DEFLATE_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]
#: What `igzip.IGzipFile` reads through. That class makes new bytes at every read: fresh pages for every volume, which
#: are a sixth of the CPU of an ingest under the allocator settings of dask's workers.
GZIP_READER: Any = isal_zlib._GzipReader
REFETCH = "Fetch or write the file again; what is in it cannot be trusted."


class Digest:
    """SHA-256 and number of all bytes read, of one file or of two in turn, so that no second pass is needed."""

    def __init__(self) -> None:
        self.n_bytes, self._sha256 = 0, hashlib.sha256()

    def update(self, data: memoryview) -> None:
        """Take in the next bytes."""
        self.n_bytes += len(data)
        self._sha256.update(data)

    def hexdigest(self) -> str:
        """SHA-256 of what was taken in so far."""
        return self._sha256.hexdigest()


class DecodedFile:
    """Bytes of a file in order, decompressed where it is gzip; its first bytes, not its name, tell.

    Parameters
    ----------
    path : path-like
    digest : Digest
        Takes in the file's bytes as they are on disk.

    Raises
    ------
    InputError
        No such file, or it is empty.
    """

    def __init__(self, path: FilePath, digest: Digest) -> None:
        self.path = str(path)
        file = _open(Path(path))
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        self._file = _HashedFile(file, digest)
        self._stream = io.BufferedReader(GZIP_READER(self._file, igzip.READ_BUFFER_SIZE) if is_gzip else self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def take(self, size: int) -> bytes:
        """Take the next `size` bytes, or what is left of them, whether or not the stream ends as it should.

        Raises
        ------
        CorruptionError
            They cannot be decoded.
        """
        return self._decoded(lambda: self._stream.read(size), b"")

    def fill(self, buffer: memoryview) -> int:
        """As `take`, into memory that is there already; return how many bytes it took.

        Raises
        ------
        CorruptionError
            They cannot be decoded.
        """
        return self._decoded(lambda: self._stream.readinto(buffer), 0)

    def finish(self) -> None:
        """Read to the end, where the checksum is.

        Raises
        ------
        CorruptionError
            The stream ends before its checksum, or does not match it.
        """
        try:
            while self._stream.read(2**17):
                pass
        except EOFError as error:
            raise CorruptionError(self.path, "ends before its checksum.", REFETCH) from error
        except (gzip.BadGzipFile, zlib.error, DEFLATE_ERROR) as error:
            raise self._damaged(error) from error

    def _decoded(self, read: Callable[[], T], nothing: T) -> T:
        try:
            return read()
        except EOFError:
            return nothing
        except (gzip.BadGzipFile, zlib.error, DEFLATE_ERROR) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CorruptionError:
        return CorruptionError(self.path, f"is damaged ({error}).", REFETCH)


class _HashedFile(io.RawIOBase):
    """A file whose bytes go into a digest as they are read."""

    def __init__(self, file: io.FileIO, digest: Digest) -> None:
        self.file, self.digest = file, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self.file.readinto(buffer)
        self.digest.update(memoryview(buffer)[:n])
        return n

    def close(self) -> None:
        self.file.close()
        super().close()


def _open(path: Path) -> io.FileIO:
    try:
        file = io.FileIO(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(str(path), "is not a file.", "Check the path.") from error
    if path.stat().st_size == 0:
        file.close()
        raise InputError(str(path), "is empty (0 bytes).", "Fetch the file's content (`datalad get`, `git annex get`).")
    return file
