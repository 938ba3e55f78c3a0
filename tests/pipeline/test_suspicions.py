"""What looks odd about an input is told, in one line with its file and what to do; the run is used."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import voxloom

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def derived(bids: Path, pattern: str) -> Path:
    (path,) = bids.glob(f"derivatives/fmriprep/sub-02/func/*run-1*{pattern}")
    return path


def rewrite(path: Path, change: Callable[[np.ndarray], np.ndarray], t_r: float | None = None) -> None:
    image = nibabel.load(path)
    changed = nibabel.Nifti1Image(change(np.asanyarray(image.dataobj)), image.affine, image.header)
    if t_r is not None:
        changed.header["pixdim"][4] = t_r
    nibabel.save(changed, path)


def shorten(bids: Path) -> None:
    rewrite(derived(bids, "desc-preproc_bold.nii.gz"), lambda data: data[..., :40])
    table = derived(bids, "confounds_timeseries.tsv")
    table.write_text("\n".join(table.read_text().splitlines()[:41]) + "\n")


def shrink_mask(bids: Path) -> None:
    def halve(data: np.ndarray) -> np.ndarray:
        data = data.copy()
        data[: data.shape[0] // 2] = 0
        return data

    rewrite(derived(bids, "desc-brain_mask.nii.gz"), halve)


def copy_image(bids: Path) -> None:
    (other,) = bids.glob("derivatives/fmriprep/sub-01/func/*run-1*desc-preproc_bold.nii.gz")
    shutil.copyfile(other, derived(bids, "desc-preproc_bold.nii.gz"))


def copy_events(bids: Path) -> None:
    (mine,) = bids.glob("sub-02/func/*run-1_events.tsv")
    (other,) = bids.glob("sub-02/func/*run-2_events.tsv")
    shutil.copyfile(other, mine)


def other_t_r(bids: Path) -> None:
    path = derived(bids, "desc-preproc_bold.nii.gz")
    rewrite(path, lambda data: data, t_r=2.2)
    path.with_name(path.name.replace(".nii.gz", ".json")).write_text('{"RepetitionTime": 2.2}')


def late_condition(bids: Path) -> None:
    (path,) = bids.glob("sub-02/func/*run-1_events.tsv")
    table = pd.read_csv(path, sep="\t")
    late = pd.DataFrame({"onset": [900.0], "duration": [5.0], "trial_type": ["scramble"]})
    pd.concat([table, late]).to_csv(path, sep="\t", index=False)


def entwine(bids: Path) -> None:
    """Every house follows a face at once, in one run."""
    (path,) = bids.glob("sub-02/func/*run-1_events.tsv")
    onset = [*range(4, 90, 20)]
    rows = [{"onset": t + late, "duration": 0.5, "trial_type": kind} for t in onset for kind, late in FOLLOWS.items()]
    pd.DataFrame(rows).to_csv(path, sep="\t", index=False)


FOLLOWS = {"face": 0.0, "house": 0.5}


ODD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "short run": (shorten, r"run-1.*bold\.nii\.gz: has 40 volumes, most runs 60: .* data\.exclude"),
    "small mask": (shrink_mask, r"run-1.*brain_mask\.nii\.gz: holds \d+ voxels, most masks \d+"),
    "same image": (copy_image, r"sub-02.*bold\.nii\.gz: has the same content as .*sub-01.*bold\.nii\.gz"),
    "same events": (copy_events, r"run-2_events\.tsv: has the same content as .*run-1_events\.tsv"),
    "other TR": (other_t_r, r"bold\.nii\.gz: has a repetition time of 2\.2 s, most runs 2 s"),
    "conditions that cannot be told apart": (
        entwine,
        r"first_level\.contrasts: contrast any: in 1 of \d+ runs, most in sub-02_task-\w+_run-1, its variance "
        r"is severely inflated, [\d.]+ times .* \(VIF\)\. Look at plot_design",
    ),
    "condition outside the run": (late_condition, r"run-1_events\.tsv: gives the columns \['scramble'\] no value"),
}


@pytest.mark.parametrize("what", ODD)
def test_odd_input_is_told(bids, tmp_path, analysis_of, what):
    change, told = ODD[what]
    change(bids)
    planned = voxloom.plan(analysis_of(bids, tmp_path))
    assert not planned.errors
    lines = [str(problem) for problem in planned.problems]
    assert sum(bool(re.search(told, line)) for line in lines) == 1, lines


def test_a_sound_study_has_nothing_odd(pristine_study, tmp_path, analysis_of):
    assert not voxloom.plan(analysis_of(pristine_study, tmp_path)).problems
