"""Group models in null data, and in data with an effect: false positives over nominal, and power, by estimator.

Every voxel is a study of its own. A share of 1 is exact; with 60,000 voxels its standard error is 0.13 at p < .001
and 0.018 at p < .05. `docs/explanation/group.md` shows the tables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from benchmarks._harness import one_thread
from voxloom.models.contrasts import contrast
from voxloom.models.group.fit import fit_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

LEVELS = (0.001, 0.05)
BATCH = 5000


class Scene(NamedTuple):
    """A study: its design, what is tested in it, how the errors of its maps are made, and estimators with their groups.

    ``errors(rng, n_voxels) -> effect (map, voxel), variance (map, voxel) or None``
    """

    design: pd.DataFrame
    contrast: str
    errors: Callable[[np.random.Generator, int], tuple[FloatArray, FloatArray | None]]
    estimators: dict[str, NDArray[np.int64] | None]


def _normal(n: int) -> Callable[[np.random.Generator, int], tuple[FloatArray, None]]:
    return lambda rng, v: (rng.standard_normal((n, v)), None)


def one_sample() -> Scene:
    """A mean of 16 people."""
    design = pd.DataFrame({"intercept": np.ones(16)})
    return Scene(design, "intercept", _normal(16), dict.fromkeys(("ols", "sandwich")))


def unequal_variances() -> Scene:
    """10 patients whose errors are three times those of 30 controls."""
    patient = np.repeat([1.0, 0.0], [10, 30])
    spread = np.where(patient, 3.0, 1.0)[:, None]

    def errors(rng: np.random.Generator, v: int) -> tuple[FloatArray, None]:
        return spread * rng.standard_normal((40, v)), None

    design = pd.DataFrame({"patient": patient, "control": 1 - patient})
    estimators = dict.fromkeys(("ols", "sandwich-cr0", "sandwich", "sandwich-cr3"))
    return Scene(design, "patient - control", errors, estimators | {"unequal-variances": patient.astype(np.int64)})


def _of_groups(sizes: list[int], icc: float) -> tuple[NDArray[np.int64], Any]:
    groups = np.repeat(np.arange(len(sizes)), sizes)

    def errors(rng: np.random.Generator, v: int) -> tuple[FloatArray, None]:
        shared = rng.standard_normal((len(sizes), v))[groups] * np.sqrt(icc)
        return shared + rng.standard_normal((groups.size, v)) * np.sqrt(1 - icc), None

    return groups, errors


def sites() -> Scene:
    """A covariate of 12 sites of 4 to 15 people (field strength), icc 0.1."""
    sizes = list(range(4, 16))
    groups, errors = _of_groups(sizes, 0.1)
    field = np.random.default_rng(1).standard_normal(12)[groups]
    design = pd.DataFrame({"intercept": 1.0, "field": field})
    names = ("sandwich-cr0", "sandwich", "random-intercept")
    return Scene(design, "field", errors, {"ols": None} | dict.fromkeys(names, groups))


def repeated() -> Scene:
    """Two conditions within each of 15 people, and half of the people in each of two groups: the groups are tested."""
    groups, errors = _of_groups([2] * 15, 0.6)
    design = pd.DataFrame(
        {"intercept": 1.0, "condition": np.tile([-1.0, 1.0], 15), "group": (groups < 7).astype(float)}
    )
    names = ("sandwich", "sandwich-homogeneous", "random-intercept")
    return Scene(design, "group", errors, {"ols": None} | dict.fromkeys(names, groups))


def known_variances() -> Scene:
    """15 studies with variances from 0.2 to 3.2, and as much between studies as within the best."""
    s2 = np.geomspace(0.2, 3.2, 15)[:, None]

    def errors(rng: np.random.Generator, v: int) -> tuple[FloatArray, FloatArray]:
        return rng.standard_normal((15, v)) * np.sqrt(s2 + 0.2), np.broadcast_to(s2, (15, v)).copy()

    estimators = dict.fromkeys(("ols", "fixed", "paule-mandel", "reml"))
    return Scene(pd.DataFrame({"intercept": np.ones(15)}), "intercept", errors, estimators)


SCENES = {
    "one sample, n = 16": one_sample,
    "unequal variances, 10 and 30": unequal_variances,
    "covariate of 12 sites": sites,
    "groups of people seen twice": repeated,
    "15 studies with known variances": known_variances,
}


def maps_of(scene: Scene, rng: np.random.Generator, n_voxels: int, effect: float = 0.0) -> xr.Dataset:
    """Maps of null voxels, with `effect` of the contrast's first regressor."""
    errors, variance = scene.errors(rng, n_voxels)
    signal = effect * scene.design[scene.contrast.split(" ")[0]].to_numpy()[:, None]
    found = xr.Dataset({"effect": (("map", "voxel"), errors + signal)})
    return found if variance is None else found.assign(variance=(("map", "voxel"), variance))


def rates(scene: Scene, name: str, maps: xr.Dataset) -> list[float]:
    """Share of voxels below each of `LEVELS`, two-sided."""
    fit = fit_group(maps, scene.design, estimator=name, groups=scene.estimators[name])
    p = 2 * contrast(fit, scene.contrast)["p_value"].to_numpy()
    p = np.minimum(p, 2 - p)
    return [float(np.mean(p < level)) for level in LEVELS]


def measure(scene: Scene, n_voxels: int, *, seed: int = 0, effect: float = 0.0) -> dict[str, list[float]]:
    """Rates of every estimator on the same data."""
    sums = {name: np.zeros(len(LEVELS)) for name in scene.estimators}
    for batch in range(0, n_voxels, BATCH):
        width = min(BATCH, n_voxels - batch)
        maps = maps_of(scene, np.random.default_rng([seed, batch]), width, effect)
        for name in scene.estimators:
            sums[name] += width * np.array(rates(scene, name, maps))
    return {name: [float(x) for x in total / n_voxels] for name, total in sums.items()}


def run(n_voxels: int = 60_000) -> dict[str, Any]:
    """False positives over nominal, and power at p < .001 where all estimators are to be trusted."""
    found: dict[str, Any] = {"n_voxels": n_voxels}
    with one_thread():
        for title, make in SCENES.items():
            by_name = measure(make(), n_voxels)
            found[title] = {
                name: {f"p < {level}": rate / level for level, rate in zip(LEVELS, of)} for name, of in by_name.items()
            }
        power = measure(known_variances(), 20_000, seed=1, effect=1.0)
        found["power"] = {name: of[0] for name, of in power.items() if name != "fixed"}
    return found
