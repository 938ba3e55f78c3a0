"""Reads the headers of NIfTI and Analyze images, normalised and checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError

from voxloom.errors import CorruptionError, InputError
from voxloom.io.nifti import analyze
from voxloom.io.nifti.info import NiftiInfo
from voxloom.io.nifti.stream import REFETCH
from voxloom.schema import Grid

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

HEADERS: dict[int, Any] = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
#: Magic of NIfTI-1 and NIfTI-2, with header and data in one file and in two.
SINGLE, PAIR = (b"n+1", b"n+2"), (b"ni1", b"ni2")
#: Seconds per unit of ``pixdim[4]``. Files that leave the unit out mean seconds.
SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6, "unknown": 1.0}
#: Extensions are a few MB at most; a larger offset is a damaged header.
MAX_DATA_OFFSET = 256 * 2**20
UNORIENTED = (
    "has neither qform nor sform: its place in space is not known. Taken as nibabel does: x runs from right to "
    "left, the centre of the volume is the origin, voxel sizes as the header says."
)


def parse_header(path: str, read: Callable[[int], bytes]) -> NiftiInfo:
    """Read and interpret header and extensions of a single file; `read(n)` gives the next n bytes."""
    header, block = _start(path, read)
    if _magic(header) not in SINGLE:
        raise InputError(
            path, "is the header of an Analyze or NIfTI pair.", "Name the two files .hdr and .img, or convert them."
        )
    offset = max(int(header["vox_offset"]), len(block) + 4)
    if offset > MAX_DATA_OFFSET:
        raise CorruptionError(path, f"has a damaged header (data at byte {offset}).", REFETCH)
    return _nifti(path, header, block + read(offset - len(block)), None)


def parse_pair(path: str, image: Path, read: Callable[[int], bytes], rest: Callable[[], bytes]) -> NiftiInfo:
    """Read and interpret the header file `path` of a pair, NIfTI or Analyze 7.5, to its end."""
    header, block = _start(path, read)
    magic, offset = _magic(header), int(header["vox_offset"])
    if magic in SINGLE:
        raise InputError(path, "says that the data follow in the same file.", "Name it .nii, or .nii.gz.")
    if not 0 <= offset <= MAX_DATA_OFFSET:
        raise CorruptionError(path, f"has a damaged header (data at byte {offset}).", REFETCH)
    block += rest()
    return _nifti(str(image), header, block, offset) if magic in PAIR else _analyze(image, block, offset)


def _start(path: str, read: Callable[[int], bytes]) -> tuple[Any, bytes]:
    """Read the fixed part of a header."""
    start = read(4)
    size = header_size(start)
    if size is None:
        raise InputError(path, "is not a NIfTI file.", "Wanted: .nii, .nii.gz (NIfTI-1 or NIfTI-2) or .hdr with .img.")
    block = start + read(size - 4)
    return HEADERS[size](block, check=False), block


def _magic(header: Any) -> bytes:
    return bytes(header["magic"].item()[:3])


def _nifti(path: str, header: Any, block: bytes, pair_offset: int | None) -> NiftiInfo:
    shape = _shape(path, header)
    oriented = int(header["sform_code"]) or int(header["qform_code"])
    return NiftiInfo(
        path=path,
        shape=shape,
        grid=_grid(path, header.get_best_affine(), shape),
        dtype=_dtype(path, header),
        **_scaling(header["scl_slope"], header["scl_inter"]),
        t_r=t_r_of(header) if len(shape) > 3 else None,
        header_bytes=block,
        pair_offset=pair_offset,
        assumed="" if oriented else UNORIENTED,
    )


def _analyze(image: Path, block: bytes, offset: int) -> NiftiInfo:
    """Interpret an Analyze 7.5 header as SPM writes it and nibabel reads it."""
    path, header = str(image), analyze.HEADER(block[:348], check=False)
    shape = _shape(path, header)
    affine, origin = analyze.affine_of(image, header)
    return NiftiInfo(
        path=path,
        shape=shape,
        grid=_grid(path, affine, shape),
        dtype=_dtype(path, header),
        **_scaling(*header.get_slope_inter()),
        t_r=analyze.t_r_of(header) if len(shape) > 3 else None,
        header_bytes=block,
        pair_offset=offset,
        assumed=analyze.ASSUMED.format(origin),
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


def _grid(path: str, affine: NDArray[Any], shape: tuple[int, ...]) -> Grid:
    affine = np.asarray(affine, dtype=float)
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


def _scaling(slope: float | None, inter: float | None) -> dict[str, float]:
    slope, inter = float(slope or 0), float(inter or 0)
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
