"""Pages of models by nilearn's names: what is on them, and what notebooks ask of them."""

from __future__ import annotations

import inspect

import nibabel
import nilearn.glm.first_level
import nilearn.glm.second_level
import numpy as np
import pandas as pd
import pytest

from voxloom.errors import ContrastError, GridError, InputError, VoxloomWarning
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel

AFFINE = np.diag([3.0, 3, 3, 1])
MASK = nibabel.Nifti1Image(np.ones((5, 5, 5), np.uint8), AFFINE)
OPTIONS = {"t_r": 2.0, "mask_img": MASK, "noise_model": "ols"}
EVENTS = pd.DataFrame({"onset": np.arange(4.0, 90, 12), "duration": 4.0, "trial_type": ["face", "house"] * 4})


@pytest.fixture(scope="module")
def image():
    data = 500 + 9 * np.random.default_rng(0).standard_normal((5, 5, 5, 50))
    img = nibabel.Nifti1Image(data.astype(np.float32), AFFINE)
    img.header.set_zooms((3, 3, 3, 2))
    return img


@pytest.fixture(scope="module")
def model(image):
    return FirstLevelModel(**OPTIONS).fit([image, image], [EVENTS, EVENTS])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FirstLevelModel, nilearn.glm.first_level.FirstLevelModel),
        (SecondLevelModel, nilearn.glm.second_level.SecondLevelModel),
    ],
)
def test_parameters_are_nilearns(ours, theirs):
    mine, other = (inspect.signature(one.generate_report).parameters for one in (ours, theirs))
    assert {name: p.default for name, p in mine.items()} == {name: p.default for name, p in other.items()}
    assert list(mine) == list(other)


def test_a_page_has_contrasts_designs_clusters_and_settings(model, tmp_path):
    page = model.generate_report({"contrast one": "face - house"}, title="My study", alpha=0.05)
    page.save_as_html(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert text == page.get_standalone() == str(page)
    for shown in ("My study", "contrast one", "run-1", "run-2", "noise_model", "z ≥ 1.64", "NumPy"):
        assert shown in text, shown
    assert page._repr_html_().startswith("<iframe srcdoc=")
    assert 'width="300"' in page.get_iframe(300)


def test_a_threshold_that_nothing_reaches_lists_no_cluster(model):
    z = model.compute_contrast("face").get_fdata()
    page = str(model.generate_report("face", height_control="fdr", alpha=1e-6))
    assert f"z ≥ {z.max():.3g}" in page or f"z ≥ {abs(z).max():.3g}" in page


def test_runs_may_differ_and_weights_be_short(image):
    faces = EVENTS.assign(trial_type="face")
    model = FirstLevelModel(**OPTIONS).fit([image, image], [EVENTS, faces])
    with pytest.warns(VoxloomWarning, match="left out"):
        assert "house" in str(model.generate_report("house"))
    with pytest.warns(VoxloomWarning, match="weights for"):
        model.generate_report({"any": np.eye(2)[:1]})


def test_group_models_have_pages(image):
    maps = [nibabel.Nifti1Image(image.get_fdata()[..., i].astype(np.float32), AFFINE) for i in range(6)]
    page = str(SecondLevelModel(mask_img=MASK).fit(maps).generate_report("intercept", bg_img=maps[0]))
    assert "SecondLevelModel: intercept" in page
    assert "6 maps" in page


def test_wrong_use_is_told(model):
    with pytest.raises(ContrastError, match="Name one at least"):
        model.generate_report()
    with pytest.raises(InputError, match="is not fitted"):
        FirstLevelModel().generate_report("face")
    with pytest.raises(InputError, match=r"Accepted: .*fdr"):
        model.generate_report("face", height_control="fwer")
    with pytest.raises(GridError):
        model.generate_report("face", bg_img=nibabel.Nifti1Image(np.ones((4, 4, 4)), AFFINE))
