"""Maximum t over voxels under permutation: against the bare float32 product, nilearn, and 2^20 sign flips.

Everything on one thread. The bare product is A e of the stacked rows alone, into memory that is there already.

What the figures mean. "Times faster" than nilearn is bounded by how much faster the bare product alone is
(``bare_sgemm_times_faster``): measured three times on two cores under load, that was 70 to 90 for 100 maps by
sign flips, 42 to 87 for 300, 37 to 47 for 1000, and 27 to 39 with two covariates. Sign flips and comparisons of
two groups go by tables (`kernels.permutation.lookup`), in 0.5 to 1.3 of the bare product. The 80 that was hoped for
with covariates cannot be had from Freedman and Lane's test: it needs, of every voxel under every permutation, the
projection on the effect and on each of the q' moving nuisance columns, 1 + q' rows of the product, and 80 would take
two to three times the machine's rate of float32. What would be cheaper:

- Exact, but for several contrasts of one design only: with M = Q R, ``Q'P e = Q'P Y - (Q'P Z) Z'Y``, so the
  product Q'P Y of rank(M) rows serves all contrasts in place of 1 + q' rows for each.
- Bounds on the nuisance part b = |Z'P e|^2 that would spare voxels of small u: for a voxel and all permutations
  the sharp one (sorted by sorted products) is near 1, so nothing can be left out.
- Huh and Jhun's reduction to n - q residuals, or leaving b out (Kennedy, Still and White), needs one row in
  place of 1 + q'. Those are other tests, with other nulls.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from nilearn.mass_univariate import permuted_ols

from benchmarks._harness import one_thread, paired, timed
from voxloom.models.inference.permutation import PreparedTest, null_max_stat, prepare_test

if TYPE_CHECKING:
    from collections.abc import Callable

#: Maps, covariates beside the one tested (0: a mean by sign flips), voxels, permutations.
CASES = (
    (20, 0, 20_480, 20_000),
    (100, 0, 20_480, 10_000),
    (100, 2, 20_480, 4_000),
    (1_000, 0, 20_480, 3_000),
    (1_000, 2, 20_480, 1_000),
)
#: Maps, covariates, voxels, permutations of nilearn's two runs; their difference is free of its fixed cost.
NILEARN = (
    (100, 0, 20_480, (50, 150)),
    (300, 0, 20_480, (20, 60)),
    (1_000, 0, 20_480, (20, 60)),
    (100, 2, 20_480, (50, 150)),
    (300, 2, 20_480, (50, 150)),
)
#: Permutations of the bare product beside them.
BARE_PERM = 1_024
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
    n, width = test.model.size, test.model.width
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
    result = paired(bare_product(test, voxels, n_perm), lambda: null_max_stat(test, Y), repeats=3)
    flop = 2.0 * n * voxels * n_perm * test.model.width
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
    """CPU per permutation of nilearn (the slope between two short runs), of voxloom and of the bare product."""
    test, Y = case(n, covariates, voxels, N_PERM)
    stop = min(N_PERM, 4_000_000 // n // (1 + covariates))
    product = bare_product(test, voxels, BARE_PERM)
    null_max_stat(test, Y, stop=64), product()
    rows = []
    for _ in range(3):
        few, many = (timed(nilearn_run(Y, covariates, k)).cpu for k in perms)
        ours = timed(lambda: null_max_stat(test, Y, stop=stop)).cpu / stop
        rows.append([(many - few) / (perms[1] - perms[0]), ours, timed(product).cpu / BARE_PERM])
    theirs, ours, bare = np.array(rows).T
    return {
        "nilearn_ms_per_permutation": float(np.median(theirs) * 1e3),
        "voxloom_ms_per_permutation": float(np.median(ours) * 1e3),
        "bare_sgemm_ms_per_permutation": float(np.median(bare) * 1e3),
        "times_faster": float(np.median(theirs / ours)),
        "bare_sgemm_times_faster": float(np.median(theirs / bare)),
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
