"""Files of a model have nilearn's names and hold the maps of the model."""

from __future__ import annotations

import json

import nibabel
import nilearn.glm
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel as NilearnModel

from voxloom.errors import InputError
from voxloom.glm import save_glm_to_bids
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel

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


def test_names_are_nilearns_and_maps_the_models(tmp_path, image):
    ours = FirstLevelModel(**OPTIONS).fit(image, EVENTS)
    theirs = NilearnModel(**OPTIONS, minimize_memory=False).fit(image, EVENTS)
    K = ours.design_matrices_[0].shape[1]
    contrasts = {"face - house": "face - house", "any": np.eye(K)[:2]}
    options = {"prefix": "sub-01_task-x", "alpha": 0.05}
    assert save_glm_to_bids(ours, contrasts, out_dir=tmp_path / "ours", **options) is ours
    nilearn.glm.save_glm_to_bids(theirs, contrasts, out_dir=tmp_path / "theirs", **options)
    wanted = {name for name in files(tmp_path / "theirs") if name.endswith((".nii.gz", ".tsv"))}
    # not written: effects of an F, which have another meaning here; residuals, of the size of the data; correlations
    left_out = {name for name in wanted if "errorts" in name or "corrdesign" in name}
    left_out |= {name for name in wanted if "contrast-any_stat-effect" in name or "contrast-any_stat-variance" in name}
    assert wanted - left_out <= files(tmp_path / "ours")
    stem = tmp_path / "ours/sub-01/sub-01_task-x_contrast-faceMinusHouse"
    written = nibabel.load(f"{stem}_stat-t_statmap.nii.gz").get_fdata()
    np.testing.assert_array_equal(written, ours.compute_contrast("face - house", output_type="stat").get_fdata())
    about = json.loads((tmp_path / f"{stem}_stat-t_statmap.json").read_text())
    assert about["Expression"] == "face - house"
    assert about["Model"]["noise_model"] == "ols"
    table = pd.read_csv(f"{stem}_clusters.tsv", sep="\t")
    z = ours.compute_contrast("face - house").get_fdata()
    assert table["size"].sum() == np.sum(z >= json.loads((tmp_path / f"{stem}_clusters.json").read_text())["Threshold"])


def test_names_of_files_give_the_names_of_results(tmp_path, image):
    path = tmp_path / "sub-07_task-faces_run-1_bold.nii.gz"
    nibabel.save(image, path)
    save_glm_to_bids(FirstLevelModel(**OPTIONS).fit(path, EVENTS), ["face", "house"], out_dir=tmp_path / "out")
    for name in ("contrast-face_stat-z_statmap.nii.gz", "design.tsv", "mask.nii.gz", "stat-rsquared_statmap.nii.gz"):
        assert (tmp_path / "out/sub-07" / f"sub-07_task-faces_{name}").is_file(), name


def test_group_models_have_a_folder(tmp_path, image):
    maps = [nibabel.Nifti1Image(image.get_fdata()[..., i].astype(np.float32), AFFINE) for i in range(6)]
    model = SecondLevelModel(mask_img=MASK).fit(maps)
    save_glm_to_bids(model, "intercept", out_dir=tmp_path)
    assert {"group/design.tsv", "group/contrast-intercept_stat-t_statmap.nii.gz"} <= files(tmp_path)


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
