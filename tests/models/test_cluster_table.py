"""Cluster tables and true discoveries of small maps that can be counted by hand, and against nilearn."""

from __future__ import annotations

import warnings

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nilearn.glm import cluster_level_inference
from scipy import stats

from voxloom.errors import InputError
from voxloom.models.inference.cluster_table import COLUMNS, clusters_table
from voxloom.models.inference.true_discoveries import true_discovery_proportion
from voxloom.schema import Grid, voxel_coords

AFFINE = np.array([[-2.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 4, 5], [0, 0, 0, 1]])


def as_map(volume: np.ndarray, name: str = "z_score") -> xr.DataArray:
    """All voxels of a volume, shuffled: no result may depend on their order."""
    voxel = np.random.default_rng(0).permutation(volume.size)
    grid = Grid.of(volume.shape, AFFINE)
    return xr.DataArray(volume.flat[voxel], dims="voxel", coords=voxel_coords(grid, voxel), name=name)


def two_clusters() -> np.ndarray:
    volume = np.random.default_rng(1).uniform(-1, 1, (12, 9, 8))
    volume[2:6, 2, 2] = [5.0, 3.5, 3.0, 4.0]  # a peak and, 6 mm away, another
    volume[6, 3, 3] = 3.1  # touches it by a corner
    volume[8:10, 6:8, 5] = -6.0  # a plateau
    return volume


def test_peaks_subpeaks_sizes_and_masses():
    table = clusters_table(as_map(two_clusters()), threshold=3.0, min_distance=5.0)
    assert list(table.columns) == list(COLUMNS)
    assert table.cluster_id.tolist() == ["1", "1a", "2"]
    assert table[["i", "j", "k"]].to_numpy().tolist() == [[2, 2, 2], [5, 2, 2], [8, 6, 5]]
    np.testing.assert_allclose(table[["x", "y", "z"]].iloc[0], [26, -34, 13])
    assert table.peak.tolist() == [5.0, 4.0, -6.0]
    assert table["size"].tolist() == [5, pd.NA, 4]
    np.testing.assert_allclose(table["size_mm3"].dropna(), [5 * 24, 4 * 24])
    np.testing.assert_allclose(table["mass"].dropna(), [5 + 3.5 + 3 + 4 + 3.1, -24])
    assert table.attrs["threshold"] == 3.0


def test_parameters_do_what_they_say():
    z = as_map(two_clusters())
    assert clusters_table(z, threshold=3.0, min_distance=6.0).cluster_id.tolist() == ["1", "2"]
    assert clusters_table(z, threshold=3.0, connectivity=18)["size"].dropna().tolist() == [4, 1, 4]
    assert clusters_table(z, threshold=3.0, connectivity=18, min_size=4).cluster_id.tolist() == ["1", "1a", "2"][::2]
    assert clusters_table(z, threshold=3.0, two_sided=False).peak.min() > 0
    none = clusters_table(z, threshold=9.0)
    assert none.empty
    assert list(none.columns) == list(COLUMNS)


def test_at_most_three_subpeaks_each_apart_from_all_above_it():
    volume = np.zeros((16, 1, 1))
    volume[:, 0, 0] = [9, 1, 8, 1, 7, 1, 6, 1, 5, 1, 4, 1, 3, 1, 2, 1]  # 2 mm apart, peaks every 4 mm
    table = clusters_table(as_map(volume), threshold=1.0, min_distance=5.0)
    assert table.cluster_id.tolist() == ["1", "1a", "1b", "1c"]
    assert table.peak.tolist() == [9, 7, 5, 3]


def test_nan_is_in_no_cluster_and_separates():
    volume = two_clusters()
    volume[4, 2, 2] = np.nan
    assert clusters_table(as_map(volume), threshold=2.9)["size"].dropna().tolist() == [2, 2, 4]


def test_p_of_a_test_are_columns_and_other_clusters_are_refused():
    z = as_map(two_clusters())
    inside = xr.where(abs(z) >= 3, xr.where(z > 0, 0.02, 0.01), 1.0)
    p = xr.Dataset({"p_cluster_size": inside, "p_max_stat": 1 / (1 + abs(z)), "null_max_stat": ("permutation", [1.0])})
    table = clusters_table(z, threshold=3.0, min_distance=5.0, p=p)
    np.testing.assert_array_equal(table["p_cluster_size"], [0.02, np.nan, 0.01])
    np.testing.assert_allclose(table["p_max_stat"], [1 / 6, 1 / 5, 1 / 7])
    with pytest.raises(InputError, match="differs within a cluster"):
        clusters_table(z, threshold=0.5, p=p)
    with pytest.raises(InputError, match="voxels"):
        clusters_table(z, threshold=3.0, p=p.isel(voxel=slice(1, None)))
    with pytest.raises(InputError, match="no map of p"):
        clusters_table(z, threshold=3.0, p=p[["null_max_stat"]])


