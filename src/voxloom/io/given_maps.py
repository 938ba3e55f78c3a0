"""Maps that are given as files: which they are, how they are called, and that they belong together."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.io.nifti import VolumeReader, read_header, read_mask
from voxloom.io.tables import read_tsv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxloom.schema import Grid

#: Columns of a table of maps that may name their files.
PATH_COLUMNS = ("path", "map", "file")
#: Columns of a table that name the map a row belongs to: a file's name, or an entity of it.
LABEL_COLUMNS = ("map", "participant_id", "path", "file")


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """Maps on one grid.

    Parameters
    ----------
    files : tuple of Path
        One 4-D image or several 3-D images.
    labels : tuple of str
        Of the maps: the files' names without folder and ending where these are distinct, numbers of volumes of a 4-D
        image.
    grid : Grid
    stamps : tuple of str
        By file, what changes when the file does.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    grid: Grid
    stamps: tuple[str, ...]


def list_maps(given: Sequence[Path]) -> tuple[Path, ...]:
    """Image files of what was given: images, and texts that list images.

    Parameters
    ----------
    given : sequence of Path
        Images, ``.txt`` (a path a line) or ``.tsv`` (a column ``path``, ``map`` or ``file``). Paths in a list start
        at its folder.

    Raises
    ------
    InputError
        A list cannot be read, names no file, or has no such column.
    """
    found: list[Path] = []
    for path in given:
        found += _listed(path) if path.suffix in (".txt", ".tsv") else [path]
    return tuple(found)


def _listed(path: Path) -> list[Path]:
    if path.suffix == ".tsv":
        table = read_tsv(path, remedy="A table with a row per map is wanted.", as_text=PATH_COLUMNS)
        column = next((name for name in PATH_COLUMNS if name in table), None)
        if column is None:
            raise InputError(str(path), f"has no column {' or '.join(PATH_COLUMNS)}.", "It names the file of each map.")
        lines = table[column].tolist()
    else:
        try:
            lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(str(path), f"cannot be read: {error}.", "A text file in UTF-8 is wanted.") from None
    if not lines:
        raise InputError(str(path), "names no map.", "A path a line is wanted.")
    return [path.parent / Path(line).expanduser() for line in lines]


def find_maps(files: Sequence[Path]) -> MapFiles:
    """Look at the headers of maps.

    Raises
    ------
    InputError
        A file cannot be read or is given twice, 4-D images beside others, or fewer than two maps.
    GridError
        A file on another grid than the first.
    """
    twice = [path for path, n in Counter(path.resolve() for path in files).items() if n > 1]
    if twice:
        raise InputError(str(twice[0]), "is given twice.", "Each map counts once; name it once.")
    infos = [read_header(path) for path in files]
    for info in infos:
        infos[0].grid.require(info.grid, str(info.path))
        if len(infos) > 1 and info.n_volumes > 1:
            raise InputError(
                str(info.path),
                f"has {info.n_volumes} volumes, but is one of several maps.",
                "Give 3-D images, or one 4-D image.",
            )
        info.warn()
    n_maps = sum(info.n_volumes for info in infos)
    if n_maps < 2:
        raise InputError(str(files[0]) if files else "maps", f"{n_maps} map was given.", "A test needs several.")
    labels = _labels(files) if len(files) > 1 else [f"{i:04d}" for i in range(n_maps)]
    return MapFiles(
        files=tuple(files), labels=tuple(labels), grid=infos[0].grid, stamps=tuple(_stamp(path) for path in files)
    )


def _labels(files: Sequence[Path]) -> list[str]:
    stems = [path.name.removesuffix(".gz").removesuffix(".nii") for path in files]
    return stems if len(set(stems)) == len(stems) else [str(path) for path in files]


def _stamp(path: Path) -> str:
    found = path.stat()
    return f"{path.name} {found.st_size} {found.st_mtime_ns}"


def map_volumes(files: Sequence[str | Path]) -> Iterator[NDArray[Any]]:
    """Physical values of every map in turn, (I, J, K); each file is read to its end, where a checksum may be."""
    for path in files:
        with VolumeReader(path) as reader:
            for raw in reader:
                yield reader.info.physical(raw) if reader.info.is_scaled else raw


def maps_mask(maps: MapFiles, mask: Path | None) -> NDArray[np.bool_]:
    """Voxels of a mask on the maps' grid; without one, those that are finite in every map and not 0 in all of them.

    Raises
    ------
    InputError
        None is left.
    GridError
        The mask is on another grid.
    """
    if mask is not None:
        chosen, grid = read_mask(mask)
        maps.grid.require(grid, str(mask))
        return chosen
    finite, live = np.ones(maps.grid.shape, bool), np.zeros(maps.grid.shape, bool)
    for volume in map_volumes(maps.files):
        finite &= np.isfinite(volume)
        live |= volume != 0
    if not (finite & live).any():
        raise InputError(
            str(maps.files[0]), "no voxel is finite in every map and not 0.", "Check them, or give a mask."
        )
    return finite & live
