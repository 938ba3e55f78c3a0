"""NIfTI files as streams: header, then volume after volume, to the very end where the checksum is."""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib

from voxloom.errors import CorruptionError, InputError
from voxloom.schema import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

    from numpy.typing import NDArray

    FilePath = str | PathLike[str]

HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
#: Magic of NIfTI-1 and NIfTI-2 with header and data in one file.
MAGICS = (b"n+1", b"n+2")
#: Seconds per unit of ``pixdim[4]``. Files that leave the unit out mean seconds.
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
#: Extensions are a few MB at most; a larger offset is a damaged header.
MAX_DATA_OFFSET = 256 * 2**20
REFETCH = "Fetch or write the file again; what is in it cannot be trusted."


@dataclass(frozen=True, kw_only=True)
class NiftiInfo:
    """What the header of a NIfTI file says.

    Parameters
    ----------
    path : str
    shape : tuple of int
        3-D or more; axes of length 1 past the third are dropped at the end.
    grid : Grid
    dtype : dtype
        Of the stored values, in the file's byte order.
    slope, inter : float
        Physical value = slope * stored + inter; 1 and 0 where the header gives none.
    t_r : float or None
        Repetition time in s; None where the header gives none.
    header_bytes : bytes
        Everything before the data: header and extensions.
    """

    path: str
    shape: tuple[int, ...]
    grid: Grid
    dtype: np.dtype[Any]
    slope: float
    inter: float
    t_r: float | None
    header_bytes: bytes

    @property
    def n_volumes(self) -> int:
        """Volumes in the file."""
        return int(np.prod(self.shape[3:], dtype=int))

    @property
    def data_offset(self) -> int:
        """Bytes before the data."""
        return len(self.header_bytes)

    @property
    def is_scaled(self) -> bool:
        """Whether stored values differ from physical ones."""
        return (self.slope, self.inter) != (1.0, 0.0)

    def physical(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """``slope * raw + inter`` in float64."""
        return scale(raw, self.slope, self.inter)

    def require_4d(self) -> None:
        """Raise `InputError` unless the file is one series of volumes."""
        if len(self.shape) != 4:
            raise InputError(
                self.path,
                f"has shape {self.shape}, but a 4-D series of volumes is wanted.",
                "Give the BOLD series; a list of 3-D files is read as maps.",
            )


def scale(raw: NDArray[Any], slope: float, inter: float) -> NDArray[np.float64]:
    """``slope * raw + inter`` in float64, exactly `raw` where they are 1 and 0."""
    values = raw.astype(np.float64)
    if slope != 1.0:
        values *= slope
    if inter != 0.0:
        values += inter
    return values


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
            self._stream: IO[bytes] = (
                igzip.IGzipFile(fileobj=self._file, mode="rb")
                if self._file.is_gzip
                else io.BufferedReader(self._file)
            )
            self.info = _parse_header(self.path, self._read_header)
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
        """The next `size` bytes, or what is left of them."""
        try:
            return self._stream.read(size)
        except EOFError as error:
            if at_end is None:
                return b""
            raise CorruptionError(self.path, at_end, REFETCH) from error
        except (gzip.BadGzipFile, zlib.error, isal_zlib.error) as error:
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
    """Stored (unscaled) volumes of a file, one after the other: (I, J, K), Fortran order, dtype of the file."""
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
        raise InputError(info.path, "is an empty mask: no voxel is set.", "Check the file or leave the mask out.")
    return mask, info.grid


def _parse_header(path: str, read: Any) -> NiftiInfo:
    """Read and interpret header and extensions; `read(n)` gives the next n bytes."""
    start = read(4)
    size = next((n for n in HEADERS for order in ("little", "big") if int.from_bytes(start, order) == n), None)
    if size is None:
        raise InputError(path, "is not a NIfTI file.", "Wanted: .nii or .nii.gz (NIfTI-1 or NIfTI-2).")
    block = start + read(size - 4)
    header = HEADERS[size](block, check=False)
    if header["magic"].item()[:3] not in MAGICS:
        raise InputError(
            path, "is the header of an Analyze or .hdr/.img pair.", "Convert it to one .nii or .nii.gz file."
        )
    offset = max(int(header["vox_offset"]), size + 4)
    if offset > MAX_DATA_OFFSET:
        raise CorruptionError(path, f"has a damaged header (data at byte {offset}).", REFETCH)
    block += read(offset - size)
    shape = _shape(path, header)
    return NiftiInfo(
        path=path,
        shape=shape,
        grid=_grid(path, header, shape),
        dtype=_dtype(path, header),
        **_scaling(header),
        t_r=t_r_of(header) if len(shape) > 3 else None,
        header_bytes=block,
    )


def _shape(path: str, header: Any) -> tuple[int, ...]:
    n_dims = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : n_dims + 1])
    if not 3 <= n_dims <= 7 or min(shape) < 1:
        raise InputError(path, f"has dimensions {shape}, but a volume has three axes.", "Check how it was written.")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _grid(path: str, header: Any, shape: tuple[int, ...]) -> Grid:
    affine = np.asarray(header.get_best_affine(), dtype=float)
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine) < 4:
        raise InputError(path, "has no usable affine (qform and sform).", "Set its orientation, as with `fslorient`.")
    return Grid.of(shape, affine)


def _dtype(path: str, header: Any) -> np.dtype[Any]:
    try:
        dtype: np.dtype[Any] = header.get_data_dtype()
    except nib.spatialimages.HeaderDataError as error:
        raise InputError(path, f"has an unknown data type ({error}).", "Convert it.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise InputError(path, f"holds values of type {dtype}, but one real number per voxel is wanted.", "Convert it.")
    return dtype


def _scaling(header: Any) -> dict[str, float]:
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if slope == 0 or not np.isfinite(slope):
        return {"slope": 1.0, "inter": 0.0}
    return {"slope": slope, "inter": inter if np.isfinite(inter) else 0.0}


def t_r_of(header: Any) -> float | None:
    """Repetition time of a NIfTI header in s, by its unit; None where it is absent, 0 or not a time."""
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:
        unit = "unknown"
    # the shortest decimal of the stored float32: 0.8, not 0.800000011920929
    zoom = float(str(header["pixdim"][4]))
    t_r = zoom * SECONDS.get(unit, 0.0)
    return t_r if np.isfinite(t_r) and t_r > 0 else None
