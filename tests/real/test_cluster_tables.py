"""Cluster tables of real maps against nilearn's."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from nilearn.reporting import get_clusters_table

import voxloom

#: Map and threshold; the pysurfer map is negative throughout.
MAPS = [("pysurfer_zstat", 6.0), ("spmMotor_T262", 5.0), ("image_10426_motor_z", 3.1)]


@pytest.mark.parametrize(("name", "threshold"), MAPS)
def test_clusters_sizes_and_peaks_are_nilearns(voxloom_data, name, threshold):
    """All local maxima are asked for; where several voxels share a value (saturation), their place is not compared.

    With a larger distance nilearn takes up again subpeaks that lie too near to one but far from another.
    """
    path = voxloom_data / "data/stat_maps_misc" / f"{name}.nii.gz"
    map = voxloom.from_nifti([path]).effect.isel(map=0, drop=True)
    found = voxloom.clusters_table(map, threshold=threshold, connectivity=6, min_distance=0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = get_clusters_table(str(path), threshold, two_sided=True, min_distance=0.1)
    np.testing.assert_allclose(found.peak, expected["Peak Stat"].astype(float), rtol=1e-6)
    sizes = expected["Cluster Size (mm3)"]
    np.testing.assert_array_equal(np.floor(found.size_mm3.dropna() + 1e-6), sizes[sizes != ""].astype(int))
    values, counts = np.unique(map, return_counts=True)
    single = np.isin(found.peak, values[counts == 1])
    assert single.sum() > 0.5 * len(found)
    np.testing.assert_array_equal(found[single][["x", "y", "z"]], expected[single][["X", "Y", "Z"]])


@pytest.mark.parametrize("contrast", [1, 2])
def test_the_largest_cluster_is_fsls(voxloom_data, contrast):
    """FSL's own table at z 2.3: 26 neighbours; it lists only clusters that are large enough for their p."""
    feat = voxloom_data / "data/fslpy_feat_realdata/1stlevel_realdata.feat"
    map = voxloom.from_nifti([feat / f"stats/zstat{contrast}.nii.gz"]).effect.isel(map=0, drop=True)
    table = pd.read_csv(feat / f"cluster_zstat{contrast}.txt", sep="\t").iloc[0]
    found = voxloom.clusters_table(map, threshold=2.3, two_sided=False)
    largest = found.loc[found["size"].astype(float).idxmax()]
    assert largest["size"] == table["Voxels"]
    assert largest.peak == pytest.approx(table["Z-MAX"], abs=0.006)
    assert largest[["i", "j", "k"]].tolist() == [table[f"Z-MAX {axis} (vox)"] for axis in "XYZ"]
