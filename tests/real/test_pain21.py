"""Effects and variances of 21 real studies of pain, against PyMARE's estimators voxel by voxel."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pymare import Dataset
from pymare.estimators import VarianceBasedLikelihoodEstimator, WeightedLeastSquares

import voxloom
from voxloom.models.contrasts import contrast

VOXELS = 25


@pytest.fixture(scope="module")
def maps(voxloom_data):
    folder = voxloom_data / "data/nimare_pain21_effects"
    names = [f"pain_{i:02d}" for i in range(1, 22)]
    found = voxloom.from_nifti([folder / f"{name}_beta.nii.gz" for name in names], folder / "mask.nii.gz", dim="map")
    variances = voxloom.from_nifti(
        [folder / f"{name}_varcope.nii.gz" for name in names], folder / "mask.nii.gz", dim="map"
    )
    found["variance"] = variances["effect"].assign_coords(map=found["map"])
    found = found.where((found["variance"] > 0) & (found["effect"] != 0))
    complete = found["effect"].notnull().all("map") & found["variance"].notnull().all("map")
    return found.isel(voxel=np.flatnonzero(complete)[:VOXELS].tolist()).astype(float)


def test_fixed_effects(maps):
    expected = WeightedLeastSquares(tau2=0.0).fit_dataset(pymare_of(maps))
    answer = contrast(voxloom.fit_group(maps, estimator="fixed"), "intercept")
    np.testing.assert_allclose(answer["effect"], expected.summary().fe_params[0], rtol=1e-7)
    np.testing.assert_allclose(np.sqrt(answer["variance"]), expected.summary().get_fe_stats()["se"][0], rtol=1e-7)
    np.testing.assert_allclose(answer["z_score"], expected.summary().get_fe_stats()["z"][0], rtol=1e-6)


def test_mixed_effects_by_reml(maps):
    """The likelihood at our tau2 is no lower than where PyMARE ends its search; where that is near, so is its tau2."""
    near = 0
    fit = voxloom.fit_group(maps, estimator="reml")
    for v in range(0, VOXELS, 5):
        y, s2 = (maps[name].to_numpy()[:, v : v + 1] for name in ("effect", "variance"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = VarianceBasedLikelihoodEstimator(method="REML").fit(y, s2, np.ones((21, 1)))
        other = float(np.squeeze(found.params_["tau2"]))
        ours = float(fit["tau2"][v])
        lost = minus_two_reml(y, s2, other) - minus_two_reml(y, s2, ours)
        assert lost >= -1e-9
        if lost < 1e-4:
            np.testing.assert_allclose(ours, other, rtol=0.05)
            near += 1
    assert near


def pymare_of(maps):
    y, v = (maps[name].to_numpy() for name in ("effect", "variance"))
    return Dataset(y, v, X=np.ones((21, 1)), add_intercept=False)


def minus_two_reml(y, s2, tau2):
    w = 1 / (s2[:, 0] + tau2)
    residual = y[:, 0] - np.sum(w * y[:, 0]) / w.sum()
    return np.sum(w * residual**2) - np.log(w).sum() + np.log(w.sum())


def test_the_command_gives_these_numbers_from_the_files(maps, voxloom_data, tmp_path):
    folder = voxloom_data / "data/nimare_pain21_effects"
    done = voxloom.group_maps(
        folder / "pain_??_beta.nii.gz",
        variances=folder / "pain_??_varcope.nii.gz",
        mask=folder / "mask.nii.gz",
        estimator="reml",
        output=tmp_path / "out",
        cluster="threads",
    )
    found = done.maps.isel(group_contrast=0).sel(voxel=maps["voxel"])
    wanted = contrast(voxloom.fit_group(maps, estimator="reml"), "intercept")
    for name in ("effect", "variance", "stat", "z_score"):
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-6)


def test_sums_of_three_sites_are_the_model_of_all_studies(voxloom_data, tmp_path):
    folder = voxloom_data / "data/nimare_pain21_effects"
    files = sorted(folder.glob("pain_??_beta.nii.gz"))
    options = {"mask": folder / "mask.nii.gz", "cluster": "threads"}
    for i in range(3):
        assert voxloom.export_sums(files[i::3], tmp_path / f"{i}.npz", min_n=5, **options).ok
    pooled = voxloom.pool_sums([tmp_path / f"{i}.npz" for i in range(3)], output=tmp_path / "a", cluster="threads").maps
    whole = voxloom.group_maps(files, output=tmp_path / "b", **options).maps
    for name in ("effect", "variance", "stat", "p_fdr", "n"):
        np.testing.assert_allclose(pooled[name], whole[name], rtol=1e-11, atol=1e-300)
