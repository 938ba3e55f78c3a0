"""Neighbours and clusters against scipy's labelling and nilearn's measures, and laws of order and symmetry."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from nilearn.mass_univariate._utils import calculate_cluster_measures
from scipy import ndimage

from spatial_oracle import AXES_APART, cluster_values, labels
from voxloom.kernels.maps.clusters import cluster_maxima, find_clusters
from voxloom.kernels.maps.component_tree import NONE, grow, make_scratch
from voxloom.kernels.maps.neighbours import neighbourhood


def smooth_noise(shape, seed=0, sigma=1.0):
    return ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma) * 8


def around(mask, connectivity):
    return neighbourhood(np.flatnonzero(mask), mask.shape, connectivity)


@pytest.mark.parametrize("connectivity", [6, 18, 26])
def test_steps_lead_to_the_neighbours_and_nowhere_else(connectivity):
    mask = np.random.default_rng(0).random((4, 5, 3)) < 0.7
    near = around(mask, connectivity)
    assert len(near.steps) == connectivity
    ijk = np.argwhere(mask)
    index = {cell: v for v, cell in enumerate(near.cell.tolist())}
    apart = np.abs(ijk[:, np.newaxis] - ijk)
    wanted = (apart.max(axis=-1) == 1) & (apart.sum(axis=-1) <= AXES_APART[connectivity])
    got = np.zeros_like(wanted)
    for v, cell in enumerate(near.cell):
        got[v, [index[there] for there in (cell + near.steps).tolist() if there in index]] = True
        assert ((cell + near.steps >= 0) & (cell + near.steps < near.n_cells)).all()
    assert np.array_equal(got, wanted)


@given(st.integers(0, 2**32), st.sampled_from([-1.5, 0.0, 0.7, 5.0]), st.sampled_from([6, 18, 26]))
@example(seed=308, threshold=-1.5, connectivity=6)  # a cluster whose values cancel
@settings(deadline=None, max_examples=60)
def test_clusters_are_scipys(seed, threshold, connectivity):
    rng = np.random.default_rng(seed)
    volume, mask = np.round(rng.standard_normal((5, 4, 6)), 1), rng.random((5, 4, 6)) < 0.9
    masked = np.where(mask, volume, np.nan)
    wanted, extent = labels(masked, threshold, connectivity)
    got = find_clusters(volume[mask], threshold, around(mask, connectivity))
    pairs = set(zip(wanted[mask].tolist(), got.label.tolist()))
    assert len(pairs) == len(set(wanted[mask])) == len(set(got.label))  # one to one
    assert sorted(extent[1:]) == sorted(got.size)
    # values of both signs may cancel: what rounding leaves of a mass is as large as its summands ask for
    rounding = 1e-15 * np.abs(volume).sum()
    mass = cluster_values(masked, threshold, connectivity)[1]
    np.testing.assert_allclose(sorted(mass), sorted(got.mass), rtol=1e-12, atol=rounding)


def test_clusters_come_by_their_peaks():
    volume = smooth_noise((12, 12, 12))
    found = find_clusters(volume.ravel(), 1.0, around(np.ones(volume.shape, bool), 26))
    peaks = ndimage.maximum(volume.ravel(), found.label, np.arange(1, len(found.size) + 1))
    assert len(peaks) > 3
    assert (np.diff(peaks) < 0).all()


@pytest.mark.parametrize("two_sided", [False, True])
def test_one_sweep_finds_the_greatest_clusters_at_every_threshold(two_sided):
    volumes = [smooth_noise((9, 10, 11), seed) for seed in range(4)] + [np.zeros((9, 10, 11))]
    thresholds = np.array([2.0, 0.5, 1.0, 50.0])
    maxima = cluster_maxima(
        np.stack(volumes).reshape(5, -1), thresholds, around(np.ones((9, 10, 11), bool), 26), two_sided=two_sided
    )
    for b, volume in enumerate(volumes):
        for t, threshold in enumerate(thresholds):
            sides = (volume, -volume) if two_sided else (volume,)
            sizes, masses = map(np.concatenate, zip(*(cluster_values(side, threshold, 26) for side in sides)))
            assert maxima.size[b, t] == sizes.max(initial=0)
            assert maxima.mass[b, t] == pytest.approx(masses.max(initial=0), rel=1e-13)
    assert maxima.size[0, 0] < maxima.size[0, 1]
    assert not maxima.size[:, 3].any()


def test_the_greatest_masses_are_those_of_the_clusters_to_the_last_bit():
    volume = smooth_noise((12, 12, 12)).ravel()
    near = around(np.ones((12, 12, 12), bool), 26)
    maxima = cluster_maxima(volume[np.newaxis], np.array([0.5, 1.0]), near)
    for t, threshold in enumerate((0.5, 1.0)):
        assert maxima.mass[0, t] == find_clusters(volume, threshold, near).mass.max()


def test_the_order_of_voxels_and_of_axes_changes_no_bit():
    volume = np.round(smooth_noise((9, 8, 7)), 1)
    near = around(np.ones(volume.shape, bool), 18)
    wanted = cluster_maxima(volume.reshape(1, -1), np.array([0.4]), near)
    for turned in (np.flip(volume), volume.transpose(1, 2, 0)):
        flat = np.ascontiguousarray(turned).reshape(1, -1)
        got = cluster_maxima(flat, np.array([0.4]), around(np.ones(turned.shape, bool), 18))
        assert np.array_equal(got.size, wanted.size)
        assert np.array_equal(got.mass, wanted.mass)
    voxel = np.random.default_rng(0).permutation(volume.size)
    shuffled = find_clusters(volume.ravel()[voxel], 0.4, neighbourhood(voxel, volume.shape, 18))
    assert np.array_equal(shuffled.label > 0, volume.ravel()[voxel] >= 0.4)
    assert shuffled.mass.max() == wanted.mass[0, 0]


def test_masses_above_the_threshold_are_nilearns():
    volume = smooth_noise((12, 12, 12))
    size, mass = calculate_cluster_measures(volume[..., np.newaxis], 1.0, ndimage.generate_binary_structure(3, 1))
    found = find_clusters(volume.ravel(), 1.0, around(np.ones(volume.shape, bool), 6))
    assert found.size.max() == size[0]
    assert (found.mass - 1.0 * found.size).max() == pytest.approx(mass[0], rel=1e-12)


def test_infinite_values_are_in_and_nan_are_out():
    values = np.array([np.inf, np.nan, 3.0, 3.0, -np.inf])
    found = find_clusters(values, 1.0, neighbourhood(np.arange(5), (1, 1, 5), 6))
    assert found.label.tolist() == [1, 0, 2, 2, 0]
    assert found.mass.tolist() == [np.inf, 6.0]


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_a_tree_descends_from_every_voxel_through_ever_larger_components(seed):
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(120) * 10.0 ** rng.integers(-300, 300, 120)  # all digits of the sort
    near = neighbourhood(np.arange(120), (4, 5, 6), 6)
    tree = grow(values, -np.inf, near.cell, near.steps, make_scratch(120, near.n_cells))
    assert np.array_equal(values[tree.voxel], np.sort(values)[::-1])
    inner = tree.parent != NONE
    assert (tree.parent[inner] > np.flatnonzero(inner)).all()
    assert (tree.extent[tree.parent[inner]] > tree.extent[inner]).all()
    assert tree.extent[~inner].tolist() == [120]
