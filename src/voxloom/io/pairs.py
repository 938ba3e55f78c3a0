"""Images in two files, header and data: which file belongs to which, and what an Analyze header leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from scipy.io.matlab import MatReadError

from voxloom.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.io.stream import FilePath

PARTNER = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}
#: Analyze headers name no unit of time. Seconds are meant up to here; more would be milliseconds or chance.
MAX_T_R = 100.0


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


def image_files(path: FilePath) -> tuple[Path, ...]:
    """Every file that the image `path` consists of; the path alone where the other file of a pair is missing."""
    try:
        return find_pair(path) or (Path(path),)
    except InputError:
        return (Path(path),)


def analyze_affine(path: Path, header: Any) -> tuple[NDArray[np.float64], str]:
    """Affine of an Analyze image as nibabel and SPM have it, and where its origin is from.

    SPM's ``.mat`` file beside the image decides; else the header's origin field where it is sensible; else
    the centre of the volume is the origin. Without ``.mat``, x runs from right to left.
    """
    mat = path.with_name(f"{path.name.removesuffix('.gz')[:-4]}.mat")
    if not mat.is_file():
        centred = np.allclose(header.get_best_affine(), header.get_base_affine())
        return header.get_best_affine(), "the centre of the volume" if centred else "the header's origin field"
    try:
        return np.asarray(nib.Spm2AnalyzeImage.from_filename(path).affine, dtype=float), mat.name
    except (ValueError, NotImplementedError, MatReadError, HeaderDataError) as error:
        raise InputError(str(mat), f"cannot be read ({error}).", "Write it anew with SPM, or remove it.") from error


def analyze_t_r(header: Any) -> float | None:
    """Repetition time in s; None where the header has none that can be one."""
    t_r = float(str(header["pixdim"][4]))
    return t_r if 0 < t_r <= MAX_T_R else None
