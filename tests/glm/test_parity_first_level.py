"""The same calls on nilearn and on voxloom.glm over real data."""

from __future__ import annotations

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.glm.first_level import FirstLevelModel as NilearnModel

from voxloom.glm.first_level import FirstLevelModel

#: Largest difference over the range of nilearn's map; images are float32.
SAME = 1e-6
#: Where nilearn computes in float32: percent signal change, the variances of R squared.
SINGLE = 1e-5


@pytest.fixture(scope="module")
def haxby(voxloom_data):
    """Two runs: paths, events, mask."""
    folder = voxloom_data / "data/haxby2001_sub001/openfmri_original/sub001/BOLD"
    runs = [folder / f"task001_run00{i}" for i in (1, 2)]
    paths = [str(run / "bold_25mm.nii.gz") for run in runs]
    first = nibabel.load(paths[0])
    inside = np.asarray(first.dataobj).mean(axis=-1) > 300
    mask = nibabel.Nifti1Image(inside.astype(np.uint8), first.affine)
    return paths, [pd.read_csv(run / "bold_events.tsv", sep="\t") for run in runs], mask


@pytest.fixture(scope="module")
def localizer(voxloom_data):
    """One event-related run whose header has no repetition time."""
    folder = voxloom_data / "data/pyhrf_localizer"
    path = folder / "subj0_bold_session0.nii.gz"
    first = nibabel.load(path)
    inside = np.asarray(first.dataobj).std(axis=-1) > 0
    events = pd.read_csv(folder / "paradigm_loc_av_events.tsv", sep="\t")
    return str(path), events, nibabel.Nifti1Image(inside.astype(np.uint8), first.affine)


def apart(ours, theirs) -> float:
    a, b = ours.get_fdata(), theirs.get_fdata().reshape(ours.shape)
    return float(np.abs(a - b).max() / np.ptp(b))


def both(runs, events, mask, **options):
    options = {"t_r": 2.5, "mask_img": mask, "signal_scaling": False} | options
    return FirstLevelModel(**options).fit(runs, events), NilearnModel(**options, reports=False).fit(runs, events)


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_maps_of_two_runs_are_nilearns(haxby, noise_model):
    ours, theirs = both(*haxby, noise_model=noise_model)
    for contrast in ("face - house", "0.5*cat + 0.5*chair"):
        for output in ("z_score", "stat", "p_value", "effect_size", "effect_variance"):
            maps = [model.compute_contrast(contrast, output_type=output) for model in (ours, theirs)]
            assert apart(*maps) < SAME, (contrast, output)
    for mine, other in zip(ours.labels_, theirs.labels_):
        np.testing.assert_allclose(mine, [float(label) if noise_model == "ar1" else 0.0 for label in other])


@pytest.mark.parametrize("noise_model", ["ols", "ar1"])
def test_maps_of_an_event_related_run_are_nilearns(localizer, noise_model):
    path, events, mask = localizer
    name = sorted(set(events["trial_type"]))[0]
    ours, theirs = both(path, events, mask, t_r=2.4, noise_model=noise_model, hrf_model="spm + derivative")
    assert apart(ours.compute_contrast(name), theirs.compute_contrast(name)) < SAME
    K = ours.design_matrices_[0].shape[1]
    F = [model.compute_contrast(np.eye(K)[:3], "F", "stat") for model in (ours, theirs)]
    assert apart(*F) < SAME


def test_percent_signal_change_and_smoothing_are_nilearns(haxby):
    paths, events, mask = haxby
    ours, theirs = both(paths[0], events[0], mask, signal_scaling=0, noise_model="ols")
    assert apart(ours.compute_contrast("face"), theirs.compute_contrast("face")) < SINGLE
    images = [nibabel.load(path) for path in paths]
    ours, theirs = both(images[0], events[0], mask, smoothing_fwhm=30, noise_model="ols")
    assert apart(ours.compute_contrast("face"), theirs.compute_contrast("face")) < SINGLE


def test_ordinary_residuals_are_nilearns(haxby):
    paths, events, mask = haxby
    ours, theirs = both(paths[0], events[0], mask, noise_model="ols", minimize_memory=False)
    for name in ("residuals", "predicted", "r_square"):
        assert apart(getattr(ours, name)[0], getattr(theirs, name)[0]) < SINGLE, name
