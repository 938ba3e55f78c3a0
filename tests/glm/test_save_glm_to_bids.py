"""Files of a model have nilearn's names and hold the maps of the model."""

from __future__ import annotations

import json

import nibabel
import nilearn.glm
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel as NilearnModel
from nilearn.glm.second_level import SecondLevelModel as NilearnGroup

import voxloom
from bids_validator import errors
from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm import save_glm_to_bids
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel
from voxloom.io.nifti.series import write_series

AFFINE = np.diag([3.0, 3, 3, 1])
MASK = nibabel.Nifti1Image(np.ones((5, 5, 5), np.uint8), AFFINE)
OPTIONS = {"t_r": 2.0, "mask_img": MASK, "noise_model": "ols"}
EVENTS = pd.DataFrame({"onset": np.arange(4.0, 90, 12), "duration": 4.0, "trial_type": ["face", "house"] * 4})


@pytest.fixture
def image():
    rng = np.random.default_rng(0)
    img = nibabel.Nifti1Image((500 + 9 * rng.standard_normal((5, 5, 5, 50))).astype(np.float32), AFFINE)
    img.header.set_zooms((3, 3, 3, 2))
    return img


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


#: Of nilearn's files: pictures, which the page has; the model's JSON, which every sidecar has; what an F has not here.
NOT_WRITTEN = (
    ".png",
    "statmap.json",
    "contrast-any_stat-effect_statmap.nii.gz",
    "contrast-any_stat-variance_statmap.nii.gz",
)


def nilearns(folder) -> set[str]:
    return {name for name in files(folder) if not name.endswith(NOT_WRITTEN)}


CONTRASTS = {"face - house": "face - house", "any": np.eye(2)}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("n_runs", [1, 2])
@pytest.mark.parametrize("prefix", ["sub-01_task-x", "mine", None])
def test_names_are_nilearns(tmp_path, image, n_runs, prefix):
    runs, tables = [image] * n_runs, [EVENTS] * n_runs
    ours = FirstLevelModel(**OPTIONS, minimize_memory=False).fit(runs, tables)
    theirs = NilearnModel(**OPTIONS, minimize_memory=False).fit(runs, tables)
    save_glm_to_bids(ours, CONTRASTS, out_dir=tmp_path / "ours", prefix=prefix)
    nilearn.glm.save_glm_to_bids(theirs, CONTRASTS, out_dir=tmp_path / "theirs", prefix=prefix)
    assert nilearns(tmp_path / "theirs") <= files(tmp_path / "ours")
    assert not errors(tmp_path / "ours")


@pytest.mark.filterwarnings("ignore")
def test_names_of_bids_files_are_nilearns(tmp_path, image):
    paths = [str(tmp_path / f"sub-01_task-x_run-{i}_space-MNI_desc-preproc_bold.nii.gz") for i in (1, 2)]
    for path in paths:
        nibabel.save(image, path)
    for name, model, save in (
        ("ours", FirstLevelModel, save_glm_to_bids),
        ("theirs", NilearnModel, nilearn.glm.save_glm_to_bids),
    ):
        fitted = model(**OPTIONS, minimize_memory=False).fit(paths, [EVENTS] * 2)
        save(fitted, CONTRASTS, out_dir=tmp_path / name)
    # the page of a subject carries the subject's name here
    assert nilearns(tmp_path / "theirs") - {"sub-01/report.html"} <= files(tmp_path / "ours")
    assert not errors(tmp_path / "ours")
    left = nibabel.load(next((tmp_path / "ours").rglob("*run-2*stat-errorts_statmap.nii.gz")))
    theirs = nibabel.load(next((tmp_path / "theirs").rglob("*run-2*stat-errorts_statmap.nii.gz")))
    np.testing.assert_allclose(left.get_fdata(), theirs.get_fdata(), atol=1e-4)
    assert left.header.get_zooms()[3] == 2.0


@pytest.mark.filterwarnings("ignore")
def test_names_of_group_files_are_nilearns(tmp_path, image):
    maps = [nibabel.Nifti1Image(image.get_fdata()[..., i].astype(np.float32), AFFINE) for i in range(6)]
    design = pd.DataFrame({"intercept": np.ones(6)})
    ours = SecondLevelModel(mask_img=MASK, minimize_memory=False).fit(maps, design_matrix=design)
    theirs = NilearnGroup(mask_img=MASK, minimize_memory=False).fit(maps, design_matrix=design)
    save_glm_to_bids(ours, "intercept", out_dir=tmp_path / "ours")
    nilearn.glm.save_glm_to_bids(theirs, "intercept", out_dir=tmp_path / "theirs")
    assert nilearns(tmp_path / "theirs") <= files(tmp_path / "ours")
    assert not errors(tmp_path / "ours")


