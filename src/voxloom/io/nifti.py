"""NIfTI files as streams: header, then volume after volume, to the very end where the checksum is."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from isal import igzip, isal_zlib

from voxloom.errors import CorruptionError, InputError
from voxloom.io.header import REFETCH, NiftiInfo, parse_header

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

    from voxloom.schema import Grid

    FilePath = str | PathLike[str]

#: ISA-L's own; its stub types it as an instance.
DEFLATE_ERROR: type[Exception] = isal_zlib.error  # type: ignore[assignment]

__all__ = ["NiftiInfo", "VolumeReader", "read_header", "read_mask", "volumes"]


class VolumeReader:
    """One pass over a NIfTI file, plain or gzip; iterate to get its volumes.

    The stream is decoded once and read to its end, so that a wrong gzip checksum or length is always
    found. Memory: one volume and a decoding buffer of 512 KiB.

    Parameters
    ----------
    path : path-like

    Attributes
    ----------
    info : NiftiInfo
    bytes_read : int
        Bytes of the file (compressed as it is) taken so far.

    Raises
    ------
    InputError
        Missing, empty, not a NIfTI file, or of a data type voxloom cannot model.
    CorruptionError
        Ends early, cannot be decoded, or does not match its checksum.
    """

    def __init__(self, path: FilePath) -> None:
        self.path = str(path)
        self._file = _open(Path(path))
        try:
            self._stream: Any = (
                igzip.IGzipFile(fileobj=self._file, mode="rb") if self._file.is_gzip else io.BufferedReader(self._file)
            )
            self.info = parse_header(self.path, self._read_header)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def bytes_read(self) -> int:
        """Bytes of the file taken so far."""
        return self._file.n_bytes

    @property
    def sha256(self) -> str:
        """Digest of the file's bytes; of the whole file once all volumes have been taken."""
        return self._file.digest.hexdigest()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the stored values of each volume: (I, J, K), Fortran order, dtype of the file, read-only."""
        info, n = self.info, self.info.n_volumes
        size = int(np.prod(info.grid.shape)) * info.dtype.itemsize
        for t in range(n):
            data = self._take(size)
            if len(data) < size:
                raise CorruptionError(self.path, f"ends after volume {t} of {n}.", REFETCH)
            yield np.frombuffer(data, info.dtype).reshape(info.grid.shape, order="F")
        while self._take(2**17, "ends before its checksum."):
            pass

    def _take(self, size: int, at_end: str | None = None) -> bytes:
        """Take the next `size` bytes, or what is left of them."""
        try:
            return bytes(self._stream.read(size))
        except EOFError as error:
            if at_end is None:
                return b""
            raise CorruptionError(self.path, at_end, REFETCH) from error
        except (gzip.BadGzipFile, zlib.error, DEFLATE_ERROR) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> CorruptionError:
        return CorruptionError(self.path, f"is damaged ({error}).", REFETCH)

    def _read_header(self, n: int) -> bytes:
        data = self._take(n)
        if len(data) < n:
            raise CorruptionError(self.path, "ends inside its header.", REFETCH)
        return data


class _HashedFile(io.RawIOBase):
    """A file that counts and hashes the bytes read from it, so that no second pass is needed."""

    def __init__(self, file: io.FileIO, is_gzip: bool) -> None:
        self.file, self.is_gzip, self.n_bytes = file, is_gzip, 0
        self.digest = hashlib.sha256()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        n = self.file.readinto(buffer)
        self.n_bytes += n
        self.digest.update(memoryview(buffer)[:n])
        return n

    def close(self) -> None:
        self.file.close()
        super().close()


def _open(path: Path) -> _HashedFile:
    """Open a file and tell from its first bytes, not its name, whether it is gzip."""
    try:
        file = io.FileIO(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise InputError(str(path), "is not a file.", "Check the path.") from error
    magic = file.read(2)
    if not magic:
        file.close()
        raise InputError(str(path), "is empty (0 bytes).", "Fetch the file's content (`datalad get`, `git annex get`).")
    file.seek(0)
    return _HashedFile(file, magic == b"\x1f\x8b")


def read_header(path: FilePath) -> NiftiInfo:
    """Read the header of a ``.nii`` or ``.nii.gz`` file, NIfTI-1 or NIfTI-2, of either byte order.

    Raises
    ------
    InputError, CorruptionError
        As `VolumeReader`; the data are not looked at.
    """
    with VolumeReader(path) as reader:
        return reader.info


def volumes(path: FilePath) -> Iterator[NDArray[Any]]:
    """Yield the stored (unscaled) volumes of a file: (I, J, K), Fortran order, its dtype, read-only."""
    with VolumeReader(path) as reader:
        yield from reader


def read_mask(path: FilePath) -> tuple[NDArray[np.bool_], Grid]:
    """Voxels of a 3-D image that are finite and not 0, and the grid of the image.

    Raises
    ------
    InputError
        Not a 3-D image, or no voxel is set.
    """
    with VolumeReader(path) as reader:
        info = reader.info
        if info.n_volumes != 1:
            raise InputError(info.path, f"has shape {info.shape}, but a mask is 3-D.", "Give one volume.")
        (volume,) = reader
    values = info.physical(volume)
    mask = np.ascontiguousarray(np.isfinite(values) & (values != 0))
    if not mask.any():
        raise InputError(info.path, "is an empty mask: no voxel is set.", "Check the file.")
    return mask, info.grid
