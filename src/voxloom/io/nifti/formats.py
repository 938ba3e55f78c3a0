"""Files that are not NIfTI, told by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.errors import InputError

if TYPE_CHECKING:
    from voxloom.io.nifti.stream import FilePath

#: Formats that are recognised by name, to say what converts them.
FOREIGN = {
    ".head": ("an AFNI file", "3dAFNItoNIFTI"),
    ".brik": ("an AFNI file", "3dAFNItoNIFTI"),
    ".mgh": ("a FreeSurfer volume", "mri_convert"),
    ".mgz": ("a FreeSurfer volume", "mri_convert"),
    ".mnc": ("a MINC file", "mnc2nii"),
    ".par": ("a Philips PAR/REC file", "dcm2niix"),
    ".rec": ("a Philips PAR/REC file", "dcm2niix"),
    ".dcm": ("a DICOM file", "dcm2niix"),
}


def require_known(path: FilePath) -> None:
    """Raise `InputError` for a file of another format, by its name; the message says what converts it."""
    ending = Path(str(path).lower().removesuffix(".gz")).suffix
    if ending in FOREIGN:
        what, tool = FOREIGN[ending]
        raise InputError(str(path), f"is {what}.", f"Convert it to NIfTI, as with `{tool}`.")