def test_maps_and_clusters_are_the_models_and_sidecars_tell_how_they_were_made(tmp_path, image):
    ours = FirstLevelModel(**OPTIONS).fit(image, EVENTS)
    with pytest.warns(VoxloomWarning, match="2 weights for"):
        assert save_glm_to_bids(ours, CONTRASTS, out_dir=tmp_path, prefix="sub-01_task-x", alpha=0.05) is ours
    assert not [name for name in files(tmp_path) if "errorts" in name]  # of the size of the data
    stem = tmp_path / "sub-01/sub-01_task-x_contrast-faceMinusHouse"
    written = nibabel.load(f"{stem}_stat-t_statmap.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, ours.compute_contrast("face - house", output_type="stat").get_fdata())
    about = json.loads((tmp_path / f"{stem}_stat-t_statmap.json").read_text())
    assert about["Expression"] == "face - house"
    assert about["Model"]["noise_model"] == "ols"
    assert about["DegreesOfFreedom"] == 50 - ours.design_matrices_[0].shape[1]
    assert about["NumberOfMaps"] == 1
    table = pd.read_csv(f"{stem}_clusters.tsv", sep="\t")
    z = ours.compute_contrast("face - house").get_fdata()
    assert table["size"].sum() == np.sum(z >= json.loads((tmp_path / f"{stem}_clusters.json").read_text())["Threshold"])


def test_the_digest_of_the_inputs_is_that_of_data_and_design(tmp_path, image):
    def digest(img, **options) -> str:
        model = FirstLevelModel(**OPTIONS, **options).fit(img, EVENTS)
        save_glm_to_bids(model, "face", out_dir=tmp_path, prefix="")
        return json.loads((tmp_path / "contrast-face_stat-t_statmap.json").read_text())["InputsDigest"]

    other = nibabel.Nifti1Image(image.get_fdata().astype(np.float32), AFFINE, image.header)
    assert digest(image) == digest(other)
    other.get_fdata()[0, 0, 0, 0] += 1
    changed = nibabel.Nifti1Image(other.get_fdata().astype(np.float32), AFFINE, image.header)
    assert len({digest(image), digest(changed), digest(image, hrf_model="spm")}) == 3


def test_series_are_written_within_a_budget(tmp_path, image):
    series = voxloom.from_nifti(image, MASK)["bold"]
    for budget in (2 * 8 * 125, 2 * 8 * 125 * 7, 2**29):  # volumes alone, by sevens, all
        path = write_series(series.chunk(voxel=50), tmp_path / "x.nii.gz", memory_budget=budget)
        np.testing.assert_array_equal(nibabel.load(path).get_fdata(), image.get_fdata())


def test_names_of_files_give_the_names_of_results(tmp_path, image):
    path = tmp_path / "sub-07_task-faces_run-1_bold.nii.gz"
    nibabel.save(image, path)
    save_glm_to_bids(FirstLevelModel(**OPTIONS).fit(path, EVENTS), ["face", "house"], out_dir=tmp_path / "out")
    found = {name.removeprefix("sub-07/sub-07_task-faces_") for name in files(tmp_path / "out")}
    assert {"contrast-face_stat-z_statmap.nii.gz", "mask.nii.gz", "report.html"} <= found
    assert {"run-1_design.tsv", "run-1_stat-rsquared_statmap.nii.gz"} <= found


def test_wrong_use_is_told(tmp_path, image):
    model = FirstLevelModel(**OPTIONS)
    with pytest.raises(InputError, match="is not fitted"):
        save_glm_to_bids(model, "face", out_dir=tmp_path)
    model.fit(image, EVENTS)
    with pytest.raises(InputError, match=r"no parameter 'heigth_control'.*height_control"):
        save_glm_to_bids(model, "face", out_dir=tmp_path, heigth_control="fdr")
    with pytest.raises(InputError, match="would both be"):
        save_glm_to_bids(model, {"a": "face", "A": "house"}, out_dir=tmp_path)
    assert not files(tmp_path)
