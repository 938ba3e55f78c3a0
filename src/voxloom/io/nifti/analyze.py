"""What an Analyze 7.5 header leaves open, taken as SPM and nibabel take it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from scipy.io.matlab import MatReadError

from voxloom.errors import InputError
from voxloom.io.nifti.pairs import mat_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

#: As nibabel reads every Analyze header, whether or not SPM wrote it.
HEADER: Any = nib.Spm2AnalyzeHeader
#: Analyze headers name no unit of time. Seconds are meant up to here; more would be milliseconds or chance.
MAX_T_R = 100.0
ASSUMED = (
    "is an Analyze 7.5 image, whose header does not say how it is oriented. Taken as SPM and nibabel do: x runs from "
    "right to left unless a .mat file says otherwise, origin from {}; the repetition time is in seconds."
)


def affine_of(image: Path, header: Any) -> tuple[NDArray[np.float64], str]:
    """Affine of an Analyze image, and where its origin is from.

    SPM's ``.mat`` file beside the image decides; else the header's origin field where it is sensible; else
    the centre of the volume is the origin. Without ``.mat``, x runs from right to left.
    """
    mat = mat_file(image)
    if not mat.is_file():
        centred = np.allclose(header.get_best_affine(), header.get_base_affine())
        return header.get_best_affine(), "the centre of the volume" if centred else "the header's origin field"
    try:
        return np.asarray(nib.Spm2AnalyzeImage.from_filename(image).affine, dtype=float), mat.name
    except (ValueError, NotImplementedError, MatReadError, HeaderDataError) as error:
        raise InputError(str(mat), f"cannot be read ({error}).", "Write it anew with SPM, or remove it.") from error


def t_r_of(header: Any) -> float | None:
    """Repetition time in s; None where the header has none that can be one."""
    t_r = float(str(header["pixdim"][4]))
    return t_r if 0 < t_r <= MAX_T_R else None
