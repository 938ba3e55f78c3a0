"""Sums of a group model as one file that sites exchange: a ZIP of NumPy arrays with a header in JSON.

    header.json             what they are, with a checksum of itself and of every other member
    voxel.npy               flat indices of the voxels on the grid
    000000/xtx.npy, ...     X'X, X'Y, Y'Y and n of a block of voxels, the first axis the parts of one number

One file is what people can send. Blocks are read one by one, so that memory does not follow the number of voxels; any
reader of ZIP and .npy reads them. X'X is the same wherever no map is missing, and shrinks to nothing.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom._version import __version__
from voxloom.errors import CorruptionError, InputError
from voxloom.io.bids.derivatives import json_text, software_versions
from voxloom.io.nifti.write import replacing
from voxloom.schema import Grid, shard_slices
from voxloom.sealed import BLANK, is_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

FORMAT = "voxloom sums"
#: Of the file; what the numbers are has a version of its own among the attributes.
VERSION = 1
HEADER = "header.json"
AXIS = "voxel.npy"
#: Arrays of a block, with the number of their axes before the voxels. Those of the first kind are compressed.
REPEATED, VARIED = {"xtx": 3, "n": 0}, {"xty": 2, "yty": 1}
ARRAYS = REPEATED | VARIED
#: Bytes of a block's X'X; a power of two of voxels, not more than a chunk of maps and not fewer than 64.
BLOCK_BYTES, MOST, LEAST = 2**22, 4096, 64
_ASK = "Ask for the file again."


def block_voxels(n_regressors: int) -> int:
    """Voxels of a block."""
    fits = BLOCK_BYTES // (16 * n_regressors**2)
    return max(LEAST, min(MOST, 1 << max(0, fits.bit_length() - 1)))


def write_sums(
    path: str | Path,
    attrs: Mapping[str, Any],
    grid: Grid,
    voxel: NDArray[np.int64],
    blocks: Iterable[Mapping[str, NDArray[np.float64]]],
) -> Path:
    """Write sums; equal ones give equal members, and the file is there whole or not at all.

    Parameters
    ----------
    path : path
    attrs : mapping
        JSON-able: the design, and what else is to be known.
    grid : Grid
    voxel : (V,) array
        Flat indices.
    blocks : iterable of mapping
        Of every `block_voxels` voxels in order, `ARRAYS` by name, voxels last.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    checksums: dict[str, str] = {}
    with replacing(path) as file, zipfile.ZipFile(file, "w") as archive:
        _put(archive, AXIS, voxel.astype("<i8"), checksums, compressed=True)
        for i, block in enumerate(blocks):
            for name in ARRAYS:
                values = np.ascontiguousarray(block[name], dtype="<f8")
                _put(archive, f"{i:06d}/{name}.npy", values, checksums, compressed=name in REPEATED)
        header = {
            "format": FORMAT,
            "version": VERSION,
            "created_by": __version__,
            "software": dict(software_versions()),
            "grid": grid.to_attrs(),
            "n_voxels": len(voxel),
            "sums": dict(attrs),
            "members": checksums,
            **BLANK,
        }
        archive.writestr(_member(HEADER), seal(json_text(header).encode()))
    return path


def _put(
    archive: zipfile.ZipFile, name: str, values: NDArray[Any], checksums: dict[str, str], *, compressed: bool
) -> None:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    archive.writestr(_member(name), buffer.getvalue(), kind, 1)
    checksums[name] = hashlib.sha256(buffer.getbuffer()).hexdigest()


def _member(name: str) -> zipfile.ZipInfo:
    """An entry without a time, so that equal sums give equal bytes."""
    return zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))


