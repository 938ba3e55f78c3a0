"""Results are a BIDS derivative, by the official validator; what it says of each file holds."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest

import voxloom
from bids_validator import errors
from voxloom.pipeline.stored.fit import load_design

SPACE = "space-MNI152NLin2009cAsym"


def volume(path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_results_pass_the_validator_and_a_wrong_name_does_not(undisturbed_run, tmp_path):
    assert errors(undisturbed_run.output) == []
    copy = shutil.copytree(undisturbed_run.output, tmp_path / "copy")
    mask = next(copy.glob("sub-01/func/*_mask.nii.gz"))
    mask.rename(mask.with_name(mask.name.replace("_mask", "_maske")))
    assert "NOT_INCLUDED" in {code for code, _ in errors(copy)}


def test_every_image_and_table_has_its_sidecar(undisturbed_run):
    data = [path for end in ("*.nii.gz", "*.tsv") for path in undisturbed_run.output.rglob(end)]
    assert len(data) > 50
    for path in data:
        about = json.loads(path.with_name(path.name.partition(".")[0] + ".json").read_text())
        assert about["InputsDigest"], path


def test_masks_are_of_the_voxels_that_have_a_result(undisturbed_run):
    func = undisturbed_run.output / "sub-01/func"
    stem = f"sub-01_task-faces_{SPACE}"
    inside = volume(func / f"{stem}_desc-analysis_mask.nii.gz")
    t = volume(func / f"{stem}_contrast-faceVsHouse_stat-t_statmap.nii.gz")
    np.testing.assert_array_equal(inside, np.isfinite(t) & (t != 0))
    (path,) = (undisturbed_run.output / "group/mean").glob("*_desc-analysis_mask.nii.gz")
    z = volume(str(path).replace("desc-analysis_mask", "stat-z_statmap"))
    np.testing.assert_array_equal(volume(path), np.isfinite(z) & (z != 0))


@pytest.mark.parametrize("run", [1, 2])
def test_the_share_explained_is_that_of_the_fit(undisturbed_run, run):
    study = voxloom.open_study(undisturbed_run.store)
    run_id = study.runs.query("sub == '01'").index[run - 1]
    expected = voxloom.r_squared(study.run(run_id), study.fit(run_id)).compute()
    name = f"sub-01_task-faces_run-{run}_{SPACE}_stat-rsquared_statmap.nii.gz"
    found = volume(undisturbed_run.output / "sub-01/func" / name).ravel()[expected["voxel"]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert 0 < np.nanmean(found) < 1


def test_designs_are_those_of_the_fit(undisturbed_run):
    study = voxloom.open_study(undisturbed_run.store)
    run_id = study.runs.query("sub == '01'").index[0]
    name = "sub-01_task-faces_run-1_design"
    about = json.loads((undisturbed_run.output / f"sub-01/func/{name}.json").read_text())
    (fit_path,) = {key.rpartition("/design/")[0] for key in study.objects.list("fits/") if f"/{run_id}/design/" in key}
    design = load_design(study.objects, fit_path.removeprefix("fits/"))
    assert about["Columns"] == list(design.matrix)
    assert about["NumberOfVolumes"] == design.n_volumes
