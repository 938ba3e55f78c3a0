"""`init`, `plan` and `run` from the command line on a BIDS data set, with nothing but its two directories given."""

from __future__ import annotations

import subprocess
import sys
from itertools import product
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from nilearn.glm.second_level import SecondLevelModel

import voxloom

if TYPE_CHECKING:
    from pathlib import Path

import pandas as pd


def cli(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "voxloom", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def folder(voxloom_data, tmp_path_factory) -> Path:
    """A folder in which the three commands have been given."""
    folder = tmp_path_factory.mktemp("pseudo6")
    bids = voxloom_data / "data/haxby_pseudo6_bids"
    made = cli("init", bids, "--derivatives", bids / "derivatives/fmriprep", cwd=folder)
    assert made.returncode == 0, made.stderr
    planned = cli("plan", "analysis.yaml", cwd=folder)
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert "12" in planned.stdout
    done = cli("run", "analysis.yaml", "--workers", "2", "--memory-budget", "128MiB", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_subject_and_the_group_have_maps(folder):
    analysis = voxloom.load_analysis(folder / "analysis.yaml")
    output = analysis.output.dir
    tests = [name for name, wanted in analysis.first_level.contrasts.items() if wanted.stat_type == "t"]
    assert len(tests) >= 8
    for subject in range(1, 7):
        z = list((output / f"sub-0{subject}" / "func").glob("*stat-z_statmap.nii.gz"))
        assert len(z) == len(analysis.first_level.contrasts)
    assert len(list(output.glob("group/*/*stat-t_statmap.nii.gz"))) == len(tests)
    assert len(list(output.glob("group/*/*stat-p_desc-fwe_statmap.nii.gz"))) == len(tests)


def test_group_equals_nilearn_and_every_flip(folder):
    """Group t of the written subject maps, and its family-wise error p over all 2^6 flips, by other means."""
    analysis = voxloom.load_analysis(folder / "analysis.yaml")
    output = analysis.output.dir
    t_path = sorted(output.glob("group/*/*contrast-face*stat-t_statmap.nii.gz"))[0]
    label = t_path.name.split("contrast-")[1].split("_")[0]
    paths = sorted(output.glob(f"sub-*/func/*contrast-{label}_stat-effect_statmap.nii.gz"))
    assert len(paths) == 6
    mask = voxloom.open_study(analysis.store.path).mask
    y = np.stack([nibabel.load(path).get_fdata()[mask] for path in paths])

    model = SecondLevelModel(mask_img=nibabel.Nifti1Image(mask.astype("u1"), nibabel.load(paths[0]).affine))
    model.fit([str(path) for path in paths], design_matrix=pd.DataFrame({"intercept": np.ones(6)}))
    theirs = model.compute_contrast("intercept", output_type="stat").get_fdata()[mask]
    t = nibabel.load(t_path).get_fdata()[mask]
    np.testing.assert_allclose(t, theirs, rtol=1e-4, atol=1e-5)

    def t_of(signs: tuple[float, ...]) -> np.ndarray:
        flipped = np.array(signs)[:, np.newaxis] * y
        return flipped.mean(axis=0) / (flipped.std(axis=0, ddof=1) / np.sqrt(6))

    null = np.array([np.abs(t_of(signs)).max() for signs in product((1.0, -1.0), repeat=6)])
    expected = np.array([np.mean(null >= abs(value) * (1 - 1e-6)) for value in t_of((1.0,) * 6)])
    p = nibabel.load(str(t_path).replace("stat-t_", "stat-p_desc-fwe_")).get_fdata()[mask]
    np.testing.assert_allclose(p, expected, atol=1e-6)
