"""False positives in null data where the noise model holds, as `benchmarks/bench_calibration.py` measures them."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks._null_data import LEVELS, NOISES, SCENES, Scene, draw, passing
from benchmarks.bench_calibration import MODELS, rates
from scipy.stats import t

INSIDE = [
    *(("white", model) for model in ("ols", "ar1", "ar4")),
    *(("AR(1)", model) for model in ("ar1", "ar2", "ar4")),
    *(("AR(2)", model) for model in ("ar2", "ar4")),
    ("AR(1) + white", "arma11"),
]


@pytest.mark.parametrize("name", NOISES)
def test_null_noise_has_the_correlations_it_names(name):
    Y = draw(Scene(2.0, 200, 4), "block", name, 3000, 0).Y
    found = [np.mean(Y[k:] * Y[: len(Y) - k]) / np.mean(Y**2) for k in (1, 2)]
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


@pytest.mark.parametrize("scrubbed", [0.0, 0.2])
@pytest.mark.parametrize("model", ["ols", "ar1", "nilearn ar1"])
def test_chances_given_the_residuals_add_up_to_the_share_that_passes(model, scrubbed):
    """60,000 tests against the mean of their chances, within four standard errors of the former."""
    of = draw(Scene(3.0, 60, 4, scrubbed), "block", "AR(1)", 20_000, 1)
    found = MODELS[model](of)
    p = 2 * t.sf(np.abs(found.effect) / np.sqrt(found.variance), found.dof)
    for level, chance in zip(LEVELS, passing(found, of).mean(axis=1)):
        share = (p < level).mean(axis=0)
        assert abs(share.mean() - chance) < 4 * share.std() / np.sqrt(share.size)


def test_the_parts_of_the_benchmark_fit_together():
    found = rates(Scene(3, 60, 4), "events", "AR(1)", tuple(MODELS), 150, 2)
    assert found["nilearn ar1"]["05"] > 1.1
    assert all(0.7 < found[model]["05"] < 1.3 for model in ("ar1", "ar2", "ar4", "arma11"))
    assert all(0 < found[model]["05 se"] < 0.2 for model in MODELS)


@pytest.mark.slow
@pytest.mark.parametrize("scene", ["TR 3, 6 confounds", "TR 2, 24"])
@pytest.mark.parametrize("kind", ["block", "events"])
@pytest.mark.parametrize(("noise", "model"), INSIDE)
def test_false_positives_hold_inside_the_model(noise, model, kind, scene):
    """400 voxels in 8 draws of the design: standard errors up to 0.06 at p < .001 and 0.01 at p < .05."""
    found = rates(SCENES[scene], kind, noise, (model,), 400, 8)[model]
    assert found["001"] < 1.5
    assert found["05"] < 1.1
