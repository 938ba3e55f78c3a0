"""False positives of group models in null data, as `benchmarks/bench_group_calibration.py` measures them."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.bench_group_calibration import LEVELS, SCENES, measure

#: Estimators whose assumptions hold, by scene.
HOLDS = {
    "one sample, n = 16": ("ols", "sandwich"),
    "unequal variances, 10 and 30": ("unequal-variances",),
    "covariate of 12 sites": ("random-intercept",),
    "groups of people seen twice": ("sandwich", "sandwich-homogeneous", "random-intercept"),
    "15 studies with known variances": ("ols", "paule-mandel", "reml"),
}
#: Those that are known not to hold, and by how much at least at p < .05.
FAILS = {
    "unequal variances, 10 and 30": ("ols", 2.0),
    "covariate of 12 sites": ("ols", 1.8),
    "groups of people seen twice": ("ols", 1.8),
    "15 studies with known variances": ("fixed", 1.5),
}


def test_the_parts_of_the_benchmark_fit_together():
    for make in SCENES.values():
        scene = make()
        found = measure(scene, 50)
        assert set(found) == set(scene.estimators)


@pytest.mark.slow
@pytest.mark.parametrize("title", SCENES)
def test_false_positives_are_nominal_where_the_model_holds(title):
    n = 20_000
    found = measure(SCENES[title](), n, seed=3)
    for name in HOLDS[title]:
        for level, rate in zip(LEVELS, found[name]):
            # 1.25: the approximate degrees of freedom, on top of four standard errors
            assert rate < 1.25 * level + 4 * np.sqrt(level / n), (name, level, rate)
            if level == 0.05:
                assert rate > 0.6 * level, (name, rate)
    if title in FAILS:
        name, least = FAILS[title]
        assert found[name][1] > least * 0.05
