"""Clusters and TFCE of every reference run of PALM, rearrangement by rearrangement, and its corrected p."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

from voxloom import TFCE, ClusterMass, ClusterSize, Exchangeability, permutation_test
from voxloom.kernels.maps.clusters import cluster_maxima, find_clusters
from voxloom.kernels.maps.neighbours import neighbourhood
from voxloom.kernels.maps.tfce import tfce_maxima, tfce_scores
from voxloom.models.inference.null_p import TIE_RTOL, counted_p
from voxloom.models.inference.permutation import prepare_test, rearranged_stat
from voxloom.schema import Grid, voxel_coords

if TYPE_CHECKING:
    from pathlib import Path

CASES = (
    "one_sample_signflip",
    "two_sample_freedman_lane",
    "f_contrast_three_groups",
    "paired_within_block",
    "two_group_whole_block",
)
#: PALM's thresholds, neighbours and steps.
THRESHOLD = 2.5
STATISTICS = {
    "cluster_extent": ClusterSize(threshold=float(stats.norm.sf(THRESHOLD))),
    "cluster_mass": ClusterMass(threshold=float(stats.norm.sf(THRESHOLD))),
    "tfce": TFCE(steps=100),
}
#: PALM's own rounding, in units of its maxima; its extents are whole numbers.
TOLERANCE = {"cluster_extent": 0, "cluster_mass": 5e-10, "tfce": 5e-10}


class Case(NamedTuple):
    """Inputs of a run of PALM; its outputs lie in `folder`."""

    folder: Path
    maps: xr.DataArray
    design: pd.DataFrame
    contrast: np.ndarray
    exchangeability: Exchangeability

    def map(self, name: str) -> np.ndarray:
        volume = np.asarray(nib.load(self.folder / name).dataobj, dtype=float)
        return volume.ravel()[self.maps["voxel"]]

    def maxima(self, name: str) -> np.ndarray:
        return np.loadtxt(self.folder / f"max_{name}.csv", delimiter=",")


@pytest.fixture(scope="module")
def palm(voxloom_data: Path) -> Path:
    folder = voxloom_data / "oracles" / "palm"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def load(palm: Path, name: str) -> Case:
    folder, mask = palm / name, nib.load(palm / "mask.nii.gz")
    inside = np.asanyarray(mask.dataobj) > 0
    Y = np.asarray(nib.load(folder / "data.nii.gz").dataobj)[inside].T
    coords = voxel_coords(Grid.of(inside.shape, mask.affine), np.flatnonzero(inside))
    table = {part: np.loadtxt(folder / f"{part}.csv", delimiter=",", ndmin=2) for part in ("design", "contrast")}
    design = table["design"].reshape(len(Y), -1)
    return Case(
        folder,
        xr.DataArray(Y, dims=("map", "voxel"), coords={"map": np.arange(len(Y)), **coords}, name="effect"),
        pd.DataFrame(design, columns=[f"x{k}" for k in range(design.shape[1])]),
        table["contrast"].reshape(-1, design.shape[1]),
        Exchangeability(rearrangements=np.loadtxt(folder / "permidx.csv", delimiter=",", dtype=int)),
    )


def run(case: Case) -> xr.Dataset:
    return permutation_test(
        case.maps,
        case.design,
        case.contrast,
        statistics=STATISTICS.values(),
        exchangeability=case.exchangeability,
        two_sided=False,
    ).rename(cluster_size="cluster_extent", null_cluster_size="null_cluster_extent", p_cluster_size="p_cluster_extent")


@pytest.mark.parametrize("name", CASES)
def test_every_rearrangement_has_palms_maxima_and_every_voxel_its_values_and_p(palm, name):
    case = load(palm, name)
    found = run(case)
    for statistic, tolerance in TOLERANCE.items():
        null = case.maxima(statistic)
        np.testing.assert_allclose(found[f"null_{statistic}"], null, rtol=tolerance, atol=0)
        values = case.map(f"stat_{statistic}.nii.gz")
        np.testing.assert_allclose(found[statistic], values, rtol=tolerance, atol=1e-9)
        p = 10 ** -case.map(f"logp_fwe_{statistic}.nii.gz")
        np.testing.assert_allclose(found[f"p_{statistic}"], p, rtol=1e-9)


def test_two_tailed_replay_takes_sizes_before_all_else(palm):
    """PALM's two-tailed runs let the signs merge; made here of the kernels, as voxloom keeps signs apart."""
    case = load(palm, "one_sample_signflip")
    case = case._replace(folder=case.folder / "two_tailed")
    test = prepare_test(case.design, case.contrast, exchangeability=case.exchangeability)
    z = abs(test.to_z(rearranged_stat(test, case.maps.values)))
    corners, faces = (neighbourhood(case.maps["voxel"].values, case.maps["grid"].attrs["shape"], c) for c in (26, 6))
    maxima = cluster_maxima(z, np.array([THRESHOLD]), corners)
    assert np.array_equal(maxima.size[:, 0], case.maxima("cluster_extent"))
    np.testing.assert_allclose(maxima.mass[:, 0], case.maxima("cluster_mass"), rtol=5e-10)
    np.testing.assert_allclose(tfce_maxima(z, faces, steps=100), case.maxima("tfce"), rtol=5e-10)
    clusters = find_clusters(z[0], THRESHOLD, corners)
    extent = np.concatenate([[0], clusters.size])[clusters.label]
    assert np.array_equal(extent, case.map("stat_cluster_extent.nii.gz"))
    assert sorted(clusters.size)[-2:] == [73, 144]
    p = counted_p(extent.astype(float), maxima.size[:, 0].astype(float))
    np.testing.assert_allclose(p, 10 ** -case.map("logp_fwe_cluster_extent.nii.gz"), rtol=1e-9)


@pytest.mark.parametrize("name", ["two_sample_freedman_lane", "two_group_whole_block"])
def test_uncorrected_p_of_scores_are_palms(palm, name):
    case = load(palm, name)
    test = prepare_test(case.design, case.contrast, exchangeability=case.exchangeability, two_sided=False)
    z = test.to_z(rearranged_stat(test, case.maps.values))
    faces = neighbourhood(case.maps["voxel"].values, case.maps["grid"].attrs["shape"], 6)
    scores = tfce_scores(z, faces, steps=100)
    reached = (scores >= scores[0] - TIE_RTOL * scores[0]).mean(axis=0)
    np.testing.assert_allclose(reached, 10 ** -case.map("logp_unc_tfce.nii.gz"), rtol=1e-9)


def test_exact_scores_are_what_palms_steps_come_near(palm):
    """A hundred steps change the greatest scores by up to 1 % either way, and small p by a few of the 500."""
    case = load(palm, "one_sample_signflip")
    exact = permutation_test(case.maps, statistics="tfce", exchangeability=case.exchangeability, two_sided=False)
    stepped = case.maxima("tfce")
    assert 0.005 < abs(stepped / exact["null_tfce"] - 1).max() < 0.02
    p = 10 ** -case.map("logp_fwe_tfce.nii.gz")
    assert abs(exact["p_tfce"] - p)[p <= 0.05].max() <= 5 / 500
