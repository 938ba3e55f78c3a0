"""AR(1) fits of 45,768 voxels against nilearn's `run_glm` and against the bare matrix products.

The bare products are the 2 p + 1 = 3 of (K, T) with (T, V) that lag sums of order p = 1 need, float64, one
thread: what a fit would cost if everything else were free. The signal lies voxel by voxel in memory, as
masking an image (nilearn) and reading a store (voxloom) give it; nilearn is equally fast on the transpose.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm

from benchmarks._harness import one_thread, paired
from voxloom.kernels.contrast import t_statistics
from voxloom.kernels.first_level.contrast_tables import yule_walker_table
from voxloom.kernels.first_level.glm import fit_ar1, fit_ar1_yule_walker
from voxloom.kernels.noise.rho_grid import grid_index

VOXELS = 45_768


class Case(NamedTuple):
    """Rows, columns, and how many of the columns are random-walk confounds."""

    T: int
    K: int
    walks: int


CASES = {"T200_K20": Case(200, 20, 12), "T150_K33": Case(150, 33, 24)}


def run(repeats: int = 5) -> dict[str, Any]:
    """Ratios of medians, and how far t of the parity rule is from nilearn's."""
    with one_thread():
        return {name: _measure(*_data(case), repeats) for name, case in CASES.items()}


def _data(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Design, and signal (T, V) of mean 1000 with AR(1) noise of rho 0 to 0.6."""
    rng = np.random.default_rng(0)
    T, K, walks = case
    cosines = np.cos(np.pi * np.outer(np.arange(T) + 0.5, np.arange(K - walks)) / T)
    X = np.column_stack([rng.standard_normal((T, walks)).cumsum(axis=0), cosines])
    rho, Y = rng.uniform(0, 0.6, VOXELS), rng.standard_normal((T, VOXELS))
    for t in range(1, T):
        Y[t] += rho * Y[t - 1]
    return X, np.asfortranarray(1000 + 10 * Y)


def _measure(X: np.ndarray, Y: np.ndarray, repeats: int) -> dict[str, Any]:
    products = np.ascontiguousarray(X.T)

    def bare() -> None:
        for _ in range(3):
            products @ Y

    def nilearn() -> None:
        run_glm(Y, X, noise_model="ar1")

    results: dict[str, Any] = {"t_parity_max_relative": _parity(X, Y)}
    for name, fit in (("reml", fit_ar1), ("yule_walker", fit_ar1_yule_walker)):

        def ours(fit: Any = fit) -> None:
            fit(X, Y)

        results[f"{name}_faster_than_nilearn"] = paired(ours, nilearn, repeats=repeats)
        results[f"{name}_over_bare_products"] = paired(bare, ours, repeats=2 * repeats)
    return results


def _parity(X: np.ndarray, Y: np.ndarray) -> float:
    """Largest relative difference from nilearn of t of the first column where the bin of rho agrees."""
    c = np.eye(X.shape[1])[:1]
    fit, (labels, models) = fit_ar1_yule_walker(X, Y), run_glm(Y, X, noise_model="ar1")
    ours = t_statistics((c @ fit.beta)[0], fit.sigma2, grid_index(fit.noise[0]), yule_walker_table(X, c)).stat
    theirs = compute_contrast(labels, models, c[0], "t").stat()
    same = np.isclose(labels.astype(float), fit.noise[0])
    return float(np.max(np.abs(ours - theirs)[same] / np.abs(theirs)[same]))
