"""Family-wise error of spatial statistics on smooth null maps: what they promise, and what it is without blocks."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage, stats

from voxloom import TFCE, ClusterMass, ClusterSize, Exchangeability
from voxloom.models.inference.null_p import counted_p
from voxloom.models.inference.permutation import observed_stat, prepare_test
from voxloom.models.inference.spatial import SpatialTest, null_spatial, observed_spatial
from voxloom.spec import by_result_name

SHAPE, N_SIMS, N_PERM = (8, 8, 6), 3_000, 100
N_VOXELS = int(np.prod(SHAPE))
STATISTICS = by_result_name([ClusterSize(threshold=0.05), ClusterMass(threshold=0.01, connectivity=6), TFCE()])


def smooth_noise(rng: np.random.Generator, n: int) -> np.ndarray:
    """Maps (n, V) with heavy tails, the same in distribution at -Y."""
    noise = rng.standard_t(5, (n, *SHAPE))
    return ndimage.gaussian_filter(noise, (0, 0.8, 0.8, 0.8)).reshape(n, N_VOXELS)


def mean(rng):
    return smooth_noise(rng, 12), pd.DataFrame({"m": np.ones(12)}), "m", Exchangeability()


def covariate(rng):
    age, noise = np.random.default_rng(1).gamma(2.0, size=14), smooth_noise(rng, 14)
    design = pd.DataFrame({"a": np.arange(14) < 6, "b": np.arange(14) >= 6, "age": age}).astype(float)
    return noise + 3 * age[:, np.newaxis] + 5, design, "a - b", Exchangeability()


def visits(rng, blocks=True):
    """Two visits of each subject, alike in what the subject is; the question is between subjects."""
    subject = np.repeat(np.arange(14), 2)
    patient = (subject < 7).astype(float)
    maps = smooth_noise(rng, 28) + 2 * smooth_noise(rng, 14)[subject]
    design = pd.DataFrame({"patient": patient, "control": 1 - patient, "visit": np.tile([1.0, -1.0], 14)})
    return maps, design, "patient - control", Exchangeability(blocks={"whole": subject} if blocks else None)


def false_positives(case, *, two_sided: bool, n_sims: int, **options) -> dict[str, int]:
    """Number of null data sets with any p <= 0.05, by statistic."""
    rng, found = np.random.default_rng(5), dict.fromkeys(STATISTICS, 0)
    for seed in range(n_sims):
        Y, design, contrast, exchangeability = case(rng, **options)
        test = prepare_test(
            design, contrast, n_perm=N_PERM, exchangeability=exchangeability, two_sided=two_sided, seed=seed
        )
        spatial = SpatialTest(test, STATISTICS, np.arange(N_VOXELS), SHAPE)
        null = null_spatial(spatial, Y)
        for name, values in observed_spatial(spatial, observed_stat(test, Y)).items():
            found[name] += counted_p(np.abs(values), null[name]).min() <= 0.05
    return found


@pytest.mark.slow
@pytest.mark.parametrize("two_sided", [False, True])
@pytest.mark.parametrize("case", [mean, covariate, visits])
def test_null_calibration(case, two_sided):
    for name, count in false_positives(case, two_sided=two_sided, n_sims=N_SIMS).items():
        # extents tie, which makes a test of them no more than 0.05
        assert count / N_SIMS > 0.035, f"{name}: family-wise error {count / N_SIMS:.4f}"
        greater = stats.binomtest(count, N_SIMS, 0.05, alternative="greater").pvalue
        assert greater > 0.005, f"{name}: family-wise error {count / N_SIMS:.4f}"


@pytest.mark.slow
def test_without_blocks_repeated_visits_are_false_positives():
    for name, count in false_positives(visits, two_sided=True, n_sims=300, blocks=False).items():
        assert count / 300 > 0.2, f"{name}: family-wise error {count / 300:.3f}"
