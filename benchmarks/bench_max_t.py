"""Maximum t over voxels under permutation: against the bare float32 product, nilearn, and 2^20 sign flips.

Everything on one thread. The bare product is A e of the stacked rows alone, into memory that is there already.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from nilearn.mass_univariate import permuted_ols

from benchmarks._harness import one_thread, paired, timed
from voxloom.models.permutation import PreparedTest, null_max_stat, prepare_test

if TYPE_CHECKING:
    from collections.abc import Callable

#: Maps, covariates beside the one tested (0: a mean by sign flips), voxels, permutations.
CASES = (
    (20, 0, 20_480, 20_000),
    (100, 0, 20_480, 10_000),
    (100, 2, 20_480, 4_000),
    (1_000, 0, 20_480, 4_000),
    (1_000, 2, 20_480, 2_000),
)
#: Maps, covariates, voxels, permutations of nilearn's two runs; their difference is free of its fixed cost.
NILEARN = (
    (100, 0, 40_960, (50, 150)),
    (300, 0, 40_960, (20, 60)),
    (1_000, 0, 20_480, (20, 60)),
    (300, 2, 20_480, (50, 150)),
)
#: Permutations over which a cost of voxloom's is taken when compared with nilearn's.
N_PERM = 10_000


def case(n: int, covariates: int, voxels: int, n_perm: int) -> tuple[PreparedTest, np.ndarray]:
    rng = np.random.default_rng(0)
    design = pd.DataFrame({"mean": np.ones(n)})
    if covariates:
        names = [f"x{k}" for k in range(covariates + 1)]
        design[names] = rng.standard_normal((n, covariates + 1))
    test = prepare_test(design, "x0" if covariates else "mean", n_perm=n_perm)
    return test, rng.standard_normal((n, voxels))


def bare_product(test: PreparedTest, voxels: int, n_perm: int) -> Callable[[], None]:
    rng = np.random.default_rng(1)
    n, width = len(test.model.X), 1 + test.model.moving.shape[1]
    A = rng.standard_normal((n_perm * width, n), dtype=np.float32)
    e = rng.standard_normal((n, voxels), dtype=np.float32)
    U = np.empty((2_048, voxels), dtype=np.float32)

    def product() -> None:
        for start in range(0, len(A), len(U)):
            rows = A[start : start + len(U)]
            np.matmul(rows, e, out=U[: len(rows)])

    return product


def against_product(n: int, covariates: int, voxels: int, n_perm: int) -> dict[str, Any]:
    test, Y = case(n, covariates, voxels, n_perm)
    result = paired(bare_product(test, voxels, n_perm), lambda: null_max_stat(test, Y), repeats=5)
    flop = 2.0 * n * voxels * n_perm * (1 + test.model.moving.shape[1])
    return {
        "ratio_to_bare_sgemm": result["ratio_b_over_a"]["cpu"]["median"],
        "bare_gflop_per_s": flop / result["a"]["cpu"]["median"] / 1e9,
        "us_per_permutation": result["b"]["cpu"]["median"] / n_perm * 1e6,
        "timing": result,
    }


def nilearn_run(Y: np.ndarray, covariates: int, n_perm: int) -> Callable[[], Any]:
    rng = np.random.default_rng(0)
    n = len(Y)
    X = rng.standard_normal((n, covariates + 1)) if covariates else np.ones((n, 1))
    return lambda: permuted_ols(
        X[:, :1],
        Y,
        X[:, 1:] if covariates else None,
        model_intercept=covariates > 0,
        n_perm=n_perm,
        n_jobs=1,
        random_state=0,
        output_type="dict",
        verbose=0,
    )


def against_nilearn(n: int, covariates: int, voxels: int, perms: tuple[int, int]) -> dict[str, float]:
    """CPU per permutation of both; nilearn's by the slope between two short runs."""
    test, Y = case(n, covariates, voxels, N_PERM)
    null_max_stat(test, Y, stop=64)
    ratios, theirs, ours = [], [], []
    for _ in range(3):
        few, many = (timed(nilearn_run(Y, covariates, k)).cpu for k in perms)
        theirs.append((many - few) / (perms[1] - perms[0]))
        stop = min(N_PERM, 8_000_000 // n)
        ours.append(timed(lambda: null_max_stat(test, Y, stop=stop)).cpu / stop)  # noqa: B023
        ratios.append(theirs[-1] / ours[-1])
    return {
        "nilearn_ms_per_permutation": float(np.median(theirs) * 1e3),
        "voxloom_ms_per_permutation": float(np.median(ours) * 1e3),
        "times_faster": float(np.median(ratios)),
    }


def all_flips(n: int = 20, voxels: int = 6_960) -> dict[str, float]:
    """Every one of 2^n sign flips, against the bare product with all of them."""
    test = prepare_test(pd.DataFrame({"mean": np.ones(n)}), "mean", n_perm=2**n)
    Y = np.random.default_rng(0).standard_normal((n, voxels))
    null_max_stat(test, Y, stop=64)
    start = time.process_time()
    bare_product(test, voxels, 2**n // 8)()
    bare = 8 * (time.process_time() - start)
    whole = timed(lambda: null_max_stat(test, Y)).cpu
    return {"seconds": whole, "bare_sgemm_seconds": bare, "ratio_to_bare_sgemm": whole / bare}


def run() -> dict[str, Any]:
    with one_thread():
        return {
            "product": {f"{n} maps, {q} covariates": against_product(n, q, V, P) for n, q, V, P in CASES},
            "nilearn": {f"{n} maps, {q} covariates": against_nilearn(n, q, V, P) for n, q, V, P in NILEARN},
            "all_2^20_flips": all_flips(),
        }
