"""Group models of 10,000 maps on a slice of voxels: CPU per voxel by estimator, over what least squares costs.

The map of 230,000 voxels is extrapolated from the slice: voxels are independent, and what a design costs once is told
apart. The bare product that any model needs, ``Q'Y``, is measured beside.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks._harness import one_thread, paired
from voxloom.kernels.group.known_variances import fit_known_variances
from voxloom.kernels.group.ols import fit_ols
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.group.random_intercept import fit_random_intercept
from voxloom.kernels.group.sandwich import fit_sandwich
from voxloom.kernels.group.sums import sums_of

if TYPE_CHECKING:
    from collections.abc import Callable

N_MAPS, N_COLUMNS, VOXELS, WHOLE = 10_000, 10, 1024, 230_000
FEW = 64


def run(n_maps: int = N_MAPS, voxels: int = VOXELS, repeats: int = 3) -> dict[str, Any]:
    """Seconds of CPU per voxel, hours for a whole map, and the ratio to least squares."""
    rng = np.random.default_rng(0)
    X = np.c_[np.ones(n_maps), rng.standard_normal((n_maps, N_COLUMNS - 1))]
    Y = rng.standard_normal((n_maps, voxels), dtype=np.float32)
    S2 = rng.gamma(3.0, 0.3, Y.shape).astype(np.float32)
    sites = rng.integers(0, 100, n_maps)
    families = np.sort(rng.integers(0, 4 * n_maps // 10, n_maps))
    pattern, present = group_patterns(pattern_bits(Y), n_maps)
    fits: dict[str, Callable[[slice], Any]] = {
        "ols": lambda part: fit_ols(X, Y[:, part], pattern[part], present),
        "random intercept, 100 sites": lambda part: fit_random_intercept(X, Y[:, part], sites, pattern[part], present),
        "random intercept, families": lambda part: fit_random_intercept(
            X, Y[:, part], families, pattern[part], present
        ),
        "sandwich, families": lambda part: fit_sandwich(X, Y[:, part], families, pattern[part], present),
        "reml, known variances": lambda part: fit_known_variances(X, Y[:, part], S2[:, part], pattern[part], present),
        "sums": lambda part: sums_of(X, Y[:, part]),
    }
    Q = np.linalg.qr(X)[0]
    found: dict[str, Any] = {"n_maps": n_maps, "n_columns": N_COLUMNS, "voxels": voxels}
    with one_thread():
        for name, fit in fits.items():
            # a product to compare with, and a few voxels to tell what the design costs once
            whole = paired(partial(fit, slice(None)), lambda: Q.T @ Y.astype(np.float64), repeats=repeats)
            few = paired(partial(fit, slice(0, FEW)), lambda: None, repeats=repeats)
            per_voxel = (whole["a"]["cpu"]["median"] - few["a"]["cpu"]["median"]) / (voxels - FEW)
            found[name] = {
                "cpu_per_voxel_s": per_voxel,
                "design_once_s": max(few["a"]["cpu"]["median"] - FEW * per_voxel, 0.0),
                "over_the_product": 1 / whole["ratio_b_over_a"]["cpu"]["median"],
                "hours_for_230000_voxels": per_voxel * WHOLE / 3600,
            }
    return found
