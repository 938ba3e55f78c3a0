"""Maps that are given as files: which they are, how they are called, and that they belong together."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import InputError
from voxloom.io.bids.tree import natural_key
from voxloom.io.maps.phenotypes import PATH_COLUMNS, stem_of
from voxloom.io.nifti.volumes import VolumeReader, read_header, read_mask
from voxloom.io.tables import read_tsv

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from voxloom.io.nifti.info import NiftiInfo
    from voxloom.schema import Grid

#: Column of a table of maps that names the files of their variances.
VARIANCE = "variance"


@dataclass(frozen=True, kw_only=True)
class MapFiles:
    """Maps on one grid, and their variances where these are known.

    Parameters
    ----------
    files : tuple of Path
        One 4-D image or several 3-D images.
    labels : tuple of str
        Of the maps: the files' names without folder and ending where these are distinct, else with the folders that
        differ; numbers of volumes of a 4-D image.
    grid : Grid
    stamps : tuple of str
        By file, what changes when the file, or that of its variance, does.
    variances : tuple of Path
        As `files`; empty where they are not known.
    """

    files: tuple[Path, ...]
    labels: tuple[str, ...]
    grid: Grid
    stamps: tuple[str, ...]
    variances: tuple[Path, ...] = ()


class Listed(NamedTuple):
    """Image files by what they hold.

    Attributes
    ----------
    effects, variances : tuple of Path
        No variances where none were named.
    """

    effects: tuple[Path, ...]
    variances: tuple[Path, ...] = ()


def list_maps(given: Sequence[Path]) -> Listed:
    """Image files of what was given: images, and texts that list images.

    Parameters
    ----------
    given : sequence of Path
        Images, patterns (``maps/*.nii.gz``), ``.txt`` (a path a line), or ``.tsv`` and ``.csv`` (a column ``path``,
        ``map`` or ``file``, and maybe ``variance``). Paths in a list start at its folder.

    Raises
    ------
    InputError
        A list cannot be read, names no file, has no such column, or lacks the variance of a map; a pattern fits none.
    """
    found = [_listed(path) for path in given]
    effects, variances = (tuple(path for one in found for path in one[i]) for i in (0, 1))
    if variances and len(variances) != len(effects):
        raise InputError(
            "maps",
            f"{len(effects)} were given, but {len(variances)} variances.",
            "Name the variance of every map, or of none.",
        )
    return Listed(effects, variances)


def _listed(path: Path) -> Listed:
    if path.suffix.lower() in (".tsv", ".csv"):
        return _of_table(path)
    if path.suffix == ".txt":
        return Listed(_in_folder(path, _lines(path)))
    if not set("*?[") & set(str(path)) or path.exists():
        return Listed((path,))
    found = sorted(glob(str(path), recursive=True), key=natural_key)
    if not found:
        raise InputError(str(path), "fits no file.", "Check the pattern.")
    return Listed(tuple(Path(name) for name in found))


def _of_table(path: Path) -> Listed:
    table = read_tsv(path, remedy="A table with a row per map is wanted.", as_text=(*PATH_COLUMNS, VARIANCE))
    column = next((name for name in PATH_COLUMNS if name in table), None)
    if column is None:
        raise InputError(str(path), f"has no column {' or '.join(PATH_COLUMNS)}.", "It names the file of each map.")
    for name in (column, VARIANCE) if VARIANCE in table else (column,):
        empty = table.index[table[name].isna()]
        if len(empty):
            raise InputError(str(path), f"row {empty[0] + 1} names no file in the column {name}.", "Fill it.")
    variances = _in_folder(path, table[VARIANCE].tolist()) if VARIANCE in table else ()
    return Listed(_in_folder(path, table[column].tolist()), variances)


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(str(path), f"cannot be read: {error}.", "A text file in UTF-8 is wanted.") from None
    return [line.strip() for line in text.splitlines() if line.strip()]


def _in_folder(path: Path, lines: Sequence[str]) -> tuple[Path, ...]:
    if not lines:
        raise InputError(str(path), "names no map.", "A path a line is wanted.")
    return tuple(path.parent / Path(line).expanduser() for line in lines)


def find_maps(files: Sequence[Path], variances: Sequence[Path] = (), *, least: int = 2) -> MapFiles:
    """Look at the headers of maps, and of their variances.

    Raises
    ------
    InputError
        A file cannot be read or is given twice, 4-D images beside others, fewer maps than `least`, or not a variance
        per map.
    GridError
        A file on another grid than the first.
    """
    infos = _headers(files)
    n_maps = sum(info.n_volumes for info in infos)
    if n_maps < least:
        raise InputError(str(files[0]) if files else "maps", f"{n_maps} map was given.", "A test needs several.")
    both = {path.resolve() for path in files} & {path.resolve() for path in variances}
    if both:
        raise InputError(str(min(both)), "is given as a map and as a variance.", "Name the file of the variance.")
    known = _headers(variances)
    for info in known:
        infos[0].grid.require(info.grid, str(info.path))
    if known and [info.n_volumes for info in known] != [info.n_volumes for info in infos]:
        counts = f"{sum(info.n_volumes for info in known)} in {len(known)} files"
        raise InputError(
            "variances",
            f"are {counts}, but there are {n_maps} maps in {len(infos)} files.",
            "Give one per map, in their order, as the maps are given.",
        )
    labels = _labels(files) if len(files) > 1 else [f"{i:04d}" for i in range(n_maps)]
    stamps = [" ".join(map(_stamp, beside)) for beside in zip(files, variances, strict=True)] if known else []
    return MapFiles(
        files=tuple(files),
        labels=tuple(labels),
        grid=infos[0].grid,
        stamps=tuple(stamps or map(_stamp, files)),
        variances=tuple(variances),
    )


def _headers(files: Sequence[Path]) -> list[NiftiInfo]:
    """Headers of images that are on one grid, each 3-D unless it is the only one."""
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
    return infos


def _labels(files: Sequence[Path]) -> list[str]:
    stems = [stem_of(path.name) for path in files]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([os.path.abspath(path.parent) for path in files])
    return [str(Path(os.path.relpath(path.parent, common)) / stem) for path, stem in zip(files, stems)]


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
