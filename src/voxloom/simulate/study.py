"""A multi-site BIDS data set with fMRIPrep-like derivatives, and the truth it was made from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from voxloom.errors import InputError
from voxloom.kernels.design.hrf import compute_regressor
from voxloom.simulate.bold import simulate_bold, smooth_normal
from voxloom.simulate.confounds import confound_table, head_motion, motion_maps
from voxloom.simulate.files import write_json, write_nifti, write_table
from voxloom.simulate.phantom import CONDITIONS, effect_maps, head
from voxloom.simulate.truth import MARKER, Truth, read_truth, write_truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.simulate.phantom import Phantom

    FloatArray = NDArray[np.float64]

TASK, SPACE = "faces", "MNI152NLin2009cAsym"
#: Blocks of 12 s every 20 s.
BLOCK, CYCLE = 12.0, 20.0
#: Between subjects: spread of the gain of a condition, and of effects everywhere in percent signal.
GAIN_SD, FIELD_SD = 0.15, 0.12
#: FWHM in voxels of the noise within a run, and of the differences between subjects.
NOISE_FWHM, FIELD_FWHM = 1.5, 3.0


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """Every parameter that the bytes of a study depend on."""

    n_subjects: int
    n_sites: int
    n_runs: int
    shape: tuple[int, int, int]
    t_r: float
    n_volumes: int
    effect: float
    seed: int

    def label(self, subject: int) -> str:
        return f"sub-{subject + 1:0{max(2, len(str(self.n_subjects)))}d}"

    def site(self, subject: int) -> int:
        return subject % self.n_sites

    def rng(self, *address: int) -> np.random.Generator:
        """Draws of one subject or run are a function of the seed and its address alone."""
        return np.random.default_rng([self.seed, *address])


class _Subject(NamedTuple):
    number: int
    label: str
    mask: NDArray[np.bool_]  # (I, J, K)
    effects: FloatArray  # (condition, I, J, K)
    mean: FloatArray  # (I, J, K)
    tsnr: float


def write_bids_study(
    path: str | Path,
    *,
    n_subjects: int = 16,
    n_sites: int = 2,
    n_runs: int = 2,
    shape: tuple[int, int, int] = (26, 30, 24),
    t_r: float = 2.0,
    n_volumes: int = 120,
    effect: float = 1.0,
    seed: int = 0,
) -> Truth:
    """Write a BIDS data set of a face and house task, its fMRIPrep-like derivatives, and its truth.

    Sites differ in signal level, temporal SNR and coverage (all but the first miss the lowest slice), not in
    effects. Subjects differ in the size of their effects and by a smooth random field of mean zero.

    Parameters
    ----------
    path : path
        The BIDS directory. A study with these parameters that is there already is left alone.
    n_subjects, n_sites, n_runs : int
    shape : tuple of 3 int
        Grid that covers the head; the voxel size follows from it.
    t_r : float
        Repetition time, s.
    n_volumes : int
    effect : float
        Factor on the effects of `voxloom.simulate.BLOBS`; 0 gives null data.
    seed : int
        The same parameters give the same bytes.

    Returns
    -------
    Truth

    Raises
    ------
    InputError
        Where `path` holds a study of other parameters.
    """
    plan = _Plan(
        n_subjects=n_subjects,
        n_sites=n_sites,
        n_runs=n_runs,
        shape=shape,
        t_r=t_r,
        n_volumes=n_volumes,
        effect=effect,
        seed=seed,
    )
    root, wanted = Path(path), json.loads(json.dumps(asdict(plan)))
    marker = root / MARKER
    if marker.exists():
        if json.loads(marker.read_text()) != wanted:
            raise InputError(
                str(root), "holds a study simulated with other parameters.", "Remove it or give another path."
            )
        return read_truth(root)
    phantom = head(shape)
    population = effect * effect_maps(phantom)
    subjects = [_subject(plan, phantom, population, index) for index in range(n_subjects)]
    _write_description(root, plan)
    maps = motion_maps(phantom)
    for subject in subjects:
        for run in range(n_runs):
            _write_run(root, plan, phantom, maps, subject, run)
    write_truth(
        root,
        phantom.affine,
        population,
        effects=np.stack([subject.effects for subject in subjects]),
        covered=np.stack([subject.mask for subject in subjects]),
    )
    write_json(marker, wanted)  # last: its presence says the study is complete
    return read_truth(root)


def _subject(plan: _Plan, phantom: Phantom, population: FloatArray, index: int) -> _Subject:
    rng, site = plan.rng(0, index), plan.site(index)
    mask = phantom.brain.copy()
    if site:
        mask[:, :, np.flatnonzero(mask.any(axis=(0, 1)))[0]] = False
    gain = 1 + GAIN_SD * rng.standard_normal(len(CONDITIONS))
    effects = gain[:, None, None, None] * population
    effects[:, phantom.brain] += FIELD_SD * smooth_normal(len(CONDITIONS), phantom.brain, FIELD_FWHM, rng)
    share = site / max(1, plan.n_sites - 1)
    mean = phantom.mean * (1 - 0.2 * share) * (1 + 0.05 * rng.standard_normal())
    return _Subject(index, plan.label(index), mask, effects, mean, tsnr=80 - 20 * share)


def _events(plan: _Plan, rng: np.random.Generator) -> pd.DataFrame:
    n = max(len(CONDITIONS), int((plan.n_volumes * plan.t_r - 8) // CYCLE))
    order = rng.permutation(np.resize(np.arange(len(CONDITIONS)), n))
    onsets = 6.0 + CYCLE * np.arange(n) + np.round(rng.uniform(0, 2, n), 1)
    return pd.DataFrame({"onset": onsets, "duration": BLOCK, "trial_type": np.array(CONDITIONS, dtype=object)[order]})


def _write_run(root: Path, plan: _Plan, phantom: Phantom, maps: FloatArray, subject: _Subject, run: int) -> None:
    rng = plan.rng(1, subject.number, run)
    frame_times = plan.t_r * np.arange(plan.n_volumes, dtype=np.float64)
    events = _events(plan, rng)
    motion = head_motion(plan.n_volumes, rng)
    mask = subject.mask
    Y = simulate_bold(
        _regressors(events, frame_times),
        subject.effects[:, mask],
        mean=subject.mean[mask],
        tsnr=subject.tsnr,
        rho=np.clip(0.35 + 0.12 * smooth_normal(1, mask, FIELD_FWHM, rng)[0], 0.0, 0.7),
        drift=0.8,
        motion=(motion, maps[:, mask] * (subject.mean[mask] / phantom.mean[mask])),
        mask=mask,
        fwhm=NOISE_FWHM,
        seed=rng,
    )
    volumes = np.zeros((*plan.shape, plan.n_volumes), dtype=np.int16)
    volumes[mask] = np.clip(np.rint(Y), 0, 32_767).T
    confounds = confound_table(volumes[mask].T.astype(np.float64), phantom.tissue[mask], motion, frame_times)

    stem = f"{subject.label}_task-{TASK}_run-{run + 1}"
    write_table(root / subject.label / "func" / f"{stem}_events.tsv", events)
    derived = root / "derivatives" / "fmriprep" / subject.label / "func"
    write_table(derived / f"{stem}_desc-confounds_timeseries.tsv", confounds)
    bold, brain = (derived / f"{stem}_space-{SPACE}_desc-{desc}" for desc in ("preproc_bold", "brain_mask"))
    write_nifti(bold.with_name(f"{bold.name}.nii.gz"), volumes, phantom.affine, plan.t_r)
    write_json(
        bold.with_name(f"{bold.name}.json"),
        {"RepetitionTime": plan.t_r, "TaskName": TASK, "SkullStripped": True, "SliceTimingCorrected": False},
    )
    write_nifti(brain.with_name(f"{brain.name}.nii.gz"), mask.astype(np.uint8), phantom.affine)
    write_json(brain.with_name(f"{brain.name}.json"), {"Type": "Brain"})


def _regressors(events: pd.DataFrame, frame_times: FloatArray) -> FloatArray:
    columns = []
    for name in CONDITIONS:
        rows = events[events["trial_type"] == name]
        onsets, durations = rows["onset"].to_numpy(), rows["duration"].to_numpy()
        column, _ = compute_regressor(onsets, durations, np.ones(len(rows)), "spm", frame_times)
        columns.append(column[:, 0])
    return np.stack(columns, axis=1)


def _write_description(root: Path, plan: _Plan) -> None:
    made_by = {"BIDSVersion": "1.10.0", "GeneratedBy": [{"Name": "voxloom.simulate"}]}
    write_json(root / "dataset_description.json", {"Name": "Simulated faces", "DatasetType": "raw", **made_by})
    write_json(
        root / "derivatives" / "fmriprep" / "dataset_description.json",
        {"Name": "Simulated fMRIPrep derivatives", "DatasetType": "derivative", **made_by},
    )
    write_json(root / f"task-{TASK}_bold.json", {"RepetitionTime": plan.t_r, "TaskName": TASK})
    (root / "README").write_text(
        "Simulated by voxloom.simulate.write_bids_study: face and house blocks, known effects in truth/.\n"
        "There is no raw BOLD; the preprocessed runs are in derivatives/fmriprep.\n"
    )
    (root / ".bidsignore").write_text("truth/\n")
    rng = plan.rng(2)
    write_table(
        root / "participants.tsv",
        pd.DataFrame(
            {
                "participant_id": [plan.label(i) for i in range(plan.n_subjects)],
                "age": rng.integers(20, 71, plan.n_subjects),
                "sex": np.array(["F", "M"], dtype=object)[rng.integers(0, 2, plan.n_subjects)],
                "site": [f"site{plan.site(i) + 1}" for i in range(plan.n_subjects)],
            }
        ),
    )