@dataclass(frozen=True, kw_only=True)
class SumsFile:
    """A file of sums; its numbers are read when they are asked for.

    Parameters
    ----------
    path : Path
    attrs : dict
        As they were written.
    grid : Grid
    voxel : (V,) array
        Flat indices.
    members : dict of str to str
        Checksum of each member.
    """

    path: Path
    attrs: dict[str, Any]
    grid: Grid
    voxel: NDArray[np.int64] = field(repr=False)
    members: dict[str, str] = field(repr=False)

    @property
    def checksum(self) -> str:
        """Of everything in it."""
        text = json_text({"sums": self.attrs, "grid": self.grid.to_attrs(), "members": self.members})
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def block(self) -> int:
        """Voxels of a block."""
        return block_voxels(len(self.attrs["regressors"]))

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Its voxels as a volume."""
        mask = np.zeros(self.grid.shape, bool)
        mask.reshape(-1)[self.voxel] = True
        return mask

    def read(self, voxels: slice) -> dict[str, NDArray[np.float64]]:
        """Arrays of a stretch of voxels.

        Raises
        ------
        CorruptionError
            A block is missing, or is not what was written; the message names it.
        """
        first, last = voxels.start // self.block, -(-voxels.stop // self.block)
        with _opened(self.path) as archive:
            blocks = [
                {name: _get(archive, self.path, f"{i:06d}/{name}.npy", self.members) for name in ARRAYS}
                for i in range(first, last)
            ]
        within = slice(voxels.start - first * self.block, voxels.stop - first * self.block)
        return {name: np.concatenate([block[name] for block in blocks], axis=-1)[..., within] for name in ARRAYS}

    def blocks(self) -> list[slice]:
        """Stretches of voxels of its blocks."""
        return shard_slices(len(self.voxel), self.block)


def open_sums(path: str | Path) -> SumsFile:
    """Open a file of sums, and check its header.

    Raises
    ------
    InputError
        There is none, it is something else, or a newer voxloom wrote it.
    CorruptionError
        It is cut short, or does not match its checksums.
    """
    path = Path(path)
    with _opened(path) as archive:
        header = _header(archive, path)
        voxel = _get(archive, path, AXIS, header["members"])
    return SumsFile(
        path=path,
        attrs=header["sums"],
        grid=Grid.from_attrs(header["grid"]),
        voxel=voxel.astype(np.int64),
        members=header["members"],
    )


def _opened(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError:
        remedy = "Sums are what `voxloom group --export-sums FILE` writes."
        raise InputError(str(path), "no such file.", remedy) from None
    except OSError as error:
        raise InputError(str(path), f"cannot be read: {error}.", "A file of sums is wanted.") from None
    except zipfile.BadZipFile:
        raise CorruptionError(str(path), "is no file of sums, or cut short.", _ASK) from None


def _header(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if HEADER not in archive.namelist():
        raise InputError(str(path), "is no file of sums.", "Give what `voxloom group --export-sums FILE` wrote.")
    raw = _bytes(archive, path, HEADER)
    if not is_sealed(raw):
        raise CorruptionError(str(path), "its header does not match its checksum.", _ASK)
    header: dict[str, Any] = json.loads(raw)
    if header.get("format") != FORMAT or header["version"] > VERSION:
        raise InputError(
            str(path),
            f"is {header.get('format')} {header.get('version')}, of voxloom {header.get('created_by')}; "
            f"this voxloom ({__version__}) reads {FORMAT} up to {VERSION}.",
            "Update voxloom.",
        )
    return header


def _get(archive: zipfile.ZipFile, path: Path, name: str, members: Mapping[str, str]) -> NDArray[Any]:
    raw = _bytes(archive, path, name)
    if hashlib.sha256(raw).hexdigest() != members.get(name):
        raise CorruptionError(str(path), f"{name} does not match its checksum.", _ASK)
    values: NDArray[Any] = np.load(io.BytesIO(raw), allow_pickle=False)
    return values


def _bytes(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    try:
        return archive.read(name)
    except KeyError:
        raise CorruptionError(str(path), f"has no {name}.", _ASK) from None
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise CorruptionError(str(path), f"{name} is damaged ({error}).", _ASK) from None
