"""A whole permutation test: 200 maps of 230,000 voxels, 1,000 permutations, maximum t and TFCE; a large one on paper.

One thread. nilearn's cost of a permutation is the difference of two runs of `permuted_ols` with TFCE on the same
maps, free of what it costs once. What 1,000 maps of 230,000 voxels with 10,000 permutations would take is told from a
slice of the voxels: the product, which grows with voxels and permutations, and TFCE of whole maps, which grows with
permutations. v and G, with a variance for each of two or three groups of maps, are timed beside t and F of the same.
"""

from __future__ import annotations

from typing import Any

import nibabel
import numpy as np
import pandas as pd
import xarray as xr
from nilearn.maskers import NiftiMasker
from nilearn.mass_univariate import permuted_ols

from benchmarks._harness import one_thread, timed
from benchmarks.bench_tfce import N_VOXELS, SHAPE, brain
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import PreparedTest, null_max_stat, observed_stat, prepare_test, sweep
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.schema import Grid, voxel_coords

N_MAPS, N_PERM = 200, 1_000
#: Permutations of nilearn's two runs, with TFCE and without.
NILEARN = {True: (2, 5), False: (20, 60)}
#: The large test, and the slice that is measured of it.
LARGE, SLICE = (1_000, 230_000, 10_000), (1_000, 16_384, 2_000)
#: Maps, covariates and groups of maps with a variance each; voxels and permutations that are timed.
GROUPED, GROUPED_SLICE = [(40, 0, 2), (200, 0, 2), (200, 3, 2), (200, 0, 3), (1_000, 0, 2)], (8_192, 500)


def maps_and_mask() -> tuple[xr.DataArray, np.ndarray]:
    mask = brain()
    rng = np.random.default_rng(0)
    effect = rng.standard_normal((N_MAPS, N_VOXELS), dtype=np.float32)
    effect[:, :2_000] += 0.5
    coords = voxel_coords(Grid.of(SHAPE, np.diag([2, 2, 2, 1])), np.flatnonzero(mask))
    return xr.DataArray(effect, dims=("map", "voxel"), coords=coords, name="effect"), mask


def seconds_of(maps: xr.DataArray, statistics: tuple[str, ...], n_perm: int = N_PERM) -> float:
    return timed(lambda: permutation_test(maps, n_perm=n_perm, statistics=statistics, two_sided=False)).cpu


def nilearn_per_permutation(maps: xr.DataArray, mask: np.ndarray, *, tfce: bool) -> float:
    masker = NiftiMasker(nibabel.Nifti1Image(mask.astype(np.uint8), np.diag([2, 2, 2, 1]))).fit()
    one = np.ones((N_MAPS, 1))
    data = maps.to_numpy().astype(np.float64)

    def run(n_perm: int) -> float:
        args = {"n_perm": n_perm, "two_sided_test": False, "n_jobs": 1, "random_state": 0, "verbose": 0}
        return timed(lambda: permuted_ols(one, data, model_intercept=False, tfce=tfce, masker=masker, **args)).cpu

    n_few, n_more = NILEARN[tfce]
    few, more = run(n_few), run(n_more)
    return (more - few) / (n_more - n_few)


def large(tfce_per_permutation: float) -> dict[str, Any]:
    """The test of 1,000 maps with a covariate, from a slice of its voxels and permutations."""
    n, voxels, n_perm = SLICE
    rng = np.random.default_rng(1)
    design = pd.DataFrame({"intercept": np.ones(n), "age": rng.standard_normal(n)})
    test = prepare_test(design, "age", n_perm=n_perm)
    Y = rng.standard_normal((n, voxels), dtype=np.float32)
    cpu = timed(lambda: null_max_stat(test, Y)).cpu
    whole = cpu * LARGE[1] / voxels * LARGE[2] / n_perm
    return {
        "slice": {"maps": n, "voxels": voxels, "permutations": n_perm, "cpu_s": cpu},
        "max_stat_cpu_hours": whole / 3600,
        "tfce_cpu_hours": 2 * tfce_per_permutation * LARGE[2] / 3600,  # both signs
        "gflops": 2 * n * voxels * n_perm / cpu / 1e9,
    }


def variance_groups() -> list[dict[str, Any]]:
    """CPU of v and of G per voxel and permutation beside that of t and of F, maxima and counts; with covariates too."""
    rng, found = np.random.default_rng(2), []
    for n_maps, n_covariates, n_groups in GROUPED:
        side = np.arange(n_maps) % n_groups
        design = pd.DataFrame({f"g{g}": 1.0 * (side == g) for g in range(n_groups)})
        for i in range(n_covariates):
            design[f"c{i}"] = rng.standard_normal(n_maps)
        contrast = [f"g{g} - g{g + 1}" for g in range(n_groups - 1)]
        Y = rng.standard_normal((n_maps, GROUPED_SLICE[0]), dtype=np.float32)
        costs = [
            sweep_ns(prepare_test(design, contrast, n_perm=GROUPED_SLICE[1], exchangeability=allowed), Y)
            for allowed in (Exchangeability(scheme="permute"), Exchangeability(scheme="permute", variance_groups=side))
        ]
        found.append(
            {
                "maps": n_maps,
                "covariates": n_covariates,
                "groups": n_groups,
                "equal_variances_ns": costs[0],
                "by_group_ns": costs[1],
                "ratio": costs[1] / costs[0],
            }
        )
    return found


def sweep_ns(test: PreparedTest, Y: np.ndarray) -> float:
    """Nanoseconds of CPU per voxel and permutation."""
    stat = observed_stat(test, Y)
    sweep(test, Y, stat, stop=64)  # compiles, makes tables
    cpu = sorted(timed(lambda: sweep(test, Y, stat)).cpu for _ in range(3))[1]
    return 1e9 * cpu / (test.n_perm * Y.shape[1])


def run() -> dict[str, Any]:
    """CPU of the whole test by statistic, nilearn's for the same, and what a large one would take."""
    maps, mask = maps_and_mask()
    with one_thread():
        permutation_test(maps.isel(voxel=slice(0, 4096)), n_perm=64, statistics=("max_stat", "tfce"))  # compiles
        both, alone = seconds_of(maps, ("max_stat", "tfce")), seconds_of(maps, ("max_stat",))
        spatial = (both - alone) / N_PERM
        with_tfce, without = (nilearn_per_permutation(maps, mask, tfce=tfce) for tfce in (True, False))
        return {
            "maps": N_MAPS,
            "voxels": N_VOXELS,
            "permutations": N_PERM,
            "max_stat_and_tfce_cpu_s": both,
            "max_stat_cpu_s": alone,
            "nilearn_tfce_s_per_permutation": with_tfce,
            "nilearn_max_t_s_per_permutation": without,
            "times_faster_with_tfce": with_tfce / (both / N_PERM),
            "times_faster_max_t": without / (alone / N_PERM),
            "large": large(spatial),
            "variance_groups": variance_groups(),
        }
