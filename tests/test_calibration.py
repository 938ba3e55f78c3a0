"""False positives in null data where the noise model holds, as `benchmarks/bench_calibration.py` measures them."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.bench_calibration import NOISES, SCENES, Scene, measure

INSIDE = [("white", "ols"), ("AR(1)", "ar1"), ("AR(2)", "ar2"), ("AR(1) + white", "arma11")]


@pytest.mark.parametrize("name", NOISES)
def test_null_noise_has_the_correlations_it_names(name):
    T, n = 200, 3000
    Y = NOISES[name](np.random.default_rng(0), 2.0, (T, n))
    found = [np.mean(Y[k:] * Y[: T - k]) / np.mean(Y**2) for k in (1, 2)]
    red, slow = np.exp(-2 / np.array([3, 40]))
    expected = {
        "white": (0, 0),
        "AR(1)": (red, red**2),
        "AR(1) + white": (np.exp(-0.2) / 2, np.exp(-0.4) / 2),
        "AR(2)": (0.5 / 0.8, 0.5**2 / 0.8 + 0.2),
        "1/f": ((red + slow) / 3, (red**2 + slow**2) / 3),
    }[name]
    np.testing.assert_allclose(found, expected, atol=0.01)
    assert abs(np.mean(Y[0] ** 2) / np.mean(Y**2) - 1) < 0.1  # stationary from the first scan


def test_the_parts_of_the_benchmark_fit_together():
    found = measure(Scene(3, 60, 4), "events", "AR(1)", 400)
    assert found["nilearn ar1"]["05"] > 0.9
    assert all(0.5 < found[model]["05"] < 1.6 for model in ("ar1", "ar2", "ar4", "arma11"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["block", "events"])
@pytest.mark.parametrize(("noise", "model"), INSIDE)
def test_false_positives_hold_inside_the_model(noise, model, kind):
    """20,000 voxels, three contrasts: standard errors 0.15 at p < .001 and 0.03 at p < .05."""
    found = measure(SCENES["TR 2, 24"], kind, noise, 20_000, (model,))[model]
    assert found["001"] < 2.0
    assert found["05"] < 1.16