def test_tsv_is_the_table(tmp_path):
    table = clusters_table(as_map(two_clusters()), threshold=3.0, min_distance=5.0, path=tmp_path / "clusters.tsv")
    text = (tmp_path / "clusters.tsv").read_text()
    assert text.splitlines()[0] == "\t".join(COLUMNS)
    assert text.splitlines()[2].endswith("n/a\tn/a\tn/a")
    read = pd.read_csv(tmp_path / "clusters.tsv", sep="\t", na_values="n/a", dtype={"cluster_id": str, "size": "Int64"})
    pd.testing.assert_frame_equal(read, table)


@pytest.mark.parametrize("bad", [{"threshold": 0}, {"threshold": -3.0}, {"threshold": 3.0, "connectivity": 8}])
def test_bad_parameters(bad):
    with pytest.raises(InputError, match="wanted"):
        clusters_table(as_map(two_clusters()), **bad)


def test_several_maps_and_no_grid_are_refused():
    z = as_map(two_clusters())
    with pytest.raises(InputError, match="One map"):
        clusters_table(z.expand_dims(contrast=2), threshold=3.0)
    with pytest.raises(InputError, match="grid"):
        clusters_table(z.drop_vars("grid"), threshold=3.0)
    with pytest.raises(InputError, match="min_distance"):
        clusters_table(z, threshold=3.0, min_distance=0)


def blobs(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    volume = rng.standard_normal((14, 13, 12))
    volume[2:7, 2:6, 3:7] += 3.5
    volume[9:12, 8:11, 6:9] += 5
    return volume


@pytest.mark.parametrize("threshold", [2.0, 3.1, 4.5])
def test_positive_clusters_have_nilearns_proportions(threshold):
    volume = blobs()
    image = nib.Nifti1Image(volume, AFFINE)
    everywhere = nib.Nifti1Image(np.ones(volume.shape, np.uint8), AFFINE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = cluster_level_inference(image, everywhere, threshold=threshold, alpha=0.05).get_fdata()
    z = as_map(volume)
    found = true_discovery_proportion(z, threshold=threshold, connectivity=6, two_sided=False)
    np.testing.assert_allclose(found, expected.flat[z.voxel.values], atol=1e-12)
    assert 0 < found.max() <= 1


def test_several_thresholds_regions_and_the_table_agree():
    z = as_map(blobs())
    single = true_discovery_proportion(z, threshold=3.1)
    both = true_discovery_proportion(z, threshold=[2.5, 3.1])
    assert both.dims == ("threshold", "voxel")
    np.testing.assert_array_equal(both.sel(threshold=3.1), single)
    table = clusters_table(z, threshold=3.1, ari_alpha=0.05)
    first = table[table.true_discovery_proportion.notna()]
    at = [np.ravel_multi_index(ijk, (14, 13, 12)) for ijk in first[["i", "j", "k"]].to_numpy()]
    np.testing.assert_array_equal(single.sortby("voxel").values[at], first.true_discovery_proportion)
    # the voxels of one cluster, as a region under any number
    region = xr.where(single == single.max(), 7, 0)
    np.testing.assert_array_equal(true_discovery_proportion(z, regions=region), single.where(region == 7, 0.0))


def test_signs_share_one_family_and_nan_is_no_test():
    z = as_map(blobs())
    np.testing.assert_array_equal(
        true_discovery_proportion(-z, threshold=3.1), true_discovery_proportion(z, threshold=3.1)
    )
    holes = z.where(np.arange(z.size) % 7 > 0)
    found = true_discovery_proportion(holes, threshold=3.1)
    np.testing.assert_array_equal(found.isnull(), holes.isnull())
    bare = true_discovery_proportion(holes[holes.notnull()], threshold=3.1)
    np.testing.assert_array_equal(found[holes.notnull()], bare)


def test_in_null_maps_any_discovery_is_as_rare_as_alpha():
    z = as_map(np.zeros((6, 6, 6)))
    rng = np.random.default_rng(0)
    discovered = [
        float(true_discovery_proportion(z.copy(data=rng.standard_normal(216)), threshold=2.0, alpha=0.1).max()) > 0
        for _ in range(400)
    ]
    assert sum(discovered) <= stats.binom.ppf(0.999, 400, 0.1)
    assert sum(discovered) > 0


def test_bad_sets():
    z = as_map(blobs())
    for bad, message in [
        ({}, "one of the two"),
        ({"threshold": 3.0, "regions": z}, "one of the two"),
        ({"regions": z}, "whole numbers"),
        ({"regions": (z > 3).isel(voxel=slice(9))}, "voxels"),
        ({"threshold": 3.0, "alpha": 5}, "between 0 and 1"),
    ]:
        with pytest.raises(InputError, match=message):
            true_discovery_proportion(z, **bad)
