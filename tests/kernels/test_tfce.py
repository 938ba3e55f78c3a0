"""TFCE against direct integration, closed forms, laws of scale and symmetry, and nilearn."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.mass_univariate._utils import calculate_tfce
from scipy import ndimage

from spatial_oracle import AXES_APART, stepped_tfce, tfce
from voxloom.kernels.maps.neighbours import neighbourhood
from voxloom.kernels.maps.tfce import tfce_maxima, tfce_scores

PARAMETERS = [(0.5, 2.0, 6), (1.0, 0.0, 18), (0.3, 1.7, 26), (0.0, 1.0, 26)]


def score(volume, mask=None, connectivity=6, **options):
    mask = np.ones(volume.shape, bool) if mask is None else mask
    around = neighbourhood(np.flatnonzero(mask), mask.shape, connectivity)
    out = np.zeros(volume.shape)
    out[mask] = tfce_scores(volume[mask][np.newaxis], around, **options)[0]
    return out


def smooth_noise(shape, seed=0, sigma=1.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma) * 8


@st.composite
def volumes(draw):
    """Small volumes with holes: of any values, or of few values so that many are equal."""
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    volume = rng.standard_normal(shape)
    volume = draw(st.sampled_from([volume, np.round(volume), np.abs(volume)]))
    return volume, rng.random(shape) < draw(st.sampled_from([0.6, 1.0]))


@given(volumes(), st.sampled_from(PARAMETERS))
@settings(deadline=None, max_examples=60)
def test_scores_are_the_integral_over_heights(case, parameters):
    (volume, mask), (E, H, connectivity) = case, parameters
    wanted = tfce(np.where(mask, volume, np.nan), E, H, connectivity)
    np.testing.assert_allclose(score(volume, mask, connectivity, E=E, H=H), wanted, rtol=1e-13, atol=1e-15)


@given(volumes(), st.sampled_from(PARAMETERS), st.integers(1, 30))
@settings(deadline=None, max_examples=60)
def test_stepped_scores_are_the_sum_over_steps(case, parameters, steps):
    (volume, mask), (E, H, connectivity) = case, parameters
    masked = np.where(mask, volume, np.nan)
    if not (masked > 0).any():
        return
    wanted = stepped_tfce(masked, E, H, connectivity, steps, np.nanmax(masked))
    np.testing.assert_allclose(score(volume, mask, connectivity, E=E, H=H, steps=steps), wanted, rtol=1e-12, atol=1e-15)


def test_a_single_voxel_has_a_third_of_its_cube():
    volume = np.zeros((3, 3, 3))
    volume[1, 1, 1] = 4.2
    assert score(volume)[1, 1, 1] == pytest.approx(4.2**3 / 3, rel=1e-15)


def test_a_tower_on_a_plateau_adds_the_plateaus_share():
    volume = np.zeros((12, 12, 12))
    volume[1:11, 1:11, 1:11] = 2.0  # 1000 voxels
    volume[3:5, 3:5, 3:5] = 5.0  # 8 of them
    plateau = np.sqrt(1000) * 8 / 3
    got = score(volume)
    np.testing.assert_allclose(got[8, 8, 8], plateau, rtol=1e-14)
    np.testing.assert_allclose(got[3, 3, 3], plateau + np.sqrt(8) * (125 - 8) / 3, rtol=1e-14)


@pytest.mark.parametrize(("E", "H"), [(0.5, 2.0), (1.0, 0.5)])
@pytest.mark.parametrize("steps", [None, 50])
def test_a_map_times_c_has_scores_times_c_to_the_h_plus_1(E, H, steps):
    volume = smooth_noise((12, 13, 14))
    once, thrice = (score(factor * volume, E=E, H=H, steps=steps) for factor in (1.0, 3.0))
    np.testing.assert_allclose(thrice, 3 ** (H + 1) * once, rtol=1e-12)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_flips_turns_and_the_order_of_voxels_change_no_bit(connectivity):
    volume = np.round(smooth_noise((9, 8, 7)), 1)  # with ties
    mask = np.random.default_rng(1).random(volume.shape) < 0.9
    wanted = score(volume, mask, connectivity)
    for turn in (np.flip, lambda a: a.transpose(2, 0, 1), lambda a: a[::-1, :, ::-1]):
        assert np.array_equal(score(turn(volume), turn(mask), connectivity), turn(wanted))
    voxel = np.random.default_rng(2).permutation(np.flatnonzero(mask))
    shuffled = tfce_scores(volume.ravel()[voxel][np.newaxis], neighbourhood(voxel, mask.shape, connectivity))
    assert np.array_equal(shuffled[0], wanted.ravel()[voxel])


def test_signs_are_apart_and_mirror_each_other():
    volume = smooth_noise((9, 8, 7))
    both = score(volume, two_sided=True)
    assert np.array_equal(both, score(volume) - score(-volume))
    assert np.array_equal(score(-volume, two_sided=True), -both)


def test_more_steps_come_nearer_to_the_integral():
    volume = smooth_noise((16, 16, 16))
    exact = score(volume)
    error = [abs(score(volume, steps=n) - exact).max() / exact.max() for n in (10, 100, 1_000, 10_000)]
    assert error[0] > 0.01
    assert all(b < a / 5 for a, b in pairwise(error))
    assert error[-1] < 2e-4


def test_maxima_are_those_of_the_scores_to_the_last_bit():
    volumes = np.stack([smooth_noise((9, 8, 7), seed) for seed in range(5)] + [np.full((9, 8, 7), -1.0)])
    values, around = volumes.reshape(6, -1), neighbourhood(np.arange(9 * 8 * 7), (9, 8, 7), 6)
    for options in ({}, {"two_sided": True}, {"steps": 100, "two_sided": True}):
        scores = tfce_scores(values, around, **options)
        assert np.array_equal(tfce_maxima(values, around, **options), abs(scores).max(axis=1))
        assert np.array_equal(tfce_maxima(values[2:3], around, **options), abs(scores[2:3]).max(axis=1))


def test_infinite_values_have_infinite_scores_and_leave_the_others_theirs():
    volume = smooth_noise((6, 6, 6))
    high = volume.copy()
    volume[2, 2, 2:4], high[2, 2, 2:4] = np.inf, 50.0
    got, wanted = score(volume), score(high)
    assert np.isinf(got[2, 2, 2:4]).all()
    others = np.isfinite(volume)
    np.testing.assert_allclose(got[others], wanted[others], rtol=1e-14)


def test_nan_zeros_and_negative_values_have_no_score():
    volume = smooth_noise((6, 6, 6))
    volume[::2] = np.nan
    got = score(volume)
    np.testing.assert_allclose(got, tfce(volume, 0.5, 2.0, 6), rtol=1e-14)
    assert not got[np.isnan(volume) | (volume <= 0)].any()
    for steps in (None, 100):
        assert not score(np.zeros((3, 3, 3)), steps=steps).any()
        assert not score(np.full((3, 3, 3), np.nan), steps=steps).any()


def test_no_voxels_have_no_scores():
    around = neighbourhood(np.empty(0, np.int64), (3, 3, 3), 6)
    assert tfce_scores(np.empty((2, 0)), around).shape == (2, 0)
    assert tfce_maxima(np.empty((2, 0)), around).tolist() == [0, 0]


@pytest.mark.parametrize("connectivity", [6, 26])
def test_steps_without_their_width_are_nilearns(connectivity):
    volume = smooth_noise((14, 15, 13))
    dh = abs(volume).max() / 100
    structure = ndimage.generate_binary_structure(3, AXES_APART[connectivity])
    wanted = calculate_tfce(volume[..., np.newaxis], structure)[..., 0]
    np.testing.assert_allclose(
        score(volume, connectivity=connectivity, steps=100, two_sided=True) / dh, wanted, rtol=1e-9
    )
