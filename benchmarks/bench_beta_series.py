"""Single-trial estimates (LSS) of 45,768 voxels against a refit for every trial, with the same fit and with nilearn.

The signal lies voxel by voxel in memory. A refit is one call of `fit_ols`, or of nilearn's `run_glm`, per trial on a
design that is ready; `weighted_sums` has its weights made in the time that counts. Refits take long, so they are
measured on the first trials and counted for all: their cost does not depend on the trial.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from nilearn.glm.first_level import run_glm

from benchmarks._harness import one_thread, paired
from voxloom.kernels.first_level.glm import fit_ols
from voxloom.kernels.first_level.trials import lss_weights, weighted_sums

VOXELS = 45_768
#: Trials whose refits are measured.
MEASURED = 4


class Case(NamedTuple):
    """Volumes, trials (of two conditions), and regressors of no interest."""

    T: int
    trials: int
    nuisance: int


CASES = {"T200_n60_K20": Case(200, 60, 20), "T400_n120_K40": Case(400, 120, 40)}


def run(repeats: int = 5) -> dict[str, Any]:
    """Ratios of medians, and the largest difference between both ways over the largest estimate."""
    with one_thread():
        return {name: _measure(case, repeats) for name, case in CASES.items()}


def _measure(case: Case, repeats: int) -> dict[str, Any]:
    trials, condition, nuisance, Y = _data(case)
    designs = [_design(trials, condition, nuisance, i) for i in range(MEASURED)]

    def series() -> np.ndarray:
        return weighted_sums(lss_weights(trials, trials, condition, nuisance), Y)

    def refits() -> list[np.ndarray]:
        return [fit_ols(X, Y).beta[0] for X in designs]

    def nilearn() -> None:
        for X in designs:
            run_glm(Y, X, noise_model="ols")

    expected = np.array(refits())
    results: dict[str, Any] = {
        "max_difference": float(np.abs(series()[:MEASURED] - expected).max() / np.abs(expected).max())
    }
    for name, other in (("refits", refits), ("nilearn", nilearn)):
        pair = paired(series, other, repeats=repeats)
        results[f"cpu_of_all_{name}_over_ours"] = pair["ratio_b_over_a"]["cpu"]["median"] * case.trials / MEASURED
        results[f"{MEASURED}_{name}"] = pair
    return results


def _design(trials: np.ndarray, condition: np.ndarray, nuisance: np.ndarray, i: int) -> np.ndarray:
    """The design of trial i: the trial, the others of each condition, nuisance."""
    rest = np.arange(len(trials)) != i
    others = [trials[rest & (condition == code)].sum(axis=0) for code in np.unique(condition)]
    return np.hstack([trials[i], *others, nuisance])


def _data(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    T, n, K = case
    onset, seconds = np.linspace(0, T - 10, n), np.arange(T)
    lag = np.maximum(seconds - onset[:, None], 0)
    trials = (lag**5 * np.exp(-lag))[:, :, None]
    walks = rng.standard_normal((T, K - 1)).cumsum(axis=0)
    Y = np.asfortranarray(1000 + 10 * rng.standard_normal((T, VOXELS)))
    return trials, rng.integers(0, 2, n), np.column_stack([walks, np.ones(T)]), Y
