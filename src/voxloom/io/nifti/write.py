"""Writing NIfTI files: the equal values give equal bytes, and a file is there whole or not at all."""

from __future__ import annotations

import gzip
import os
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from voxloom.io.nifti.stream import FilePath
    from voxloom.schema import Grid

#: zlib, not ISA-L: ISA-L picks its match finder by the CPU, so the bytes would depend on the machine.
#: Level 1 as nibabel's: noise hardly shrinks further (1-2%) at any level.
GZIP_LEVEL = 1
#: NIfTI's codes of what an affine leads to.
ALIGNED, MNI = 2, 4


def make_image(values: NDArray[Any], grid: Grid, *, t_r: float | None = None) -> Any:
    """Nifti1Image (Nifti2Image where an axis is longer than 32767) of a 3-D or 4-D array on `grid`.

    The affine is kept as sform and, up to shears, as qform, with code 4 (MNI) where the grid's space is
    one of the MNI templates and 2 (aligned) elsewhere. Units are mm and s.
    """
    kind: Any = nib.Nifti1Image if max(values.shape) < 2**15 else nib.Nifti2Image
    image = kind(values, grid.matrix)
    code = MNI if grid.space.startswith("MNI") else ALIGNED
    image.set_sform(grid.matrix, code)
    image.set_qform(grid.matrix, code)
    image.header.set_xyzt_units("mm", "sec")
    if t_r is not None:
        image.header["pixdim"][4] = t_r
    return image


def write_nifti(image: Any, path: FilePath, grid: Grid | None = None) -> Path:
    """Write an image, or an array on `grid`, as ``.nii`` or ``.nii.gz``; return the path.

    Equal values and headers give equal bytes (the gzip header holds no time and no name). The file
    appears by a rename once it is complete.

    Parameters
    ----------
    image : NIfTI image or (I, J, K) or (I, J, K, n) array
        Arrays of bool become uint8. Images are written in their header's data type without scaling.
    path : path-like
        Its folder is made.
    grid : Grid, optional
        Needed for an array.

    Raises
    ------
    InputError
        An array without a grid, or a name that does not end in ``.nii`` or ``.nii.gz``.
    """
    if isinstance(image, np.ndarray):
        if grid is None:
            raise InputError(str(path), "an array has no place in space.", "Pass grid= with it.")
        image = make_image(image.astype(np.uint8) if image.dtype == bool else image, grid)
    values = np.asanyarray(image.dataobj)
    header = image.header.copy()
    header.set_slope_inter(1, 0)
    dtype = header.get_data_dtype()
    stack = values.reshape((*values.shape[:3], -1))
    return write_volumes(path, single_file_header(header), (stack[..., t].astype(dtype) for t in range(stack.shape[3])))


def single_file_header(header: Any, extensions: bytes = bytes(4)) -> bytes:
    """Bytes of a header, then `extensions`: the four that say whether any follow, and those."""
    header = header.copy()
    header.extensions.clear()
    header["vox_offset"] = len(header.binaryblock) + len(extensions)
    header["magic"] = b"n+1" if len(header.binaryblock) == 348 else b"n+2\0\r\n\x1a\n"
    return bytes(header.binaryblock) + extensions


def write_volumes(path: FilePath, header_bytes: bytes, volumes: Iterable[NDArray[Any]]) -> Path:
    """Write header and volumes as they are, one volume in memory at a time; return the path.

    Parameters
    ----------
    path : path-like
        Ends in ``.nii`` or ``.nii.gz``; its folder is made.
    header_bytes : bytes
        Everything before the data.
    volumes : iterable of (I, J, K) arrays
        In the data type and byte order that the header names.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise InputError(str(path), "is not the name of a NIfTI file.", "End it in .nii or .nii.gz.")
    return _write(path, header_bytes, volumes)


def write_pair(path: FilePath, header_bytes: bytes, offset: int, volumes: Iterable[NDArray[Any]]) -> Path:
    """Write volumes as they are into an image file, and the header beside it; return the path of the image.

    Parameters
    ----------
    path : path-like
        Of the image, ``.img`` or ``.img.gz``; the header gets the same name with ``.hdr``, not compressed.
    header_bytes : bytes
        All of the header file.
    offset : int
        Zero bytes before the data.
    volumes : iterable of (I, J, K) arrays
        In the data type and byte order that the header names.
    """
    path = Path(path)
    _write(path, bytes(offset), volumes)
    _write(path.with_name(f"{path.name.removesuffix('.gz').removesuffix('.img')}.hdr"), header_bytes, ())
    return path


def _write(path: Path, start: bytes, volumes: Iterable[NDArray[Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(start)
        for volume in volumes:
            file.write(volume.tobytes(order="F"))
    return path


def clean_partial(images: Iterable[Path]) -> int:
    """Remove what interrupted writes of these images left beside them; return how many files.

    Nobody else may be writing them.
    """
    folders: dict[Path, set[str]] = {}
    for path in images:
        folders.setdefault(path.parent, set()).add(path.name)
    left = [
        found
        for folder, names in folders.items()
        for found in folder.glob(".*.partial")
        if found.name.removeprefix(".").rsplit(".", 2)[0] in names
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


@contextmanager
def replacing(path: Path) -> Iterator[gzip.GzipFile | IO[bytes]]:
    """Open a file beside `path` that takes its place when all has been written."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "wb") as raw:
            if path.name.endswith(".gz"):
                with gzip.GzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as file:
                    yield file
            else:
                yield raw
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
