"""One run (ds000011, sub-01, tone counting; TR 2 s, 104 volumes) as FSL, SPM12 and AFNI modelled it.

Each package's response is written as a function of seconds, and its own filter is applied to our columns; what is
left is the sampling of the fine grid. FSL's files say Gamma (``convolve 2``), not the double gamma of their readme.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.io import loadmat

from voxloom.kernels.design.drift import cosine_drift
from voxloom.models.design.matrix import design_matrix, frame_times

if TYPE_CHECKING:
    from pathlib import Path

N, T_R = 104, 2.0


@pytest.fixture
def folder(voxloom_data: Path) -> Path:
    return voxloom_data / "data/ds011_designs_fsl_spm_afni"


def regressors(events, hrf_model, reference, added=None):
    X = design_matrix(frame_times(N, T_R, reference), events, hrf_model=hrf_model, drift_model=None, add_regs=added)
    return X.drop(columns="constant").to_numpy()


def correlations(ours, theirs):
    return [np.corrcoef(a, b)[0, 1] for a, b in zip(ours.T, theirs.T)]


def fsl_events(folder: Path) -> pd.DataFrame:
    tables = []
    for name, file in {"tone": "ev1.txt", "tone_probe": "ev2.txt"}.items():
        onset, duration, _ = np.loadtxt(folder / "custom_timing_files" / file).T
        tables.append(pd.DataFrame({"onset": onset, "duration": duration, "trial_type": name}))
    return pd.concat(tables)


def fsl_matrix(path: Path) -> np.ndarray:
    return np.array([line.split() for line in path.read_text().split("/Matrix\n")[1].splitlines() if line], float)


def fsl_high_pass(X: np.ndarray, sigma: float) -> np.ndarray:
    """Subtract a local straight line with Gaussian weights (fslmaths -bptf), then the mean."""
    lag = np.arange(N) - np.arange(N)[:, np.newaxis]
    weights = np.where(abs(lag) <= 3 * sigma, np.exp(-0.5 * (lag / sigma) ** 2), 0.0)
    filtered = np.empty_like(X)
    for row, (w, t) in enumerate(zip(np.sqrt(weights), lag)):
        line = np.linalg.lstsq(np.column_stack([w, w * t]), w[:, np.newaxis] * X, rcond=None)[0]
        filtered[row] = X[row] - line[0]
    return filtered - filtered.mean(axis=0)


def fsl_gamma(t):
    """Mean lag 6 s, standard deviation 3 s, as the .fsf files say."""
    return stats.gamma.pdf(t, (6 / 3) ** 2, scale=3**2 / 6)


@pytest.mark.parametrize("variant", ["fsl_default", "fsl_motion_reg"])
def test_agrees_with_fsl_in_its_own_units(folder, variant):
    settings = dict(re.findall(r"set fmri\((\w+)\) (.*)", (folder / variant / "design.fsf").read_text()))
    assert (settings["convolve1"], settings["gammadelay1"], settings["gammasigma1"]) == ("2", "6", "3")
    theirs = fsl_matrix(folder / variant / "design.mat")[:, :2]
    sigma = float(settings["paradigm_hp"]) / (2 * T_R)
    ours = fsl_high_pass(regressors(fsl_events(folder / variant), fsl_gamma, 0.5), sigma)
    # measured: r 0.99994 twice, 0.011 at most beside a range of 0.9
    assert min(correlations(ours, theirs)) > 0.9999
    np.testing.assert_allclose(ours, theirs, atol=0.015)


def test_added_motion_regressors_are_those_of_fsl(folder):
    """FSL filters the six columns too; the rest is the digits its matrix is written with."""
    path = folder / "fsl_motion_reg"
    motion = fsl_high_pass(np.loadtxt(path / "confoundevs.txt"), 15.0)
    added = regressors(fsl_events(path), fsl_gamma, 0.5, motion)[:, 2:]
    np.testing.assert_allclose(added, fsl_matrix(path / "design.mat")[:, 2:], atol=1e-7)


def test_agrees_with_spm(folder):
    spm = loadmat(folder / "spm_default/SPM.mat", squeeze_me=True, struct_as_record=False)["SPM"]
    events = pd.concat(
        pd.DataFrame({"onset": u.ons, "duration": u.dur, "trial_type": f"{k}"}) for k, u in enumerate(spm.Sess.U)
    )
    # bin T0 of T, counted from one
    ours = regressors(events, "spm", (spm.xBF.T0 - 1) / spm.xBF.T)
    assert min(correlations(ours, spm.xX.X[:, :2])) > 0.9997  # measured: 0.99984, 0.99973
    np.testing.assert_allclose(ours, spm.xX.X[:, :2], atol=0.05)  # beside a range of 1.2


def test_cosines_are_those_of_spm(folder):
    spm = loadmat(folder / "spm_default/SPM.mat", squeeze_me=True, struct_as_record=False)["SPM"]
    ours = cosine_drift(1 / spm.xX.K.HParam, frame_times(N, T_R))[:, :-1]
    np.testing.assert_allclose(ours, spm.xX.K.X0, atol=1e-12)


def afni_block(t):
    """AFNI's BLOCK response before it is convolved with the event: t^4 exp(-t)."""
    return t**4 * np.exp(-t)


def test_agrees_with_afni(folder):
    results = folder / "afni_default/subject_results/group.DS0011/subj.sub_001/sub_001.results"
    tone = np.array((results / "stimuli/tone_counting_onset_times.txt").read_text().split(), float)
    probe = [pair.split(":") for pair in (results / "stimuli/tone_counting_probe_duration.txt").read_text().split()]
    onset, duration = np.array(probe, float).T
    events = pd.concat(
        [
            pd.DataFrame({"onset": tone, "duration": 4.0, "trial_type": "tone"}),
            pd.DataFrame({"onset": onset, "duration": duration, "trial_type": "tone_probe"}),
        ]
    )
    theirs = np.loadtxt(results / "X.nocensor.xmat.1D")[:, 3:5]
    assert min(correlations(regressors(events, afni_block, 0.0), theirs)) > 0.9999  # measured: 0.99998 twice
