"""NIfTI and Analyze images as streams: header, then volume after volume, to the very end where the checksum is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from voxloom.errors import CorruptionError, InputError
from voxloom.io.nifti.formats import require_known
from voxloom.io.nifti.header import MAX_DATA_OFFSET, parse_header, parse_pair
from voxloom.io.nifti.pairs import find_pair
from voxloom.io.nifti.stream import REFETCH, DecodedFile, Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.io.nifti.pairs import Pair
    from voxloom.io.nifti.stream import FilePath
    from voxloom.schema import Grid


class VolumeReader:
    """One pass over an image, plain or gzip, in one file or two; iterate to get its volumes.

    The stream is decoded once and read to its end, so that a wrong gzip checksum or length is always
    found. Memory: one volume, in which each takes the place of the one before, and a decoding buffer of 512 KiB.

    Parameters
    ----------
    path : path-like
        ``.nii``, ``.nii.gz``, or either file of a pair (``.hdr``, ``.img``, ``.img.gz``).

    Attributes
    ----------
    info : NiftiInfo
    bytes_read : int
        Bytes of the files (compressed as they are) taken so far.
    sha256 : str
        Digest of the file's bytes, of a pair the header's followed by the image's; of the whole once all
        volumes have been taken.

    Raises
    ------
    InputError
        Missing, empty, of another format, or of a data type voxloom cannot model.
    CorruptionError
        Ends early, cannot be decoded, or does not match its checksum.
    """

    def __init__(self, path: FilePath) -> None:
        require_known(path)
        pair = find_pair(path)
        self.path = str(path if pair is None else pair.image)
        self._digest = Digest()
        if pair is not None:
            self.info = _read_pair_header(pair, self._digest)
        self._data = DecodedFile(self.path, self._digest)
        try:
            if pair is None:
                self.info = parse_header(self.path, lambda n: _header_bytes(self._data, n))
            else:
                _header_bytes(self._data, self.info.data_offset)
        except BaseException:
            self._data.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._data.close()

    @property
    def bytes_read(self) -> int:
        """Bytes taken so far."""
        return self._digest.n_bytes

    @property
    def sha256(self) -> str:
        """Digest of the bytes taken so far."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Yield the stored values of each volume: (I, J, K), Fortran order, dtype of the file, read-only.

        All lie in the same memory: a volume is good until the next.
        """
        info, n = self.info, self.info.n_volumes
        data = np.empty(int(np.prod(info.grid.shape)), info.dtype)
        volume = data.reshape(info.grid.shape, order="F")
        volume.flags.writeable = False
        for t in range(n):
            if self._data.fill(data.view(np.uint8).data) < data.nbytes:
                raise CorruptionError(self.path, f"ends after volume {t} of {n}.", REFETCH)
            yield volume
        self._data.finish()


def _read_pair_header(pair: Pair, digest: Digest) -> NiftiInfo:
    with DecodedFile(pair.header, digest) as file:
        info = parse_pair(file.path, pair.image, lambda n: _header_bytes(file, n), lambda: file.take(MAX_DATA_OFFSET))
        file.finish()
        return info


def _header_bytes(file: DecodedFile, n: int) -> bytes:
    data = file.take(n)
    if len(data) < n:
        raise CorruptionError(file.path, "ends inside its header.", REFETCH)
    return data


def read_header(path: FilePath) -> NiftiInfo:
    """Read the header of an image, NIfTI-1, NIfTI-2 or Analyze 7.5, of either byte order.

    Raises
    ------
    InputError, CorruptionError
        As `VolumeReader`; the data are not looked at.
    """
    with VolumeReader(path) as reader:
        return reader.info


def volumes(path: FilePath) -> Iterator[NDArray[Any]]:
    """Yield the stored volumes of a file as `VolumeReader` does, each good until the next."""
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
