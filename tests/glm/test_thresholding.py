"""Thresholds by nilearn's names against nilearn on a smooth map of noise with blobs."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
from nilearn.glm import cluster_level_inference as nilearn_ari
from nilearn.glm import fdr_threshold as nilearn_fdr
from nilearn.glm import threshold_stats_img as nilearn_threshold
from scipy.ndimage import gaussian_filter

from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm import cluster_level_inference, fdr_threshold, threshold_stats_img

SHAPE = (14, 15, 13)


@pytest.fixture(scope="module")
def z():
    data = gaussian_filter(np.random.default_rng(1).standard_normal(SHAPE), 1.2)
    data /= data.std()
    data[3:7, 3:7, 3:7] += 4
    data[9:12, 9:12, 9:12] -= 4
    return nibabel.Nifti1Image(data, np.diag([2, 2, 2, 1]))


@pytest.fixture(scope="module")
def mask():
    inside = np.zeros(SHAPE, np.uint8)
    inside[1:-1, 1:-1, 1:-1] = 1
    return nibabel.Nifti1Image(inside, np.diag([2, 2, 2, 1]))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("size", [0, 20])
@pytest.mark.parametrize(
    ("control", "alpha", "threshold"),
    [("fpr", 0.001, None), ("fdr", 0.05, None), ("bonferroni", 0.05, None), (None, 0.5, 2.5), (None, 0.5, None)],
)
def test_equal_to_nilearn(z, mask, control, alpha, threshold, size, two_sided):
    args = {"alpha": alpha, "threshold": threshold, "cluster_threshold": size, "two_sided": two_sided}
    found, cut = threshold_stats_img(z, mask, height_control=control, **args)
    expected, nilearn_cut = nilearn_threshold(z, mask, height_control=control, **args)
    assert cut == pytest.approx(nilearn_cut, abs=1e-9)
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), rtol=1e-6)


def test_fwe_says_how_it_was_made(z, mask):
    null = np.random.default_rng(2).gumbel(3.5, 0.3, 1000)
    _, cut = threshold_stats_img(z, mask, alpha=0.05, height_control="fwe", null=null)
    assert cut.height_control == "permutation"
    assert np.mean(null >= cut) <= 0.05 < np.mean(null >= np.sort(null)[-51])
    image, cut = threshold_stats_img(z, mask, alpha=0.05, height_control="fwe")
    assert cut.height_control == "Bonferroni"
    expected, _ = threshold_stats_img(z, mask, alpha=0.05, height_control="bonferroni")
    np.testing.assert_array_equal(image.get_fdata(), expected.get_fdata())


def test_a_null_that_nothing_beats_leaves_nothing(z, mask):
    image, cut = threshold_stats_img(z, mask, alpha=0.01, height_control="fwe", null=np.arange(50.0))
    assert cut > 49
    assert not image.get_fdata().any()


def test_without_an_image_the_threshold_alone():
    image, cut = threshold_stats_img(alpha=0.05, two_sided=False)
    assert image is None
    assert cut == pytest.approx(1.6448536269514722)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("threshold", [3.0, [2.0, 3.5]])
def test_true_discoveries_are_nilearns(z, mask, threshold):
    found = cluster_level_inference(z, mask, threshold=threshold, alpha=0.05)
    expected = nilearn_ari(z, mask, threshold=threshold, alpha=0.05)
    np.testing.assert_allclose(found.get_fdata(), expected.get_fdata(), atol=1e-6)


def test_fdr_threshold_is_nilearns(z):
    values = z.get_fdata().ravel()
    assert fdr_threshold(values, 0.05) == pytest.approx(nilearn_fdr(values, 0.05), abs=1e-9)
    assert fdr_threshold(np.zeros(10), 0.05) == np.inf


def test_wrong_use_is_told(z, mask):
    with pytest.raises(InputError, match=r"Accepted: .*'fdr'.*'fwe'"):
        threshold_stats_img(z, height_control="fwer")
    with pytest.raises(InputError, match="is needed for height_control='fdr'"):
        threshold_stats_img(height_control="fdr")
    with pytest.raises(InputError, match=r"cluster_threshold.*0 or more"):
        threshold_stats_img(z, cluster_threshold=-1)
    for wrong in (-2, "95%"):
        with pytest.raises(InputError, match=r"threshold.*A height of z"):
            threshold_stats_img(z, height_control=None, threshold=wrong)
    with pytest.raises(InputError, match="has 2 volumes"):
        threshold_stats_img(nibabel.Nifti1Image(np.ones((*SHAPE, 2)), z.affine))
    with pytest.raises(InputError, match="is 5"):
        threshold_stats_img(z, alpha=5)
    with pytest.raises(InputError, match="negative"):
        cluster_level_inference(z, mask, threshold=[-1, 2])
    with pytest.warns(VoxloomWarning, match="is not used with height_control='fpr'"):
        threshold_stats_img(z, mask, threshold=2.0)
