"""Images in several files: the header and the data of a pair, and SPM's ``.mat`` beside them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from voxloom.errors import InputError

if TYPE_CHECKING:
    from voxloom.io.nifti.stream import FilePath

PARTNER = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}


class Pair(NamedTuple):
    """The two files of an image."""

    header: Path
    image: Path


def find_pair(path: FilePath) -> Pair | None:
    """Both files of a pair, given either; None for the name of an image in one file.

    Each of the two may be compressed (``.hdr.gz``, ``.img.gz``) or not.

    Raises
    ------
    InputError
        The other file is not there.
    """
    given = Path(path)
    stem = given.name.removesuffix(".gz")
    ending = Path(stem).suffix
    if ending not in PARTNER:
        return None
    stem = stem.removesuffix(ending) + PARTNER[ending]
    names = [f"{stem}.gz", stem] if given.suffix == ".gz" else [stem, f"{stem}.gz"]
    other = next((p for p in map(given.with_name, names) if p.is_file()), None)
    if other is None:
        raise InputError(str(given), f"has no {stem} beside it.", "A header and its image are two files of one name.")
    return Pair(given, other) if ending.lower() == ".hdr" else Pair(other, given)


def mat_file(image: Path) -> Path:
    """Where SPM keeps the affine of the image of a pair, if it does."""
    return image.with_name(f"{image.name.removesuffix('.gz')[:-4]}.mat")


def image_files(path: FilePath) -> tuple[Path, ...]:
    """Every file that the image `path` consists of; the path alone where the other file of a pair is missing."""
    try:
        pair = find_pair(path)
    except InputError:
        pair = None
    if pair is None:
        return (Path(path),)
    mat = mat_file(pair.image)
    return (*pair, mat) if mat.is_file() else pair
