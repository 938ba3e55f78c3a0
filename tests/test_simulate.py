"""Simulated data hold the truth they claim: plain least squares finds it again."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voxloom import simulate
from voxloom.errors import InputError
from voxloom.kernels.design.drift import cosine_drift
from voxloom.kernels.design.hrf import compute_regressor

SMALL = {"n_subjects": 3, "n_sites": 2, "n_runs": 2, "shape": (13, 15, 12), "n_volumes": 60, "seed": 4}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return simulate.write_bids_study(tmp_path_factory.mktemp("study") / "bids", **SMALL)


def block_design(T):
    rng = np.random.default_rng(1)
    return np.column_stack([np.repeat(rng.permutation(T // 10) % 2, 10), rng.standard_normal(T)]).astype(float)


def test_least_squares_finds_the_effects():
    T, V = 200, 400
    X, beta = block_design(T), np.random.default_rng(2).standard_normal((2, V))
    mean = np.linspace(5_000, 12_000, V)
    Y = simulate.simulate_bold(X, beta, mean=mean, tsnr=50, rho=0.0, white=1.0)
    full = np.column_stack([X, np.ones(T)])
    estimate, rss, *_ = np.linalg.lstsq(full, 100 * Y / mean, rcond=None)
    covariance = np.linalg.inv(full.T @ full)
    z = (estimate[:2] - beta) / (100 / 50 * np.sqrt(np.diag(covariance)[:2, None]))
    assert abs(z.mean()) < 5 / np.sqrt(2 * V)
    assert abs(z.std() - 1) < 0.1
    assert np.sqrt(rss / (T - 3)).mean() == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("rho", [-0.3, 0.0, 0.6])
def test_noise_has_the_autocorrelation_asked_for(rho):
    noise = simulate.simulate_bold(np.zeros((400, 1)), np.zeros((1, 500)), mean=100, tsnr=100, rho=rho, white=0)
    noise -= 100
    lag = [(noise[k:] * noise[: 400 - k]).mean() for k in range(3)]
    assert lag == pytest.approx([1, rho, rho**2], abs=0.02)
    # stationary from the first scan
    assert noise[0].var() == pytest.approx(1, abs=5 * np.sqrt(2 / 500))


def test_white_share_lowers_the_autocorrelation_at_all_lags_alike():
    noise = simulate.simulate_bold(np.zeros((400, 1)), np.zeros((1, 500)), mean=100, tsnr=100, rho=0.6, white=0.5)
    noise -= 100
    lag = [(noise[k:] * noise[: 400 - k]).mean() for k in range(3)]
    assert lag == pytest.approx([1, 0.3, 0.18], abs=0.02)


def test_drift_and_motion_lie_in_the_confounds_space():
    T, V, t_r = 120, 50, 2.0
    rng = np.random.default_rng(3)
    motion = rng.standard_normal((T, 2)), rng.standard_normal((2, V))
    Y = simulate.simulate_bold(np.zeros((T, 1)), np.zeros((1, V)), mean=100, tsnr=1e12, drift=2.0, motion=motion)
    assert (Y - motion[0] @ motion[1]).std(axis=0).mean() == pytest.approx(2.0, rel=0.3)
    confounds = np.column_stack([cosine_drift(1 / 128, t_r * np.arange(T)), motion[0]])
    residual = Y - confounds @ np.linalg.lstsq(confounds, Y, rcond=None)[0]
    assert np.abs(residual).max() < 1e-6


def test_fields_have_unit_variance_and_the_smoothness_asked_for():
    mask = np.ones((16, 16, 16), dtype=bool)
    fields = simulate.smooth_normal(40, mask, 3.0, np.random.default_rng(0)).reshape(40, 16, 16, 16)
    assert fields.var() == pytest.approx(1, abs=0.05)
    # FWHM from the variance of first differences (Worsley 1992); the sampled kernel is close to the Gaussian
    slope = np.diff(fields, axis=1).var()
    assert np.sqrt(4 * np.log(2) / slope) == pytest.approx(3.0, rel=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": np.zeros((2, 5))}, r"X is \(20, 1\)"),
        ({"rho": 1.0}, "within"),
        ({"fwhm": 2.0}, "mask of 5 voxels"),
    ],
)
def test_wrong_arguments_are_named(change, message):
    arguments = {"X": np.zeros((20, 1)), "beta": np.zeros((1, 5))} | change
    with pytest.raises(InputError, match=message):
        simulate.simulate_bold(arguments.pop("X"), arguments.pop("beta"), **arguments)


def test_same_seed_same_bytes_other_seed_other_bytes(study, tmp_path):
    again = simulate.write_bids_study(tmp_path / "again", **SMALL)
    other = simulate.write_bids_study(tmp_path / "other", **{**SMALL, "seed": 5})
    files = [path.relative_to(study.root) for path in sorted(study.root.rglob("*")) if path.is_file()]
    assert len(files) > 40
    assert all((again.root / file).read_bytes() == (study.root / file).read_bytes() for file in files)
    bold = next(file for file in files if file.name.endswith("preproc_bold.nii.gz"))
    assert (other.root / bold).read_bytes() != (study.root / bold).read_bytes()


def test_a_study_that_is_there_is_left_alone_or_refused(study):
    marker = study.root / "truth" / "simulation.json"
    before = marker.stat().st_mtime_ns
    simulate.write_bids_study(study.root, **SMALL)
    assert marker.stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other parameters"):
        simulate.write_bids_study(study.root, **{**SMALL, "n_runs": 1})


def test_files_follow_bids_and_fit_each_other(study):
    derived = study.root / "derivatives" / "fmriprep"
    assert json.loads((derived / "dataset_description.json").read_text())["DatasetType"] == "derivative"
    participants = pd.read_csv(study.root / "participants.tsv", sep="\t")
    assert participants["site"].tolist() == ["site1", "site2", "site1"]
    for label in participants["participant_id"]:
        for run in (1, 2):
            stem = f"{label}_task-faces_run-{run}"
            image = nib.load(derived / label / "func" / f"{stem}_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz")
            confounds = pd.read_csv(
                derived / label / "func" / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", na_values="n/a"
            )
            events = pd.read_csv(study.root / label / "func" / f"{stem}_events.tsv", sep="\t")
            assert image.get_data_dtype() == np.int16
            assert image.header.get_zooms()[3] == 2.0
            assert image.shape[3] == len(confounds) == 60
            assert np.isnan(confounds["trans_x_derivative1"][0])
            assert confounds.drop(index=0).notna().all(axis=None)
            assert (events["onset"] + events["duration"]).max() < 120
            assert set(events["trial_type"]) == {"face", "house"}


def test_sites_differ_in_coverage(study):
    masks = [
        np.asarray(nib.load(path).dataobj, dtype=bool) for path in sorted(study.root.rglob("*run-1_*brain_mask.nii.gz"))
    ]
    assert masks[0].sum() == masks[2].sum() > masks[1].sum()
    np.testing.assert_array_equal(study.brain, np.logical_and.reduce(masks))


def test_the_runs_of_a_study_hold_its_sample_effects(study):
    """Mean of per-run least squares against the mean effect of the subjects drawn, in units of its error."""
    estimates, errors = [], []
    for path in sorted(study.root.rglob("*preproc_bold.nii.gz")):
        Y = np.asarray(nib.load(path).dataobj, dtype=float)[study.brain].T
        stem = path.name.partition("_space-")[0]
        events = pd.read_csv(study.root / stem[:6] / "func" / f"{stem}_events.tsv", sep="\t")
        motion = pd.read_csv(path.with_name(f"{stem}_desc-confounds_timeseries.tsv"), sep="\t", na_values="n/a")
        times = 2.0 * np.arange(len(Y))
        task = []
        for name in simulate.CONDITIONS:
            rows = events[events["trial_type"] == name]
            shape, _ = compute_regressor(
                rows["onset"].to_numpy(), rows["duration"].to_numpy(), np.ones(len(rows)), "spm", times
            )
            task.append(shape[:, 0])
        X = np.column_stack([*task, motion.filter(regex="^(trans|rot)_.$"), cosine_drift(1 / 128, times)])
        beta, rss, *_ = np.linalg.lstsq(X, 100 * Y / Y.mean(axis=0), rcond=None)
        c = np.zeros(X.shape[1])
        c[:2] = 1, -1
        estimates.append(c @ beta)
        errors.append(rss / (len(X) - X.shape[1]) * (c @ np.linalg.inv(X.T @ X) @ c))
    z = (np.mean(estimates, axis=0) - study.contrast({"face": 1, "house": -1})[1][study.brain]) / (
        np.sqrt(np.sum(errors, axis=0)) / len(errors)
    )
    # plain least squares on autocorrelated noise: errors about a quarter too small, the estimate unbiased
    assert abs(np.mean(z)) < 0.15
    assert 1.0 < np.std(z) < 1.5


def test_truth_has_a_positive_a_negative_and_a_common_region(study):
    phantom = simulate.head((26, 30, 24))
    face, house = simulate.effect_maps(phantom)
    difference = face - house
    found = simulate.active(difference)
    assert difference[found].min() < -0.4
    assert difference[found].max() > 0.4
    common = (face > 0.8) & (house > 0.8)
    assert common.sum() > 50
    assert not (found & common).any()
    assert 0.02 < found.sum() / phantom.brain.sum() < 0.1
    assert simulate.head((13, 15, 12)).brain.sum() == pytest.approx(phantom.brain.sum() / 8, rel=0.1)
