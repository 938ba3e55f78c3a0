"""Parameters of the models behave as scikit-learn's and nilearn's do."""

from __future__ import annotations

import pickle

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel as NilearnFirst
from nilearn.glm.second_level import SecondLevelModel as NilearnSecond
from nilearn.maskers import NiftiMasker
from sklearn.base import clone

from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm.first_level import FirstLevelModel
from voxloom.glm.second_level import SecondLevelModel

AFFINE = np.diag([3.0, 3, 3, 1])
MASK = nibabel.Nifti1Image(np.ones((3, 4, 2), np.uint8), AFFINE)
OPTIONS = {"t_r": 2.0, "mask_img": MASK, "noise_model": "ols"}
EVENTS = pd.DataFrame({"onset": np.arange(4.0, 70, 12), "duration": 4.0, "trial_type": ["face", "house"] * 3})


@pytest.fixture(scope="module")
def image():
    data = 500 + 9 * np.random.default_rng(0).standard_normal((3, 4, 2, 40))
    img = nibabel.Nifti1Image(data.astype(np.float32), AFFINE)
    img.header.set_zooms((3, 3, 3, 2))
    return img


def z(model, image) -> np.ndarray:
    return model.fit(image, EVENTS).compute_contrast("face - house").get_fdata()


@pytest.mark.parametrize(("ours", "theirs"), [(FirstLevelModel, NilearnFirst), (SecondLevelModel, NilearnSecond)])
def test_parameters_are_nilearns_by_name_and_default(ours, theirs):
    found, expected = ours().get_params(), theirs().get_params()
    assert {name: found[name] for name in expected} == expected
    assert set(found) - set(expected) <= {"rules", "client", "store"}


def test_a_clone_has_the_parameters_and_not_the_fit(image):
    model = FirstLevelModel(**OPTIONS, subject_label="01").fit(image, EVENTS)
    copy = clone(model)
    assert {**copy.get_params(), "mask_img": MASK} == model.get_params()  # a clone copies its image
    assert not hasattr(copy, "results_")
    np.testing.assert_array_equal(z(copy, image), z(model, image))
    assert clone(SecondLevelModel(smoothing_fwhm=4)).smoothing_fwhm == 4


def test_parameters_are_replaced_shown_and_kept_as_given(image):
    model = FirstLevelModel(**OPTIONS).set_params(hrf_model="spm")
    expected = z(FirstLevelModel(**OPTIONS, hrf_model="spm"), image)
    before = model.get_params()
    np.testing.assert_array_equal(z(model, image), expected)
    assert model.get_params() == before
    assert model.get_params()["mask_img"] is MASK
    assert repr(FirstLevelModel(t_r=2, slice_time_ref=0.0, smoothing_fwhm=5)) == (
        "FirstLevelModel(t_r=2, smoothing_fwhm=5)"
    )


def test_what_changes_speed_and_words_alone_leaves_the_maps(image):
    expected = z(FirstLevelModel(**OPTIONS), image)
    idle = {"memory": "somewhere", "memory_level": 0, "verbose": 0, "n_jobs": 2, "minimize_memory": False}
    model = FirstLevelModel(**OPTIONS, **idle, random_state=3, reports=False)
    np.testing.assert_array_equal(z(model, image), expected)
    assert model.residuals[0].shape == image.shape  # whatever minimize_memory is
    assert model.n_elements_ == 24


def test_a_fitted_model_survives_pickling(image):
    model = FirstLevelModel(**OPTIONS).fit(image, EVENTS)
    copy = pickle.loads(pickle.dumps(model))
    for name in ("z_score", "effect_size"):
        found, expected = (m.compute_contrast("face", output_type=name).get_fdata() for m in (copy, model))
        np.testing.assert_array_equal(found, expected)


def test_a_masker_stands_for_its_mask(image):
    part = np.ones((3, 4, 2), np.uint8)
    part[0] = 0
    img = nibabel.Nifti1Image(part, AFFINE)
    for masker in (NiftiMasker(img), NiftiMasker(img).fit()):
        model = FirstLevelModel(**{**OPTIONS, "mask_img": masker}).fit(image, EVENTS)
        np.testing.assert_array_equal(model.mask_img_.get_fdata(), part)


def test_a_repetition_time_that_is_not_the_headers_is_told(image):
    with pytest.warns(VoxloomWarning, match="2.5 s is taken, but the image's header says 2 s"):
        FirstLevelModel(**{**OPTIONS, "t_r": 2.5}).fit(image, EVENTS)


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"target_affine": np.eye(3)}, "voxloom never does"),
        ({"rules": "spm"}, "Accepted: .*nilearn"),
        ({"smoothing_fwhm": "fast"}, "One width in mm"),
        ({"smoothing_fwhm": -1}, "One width in mm"),
        ({"signal_scaling": True}, r"Accepted: 0, 1, \(0, 1\), False"),
        ({"signal_scaling": "psc"}, r"Accepted: 0, 1, \(0, 1\), False"),
        ({"standardize": "psc"}, "Accepted: True, False"),
        ({"t_r": 2000}, "in seconds"),
        ({"t_r": 0}, "in seconds"),
        ({"t_r": "2"}, "in seconds"),
    ],
)
def test_a_parameter_that_cannot_be_right_is_told(image, params, says):
    with pytest.raises(InputError, match=says):
        FirstLevelModel(**OPTIONS).set_params(**params).fit(image, EVENTS)
    with pytest.raises(InputError, match=r"no parameter 'hrf'.*hrf_model"):
        FirstLevelModel().set_params(hrf="spm")
