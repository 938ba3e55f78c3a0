"""TFCE of one map of 230,000 voxels: exact, against nilearn's 100 steps and the `tfce` package (exact, in C).

One thread, 6 neighbours, E 0.5, H 2. The maps are noise of unit variance, smooth (FWHM 3.5 voxels) or rough, with a
region of activation, in a ball of a 2 mm grid; what else a permutation costs is not in the figures. `tfce_maxima` is
measured over several maps, as permutation batches call it; nilearn takes the volume, which is 0 outside the ball.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tfce as tfce_package
from nilearn.mass_univariate._utils import calculate_tfce
from scipy import ndimage

from benchmarks._harness import one_thread, paired
from voxloom.kernels.maps.neighbours import neighbourhood
from voxloom.kernels.maps.tfce import tfce_maxima, tfce_scores

SHAPE, N_VOXELS, N_MAPS = (91, 109, 91), 230_000, 8
SMOOTH, ROUGH = 1.5, 0.0


def brain() -> np.ndarray:
    """The `N_VOXELS` voxels nearest to the middle, in units of the grid's edges."""
    indices = np.indices(SHAPE).reshape(3, -1).T
    middle = (np.array(SHAPE) - 1) / 2
    distance = (((indices - middle) / middle) ** 2).sum(axis=1)
    mask = np.zeros(distance.size, bool)
    mask[np.argsort(distance, kind="stable")[:N_VOXELS]] = True
    return mask.reshape(SHAPE)


def volumes(mask: np.ndarray, sigma: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = np.stack([ndimage.gaussian_filter(rng.standard_normal(SHAPE), sigma) for _ in range(N_MAPS)])
    noise /= noise[:, mask].std()
    noise[:, 40:50, 50:60, 40:50] += 3.0
    return np.where(mask, noise, 0.0)


def case(sigma: float, two_sided: bool) -> dict[str, Any]:
    mask = brain()
    maps = volumes(mask, sigma)
    values, around = np.ascontiguousarray(maps[:, mask]), neighbourhood(np.flatnonzero(mask), SHAPE, 6)
    structure = ndimage.generate_binary_structure(3, 1)
    scores = np.zeros(SHAPE)
    scores[mask] = tfce_scores(values[:1], around, two_sided=two_sided)[0]

    def ours() -> Any:
        return tfce_maxima(values, around, two_sided=two_sided)

    def package() -> Any:
        return [tfce_package.tfce(one, connectivity=6, two_sided=two_sided, n_jobs=1) for one in maps]

    def nilearns() -> Any:
        return calculate_tfce(maps[0][..., np.newaxis], structure, two_sided_test=two_sided)

    beside = paired(ours, package, repeats=5)
    before = paired(ours, nilearns, repeats=3)
    return {
        "ms_per_map": beside["a"]["cpu"]["median"] / N_MAPS * 1e3,
        "package_ms_per_map": beside["b"]["cpu"]["median"] / N_MAPS * 1e3,
        "nilearn_ms_per_map": before["b"]["cpu"]["median"] * 1e3,
        "times_faster_than_package": beside["ratio_b_over_a"]["cpu"]["median"],
        "times_faster_than_nilearn": before["ratio_b_over_a"]["cpu"]["median"] * N_MAPS,
        "relative_difference_from_package": float(np.abs(package()[0] - scores).max() / scores.max()),
    }


def run() -> dict[str, Any]:
    """Milliseconds per map, and how many times faster than both others."""
    with one_thread():
        return {
            f"{name}_{'two' if two_sided else 'one'}_sided": case(sigma, two_sided)
            for name, sigma in (("smooth", SMOOTH), ("rough", ROUGH))
            for two_sided in (False, True)
        }
