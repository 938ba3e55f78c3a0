"""Ten real contrast maps through the group model and all 2^10 sign flips, against plain enumeration."""

from __future__ import annotations

from itertools import product

import nibabel
import numpy as np
import pytest
from scipy import stats

import voxloom


@pytest.fixture(scope="module")
def maps(voxloom_data):
    image = nibabel.load(voxloom_data / "data/ds114_task2_con_10subj/all_con_task2.nii")
    data = np.asanyarray(image.dataobj)
    mask = (data != 0).all(axis=-1)
    mask[..., ::2] = False  # half the slices keep the brute force short
    return voxloom.from_nifti(image, mask=mask, dim="map")


def test_one_sample_t_equals_scipy(maps):
    fit = voxloom.fit_group(maps, None)
    found = voxloom.contrast(fit, "intercept")
    expected = stats.ttest_1samp(maps.effect.values.astype(float), 0, axis=maps.effect.get_axis_num("map"))
    np.testing.assert_allclose(found.stat, expected.statistic, rtol=1e-10)
    np.testing.assert_allclose(found.p_value, stats.t.sf(expected.statistic, 9), rtol=1e-9)


@pytest.mark.parametrize("two_sided", [True, False])
def test_exhaustive_flips_equal_brute_force(maps, two_sided):
    found = voxloom.permutation_test(maps, None, "intercept", n_perm=2**10, two_sided=two_sided)
    y = maps.effect.transpose("map", "voxel").values.astype(float)
    ss = (y**2).sum(axis=0)

    def t_of(signs: np.ndarray) -> np.ndarray:
        mean = signs @ y / 10
        return mean / np.sqrt((ss - 10 * mean**2) / 9 / 10)

    flips = np.array(list(product((1.0, -1.0), repeat=10)))
    null = np.array([np.abs(t).max() if two_sided else t.max() for t in map(t_of, flips)])
    observed = t_of(np.ones(10))
    size = np.abs(observed) if two_sided else observed
    tolerance = 1e-9  # flips come in ties, whose last bits differ
    p = np.array([np.count_nonzero(null >= s - tolerance) for s in size]) / len(null)

    assert found.sizes["permutation"] == 2**10
    np.testing.assert_allclose(found.stat, observed, rtol=1e-10)
    np.testing.assert_allclose(np.sort(found.null_max_stat), np.sort(null), rtol=1e-10)
    np.testing.assert_allclose(found.p_max_stat, p, rtol=0, atol=1e-12)
