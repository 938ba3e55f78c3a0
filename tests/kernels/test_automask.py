from __future__ import annotations

import numpy as np
import pytest

from voxloom.kernels.volumes.automask import compute_brain_mask, otsu_threshold


def ball(shape: tuple[int, int, int], radius: float) -> np.ndarray:
    grid = np.indices(shape) - (np.array(shape)[:, None, None, None] - 1) / 2
    return (grid**2).sum(axis=0) < radius**2


def test_otsu_equals_the_exhaustive_search():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(10, 2, 400), rng.normal(60, 5, 300)])

    def within(threshold: float) -> float:
        low, high = values[values <= threshold], values[values > threshold]
        return (low.size * low.var() + high.size * high.var()) / values.size

    candidates = np.linspace(values.min(), values.max(), 2000)[1:-1]
    best = min(within(t) for t in candidates)
    assert within(otsu_threshold(values)) == pytest.approx(best, rel=1e-2)


def test_bright_ball_in_noise_is_found():
    rng = np.random.default_rng(1)
    brain = ball((24, 26, 22), 8)
    hollow = brain & ~ball((24, 26, 22), 3)  # the ventricle is dark, and belongs to the mask
    volume = np.abs(rng.normal(0, 40, brain.shape)) + 1 + 1000 * hollow
    volume[0, 0, 0] = 5000  # a spike outside the brain does not
    mask = compute_brain_mask(volume)
    dice = 2 * (mask & brain).sum() / (mask.sum() + brain.sum())
    assert dice > 0.98
    assert not mask[0, 0, 0]


def test_masked_volume_keeps_exactly_its_voxels():
    brain = ball((12, 12, 12), 4)
    volume = np.where(brain, np.random.default_rng(2).normal(100, 30, brain.shape), 0.0)
    np.testing.assert_array_equal(compute_brain_mask(volume), brain)
