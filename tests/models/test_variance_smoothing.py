"""Pseudo-t of rearranged maps against refits whose variance maps are smoothed by scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from voxloom.errors import InputError
from voxloom.kernels.permutation.nuisance import NUISANCE
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import observed_stat, prepare_test, rearranged_stat, sweep
from voxloom.models.inference.prepared_test import with_smoothed_variance
from voxloom.schema import Grid

SHAPE, SIZES, N = (13, 12, 11), (2.0, 2.5, 3.0), 14
GRID = Grid.of(SHAPE, np.diag([*SIZES, 1.0]))
#: A ball in the middle of the volume, out of reach of its faces.
BALL = sum((np.indices(SHAPE)[k] - SHAPE[k] // 2) ** 2 for k in range(3)) <= 9
VOXEL = np.flatnonzero(BALL)
DESIGN = pd.DataFrame({"one": 1.0, "age": np.random.default_rng(5).standard_normal(N)})


def maps() -> np.ndarray:
    rng = np.random.default_rng(0)
    return 5 + rng.standard_normal((N, VOXEL.size)) * rng.uniform(0.5, 20, VOXEL.size)


def smooth(variance: np.ndarray, tested: np.ndarray, fwhm: float) -> np.ndarray:
    sigma = [fwhm / np.sqrt(8 * np.log(2)) / size for size in SIZES]
    inside, volume = np.zeros(SHAPE), np.zeros(SHAPE)
    inside.flat[VOXEL[tested]], volume.flat[VOXEL[tested]] = 1.0, variance
    ratio = ndimage.gaussian_filter(volume, sigma, mode="constant") / ndimage.gaussian_filter(
        inside + 1e-300, sigma, mode="constant"
    )
    return ratio.flat[VOXEL[tested]]


def refitted(Y: np.ndarray, index: np.ndarray, tested: np.ndarray, fwhm: float) -> np.ndarray:
    """Effect of age over the root of its smoothed variance, residuals of the constant rearranged."""
    M, mean = DESIGN.to_numpy(), Y.mean(axis=0)
    rearranged = np.empty_like(Y)
    rearranged[np.abs(index) - 1] = np.sign(index)[:, None] * (Y - mean)
    b, rss, *_ = np.linalg.lstsq(M, rearranged + mean, rcond=None)
    variance = rss / (N - 2) * np.linalg.inv(M.T @ M)[1, 1]
    return b[1] / np.sqrt(smooth(variance, tested, fwhm))


@pytest.mark.parametrize("scheme", ["permute", "flip"])
def test_every_number_is_that_of_a_refit_with_its_variance_smoothed(scheme):
    Y, fwhm = maps(), 6.0
    Y[:, 7], Y[3, 20] = 1.0, np.nan
    tested = np.delete(np.arange(VOXEL.size), [7, 20])
    test = prepare_test(DESIGN, "age", n_perm=70, exchangeability=Exchangeability(scheme=scheme), seed=2)
    smoothed = with_smoothed_variance(test, fwhm, VOXEL, GRID)
    stat = rearranged_stat(smoothed, Y)
    expected = [refitted(Y[:, tested], index, tested, fwhm) for index in test.rearrangements.draw(0, 70)]
    np.testing.assert_allclose(stat[:, tested], expected, rtol=1e-9)
    assert np.isnan(stat[:, [7, 20]]).all()
    np.testing.assert_allclose(observed_stat(smoothed, Y), stat[0], rtol=1e-12)
    np.testing.assert_array_equal(rearranged_stat(smoothed, Y, start=5, stop=50), stat[5:50])
    swept = sweep(smoothed, Y, stat[0], start=5, stop=50)
    np.testing.assert_array_equal(swept.maxima, np.nanmax(np.abs(stat[5:50]), axis=1))
    np.testing.assert_array_equal(swept.reached, (np.abs(stat[5:50]) >= np.abs(stat[0])).sum(axis=0))


def test_of_one_sample_flips_it_is_the_mean_over_the_smoothed_error():
    Y, fwhm = maps(), 5.0
    test = prepare_test(DESIGN[["one"]], "one", n_perm=40)
    stat = rearranged_stat(with_smoothed_variance(test, fwhm, VOXEL, GRID), Y)
    for index, found in zip(test.rearrangements.draw(0, 40), stat):
        flipped = np.sign(index)[:, None] * Y
        variance = smooth(flipped.var(axis=0, ddof=1) / N, np.arange(VOXEL.size), fwhm)
        np.testing.assert_allclose(found, flipped.mean(axis=0) / np.sqrt(variance), rtol=1e-9)


@pytest.mark.parametrize("nuisance", NUISANCE)
def test_without_neighbours_in_reach_it_is_t_by_every_treatment_of_the_nuisance(nuisance):
    test = prepare_test(DESIGN, "age", n_perm=33, nuisance=nuisance)
    smoothed = with_smoothed_variance(test, 0.1, VOXEL, GRID)
    np.testing.assert_allclose(rearranged_stat(smoothed, maps()), rearranged_stat(test, maps()), rtol=1e-8)
    np.testing.assert_allclose(observed_stat(smoothed, maps()), observed_stat(test, maps()), rtol=1e-8)


def test_f_and_no_width_are_refused():
    test = prepare_test(DESIGN, "age", n_perm=33)
    with pytest.raises(InputError, match="A width in mm"):
        with_smoothed_variance(test, 0.0, VOXEL, GRID)
    test = prepare_test(DESIGN, np.eye(2), n_perm=33)
    with pytest.raises(InputError, match="one of F"):
        with_smoothed_variance(test, 5.0, VOXEL, GRID)
