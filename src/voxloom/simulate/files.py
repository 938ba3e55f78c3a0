"""Files of a simulated study: the same content gives the same bytes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from isal import igzip

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

_Image: Any = nib.Nifti1Image  # nibabel's classes carry no types
_load: Any = nib.load


def write_nifti(path: Path, data: NDArray[Any], affine: FloatArray, t_r: float = 0.0) -> None:
    """Write a compressed NIfTI in MNI space; `t_r` (s) for a 4-D one."""
    image = _Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    for form in (image.set_sform, image.set_qform):
        form(affine, code="mni")
    if t_r:
        image.header.set_zooms((*image.header.get_zooms()[:3], t_r))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(igzip.compress(image.to_bytes(), compresslevel=2, mtime=0))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a BIDS table; NaN becomes ``n/a``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, sep="\t", index=False, na_rep="n/a", float_format="%.10g", lineterminator="\n")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON sidecar, keys sorted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_nifti(path: Path) -> tuple[FloatArray, FloatArray]:
    """Values as float64, and the affine."""
    image = _load(path)
    return np.asarray(image.dataobj, dtype=np.float64), np.asarray(image.affine, dtype=np.float64)
