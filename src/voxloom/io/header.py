"""NIfTI headers: what they say, normalised and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from voxloom.errors import CorruptionError, InputError
from voxloom.schema import Grid

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
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
    with np.errstate(invalid="ignore", over="ignore"):  # NaN and huge floats stay what they are
        values = raw.astype(np.float64)
        if slope != 1.0:
            values *= slope
        if inter != 0.0:
            values += inter
    return values


def parse_header(path: str, read: Callable[[int], bytes]) -> NiftiInfo:
    """Read and interpret header and extensions; `read(n)` gives the next n bytes."""
    start = read(4)
    size = header_size(start)
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


def header_size(block: bytes) -> int | None:
    """Size of the NIfTI header that begins with `block`, in either byte order; None when it is none."""
    sizes = (int.from_bytes(block[:4], "little"), int.from_bytes(block[:4], "big"))
    return next((size for size in sizes if size in HEADERS), None)


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
    except HeaderDataError as error:
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
    """Read the repetition time in s, by its unit; None where it is absent, 0 or not a time."""
    try:
        unit = header.get_xyzt_units()[1]
    except KeyError:
        unit = "unknown"
    # the shortest decimal of the stored float32: 0.8, not 0.800000011920929
    zoom = float(str(header["pixdim"][4]))
    t_r = zoom * SECONDS.get(unit, 0.0)
    return t_r if np.isfinite(t_r) and t_r > 0 else None
