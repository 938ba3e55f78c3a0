"""False positives of the first level in null data, over nominal, by noise and noise model; nilearn on the same data.

Block and event-related designs with cosine drifts and random-walk confounds (6 at a TR of 3 s, 24 at 2 s, 60 at 0.7 s).
Time constants are those of the noise, so that correlations from scan to scan grow as the TR falls. A share of 1 is
exact; at p < .001 its standard error is about 0.2 with 10,000 voxels and three contrasts, 0.13 with three draws of as
many. `docs/explanation/calibration.md` shows the tables and says what they mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm
from scipy.signal import lfilter

from benchmarks._harness import one_thread
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.contrasts import contrast
from voxloom.models.design import design_matrix, frame_times
from voxloom.models.first_level import fit_first_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

CONTRASTS = ("a", "b", "a - b")
LEVELS = (0.001, 0.05)
#: Voxels simulated at once, and scans before the first, for a stationary start.
BATCH, BURN_IN = 5000, 400
#: Models in the noise that they are made for, and seeds of three draws of events, confounds and data.
INSIDE = {"white": "ols", "AR(1)": "ar1", "AR(2)": "ar2", "AR(1) + white": "arma11"}
SEEDS = (1, 2, 3)


class Scene(NamedTuple):
    """A run: repetition time in s, scans, and confounds that wander at random."""

    t_r: float
    n_scans: int
    n_confounds: int


SCENES = {"TR 3, 6 confounds": Scene(3, 130, 6), "TR 2, 24": Scene(2, 200, 24), "TR 0.7, 60": Scene(0.7, 450, 60)}


def block_events(seconds: float, rng: np.random.Generator) -> pd.DataFrame:
    """Conditions in turn for 15 s with 15 s of rest between."""
    onset = np.arange(10, seconds - 20, 30.0)
    return pd.DataFrame({"onset": onset, "duration": 15.0, "trial_type": np.resize(["a", "b"], onset.size)})


def single_events(seconds: float, rng: np.random.Generator) -> pd.DataFrame:
    """Short trials in random order, 3 to 9 s apart."""
    onset = 5 + np.cumsum(rng.uniform(3, 9, int(seconds / 3)))
    onset = onset[onset < seconds - 10]
    return pd.DataFrame({"onset": onset, "duration": 1.0, "trial_type": rng.choice(["a", "b"], onset.size)})


DESIGNS: dict[str, Callable[[float, np.random.Generator], pd.DataFrame]] = {
    "block": block_events,
    "events": single_events,
}


def red(rng: np.random.Generator, seconds: float, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """AR(1) of unit variance whose correlation falls to 1/e in so many seconds."""
    rho = np.exp(-t_r / seconds)
    innovations = np.sqrt(1 - rho**2) * rng.standard_normal((shape[0] + BURN_IN, shape[1]))
    return np.asarray(lfilter([1], [1, -rho], innovations, axis=0))[BURN_IN:]


def white(rng: np.random.Generator, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """Independent scans."""
    return rng.standard_normal(shape)


def ar1(rng: np.random.Generator, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """3 s: rho is 0.37, 0.51, 0.79 at TR 3, 2, 0.7."""
    return red(rng, 3, t_r, shape)


def ar1_and_white(rng: np.random.Generator, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """10 s, and as much white noise."""
    return red(rng, 10, t_r, shape) + rng.standard_normal(shape)


def ar2(rng: np.random.Generator, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """Phi of 0.5 and 0.2 at every TR."""
    innovations = rng.standard_normal((shape[0] + BURN_IN, shape[1]))
    return np.asarray(lfilter([1], [1, -0.5, -0.2], innovations, axis=0))[BURN_IN:]


def mixture(rng: np.random.Generator, t_r: float, shape: tuple[int, int]) -> FloatArray:
    """3 s, 40 s and white in equal parts, like 1/f: inside none of the models."""
    return red(rng, 3, t_r, shape) + red(rng, 40, t_r, shape) + rng.standard_normal(shape)


NOISES: dict[str, Callable[[np.random.Generator, float, tuple[int, int]], FloatArray]] = {
    "white": white,
    "AR(1)": ar1,
    "AR(1) + white": ar1_and_white,
    "AR(2)": ar2,
    "1/f": mixture,
}


def ours(noise_model: str) -> Callable[[FloatArray, pd.DataFrame], FloatArray]:
    """Two-sided p (contrast, voxel) by a noise model of voxloom."""

    def p_values(Y: FloatArray, design: pd.DataFrame) -> FloatArray:
        fit = fit_first_level(xr.DataArray(Y.T, dims=("voxel", "time")), design, noise_model=noise_model)
        upper = np.array([contrast(fit, each)["p_value"] for each in CONTRASTS])
        return 2 * np.minimum(upper, 1 - upper)

    return p_values


def nilearn_ar1(Y: FloatArray, design: pd.DataFrame) -> FloatArray:
    """Two-sided p (contrast, voxel) by nilearn."""
    labels, results = run_glm(Y, design.to_numpy(), noise_model="ar1")
    rows = [contrast_matrix(each, list(design.columns))[0] for each in CONTRASTS]
    upper = np.array([compute_contrast(labels, results, row, "t").p_value() for row in rows])
    return 2 * np.minimum(upper, 1 - upper)


MODELS: dict[str, Callable[[FloatArray, pd.DataFrame], FloatArray]] = {
    "ols": ours("ols"),
    "ar1": ours("ar1"),
    "ar2": ours("ar2"),
    "ar4": ours("ar4"),
    "arma11": ours("arma11"),
    "nilearn ar1": nilearn_ar1,
}


def design_of(scene: Scene, kind: str, rng: np.random.Generator) -> pd.DataFrame:
    """Design matrix with cosines of 1/128 Hz and confounds."""
    walks = rng.standard_normal((scene.n_scans, scene.n_confounds)).cumsum(axis=0)
    return design_matrix(
        frame_times(scene.n_scans, scene.t_r),
        DESIGNS[kind](scene.n_scans * scene.t_r, rng),
        hrf_model="spm",
        high_pass=1 / 128,
        add_regs=pd.DataFrame(walks, columns=[f"walk{i}" for i in range(scene.n_confounds)]),
    )


def draw(scene: Scene, kind: str, noise: str, n_voxels: int, models: Sequence[str], seed: int) -> dict[str, FloatArray]:
    """Share of p below each level by noise model, in null data of one draw of events and confounds."""
    rng = np.random.default_rng(seed)
    design = design_of(scene, kind, rng)
    hits = {model: np.zeros(len(LEVELS)) for model in models}
    for start in range(0, n_voxels, BATCH):
        Y = NOISES[noise](rng, scene.t_r, (scene.n_scans, min(BATCH, n_voxels - start)))
        for model in models:
            p = MODELS[model](Y, design)
            hits[model] += [np.sum(p < level) for level in LEVELS]
    return {model: found / (n_voxels * len(CONTRASTS)) for model, found in hits.items()}


def measure(
    scene: Scene,
    kind: str,
    noise: str,
    n_voxels: int,
    models: Sequence[str] = tuple(MODELS),
    seeds: Sequence[int] = (0,),
) -> dict[str, dict[str, float]]:
    """Share of p below each level, over the level, by noise model: all on the same data, so many voxels a seed."""
    draws = [draw(scene, kind, noise, n_voxels, models, seed) for seed in seeds]
    return {model: over_nominal(np.mean([found[model] for found in draws], axis=0)) for model in models}


def over_nominal(shares: FloatArray) -> dict[str, float]:
    """Shares of p below `LEVELS`, over these levels, by what follows the decimal point."""
    return {f"{level:g}"[2:]: round(float(share / level), 3) for level, share in zip(LEVELS, shares)}


def run(n_voxels: int = 10_000) -> dict[str, Any]:
    """Every noise, design and scene; and ``inside``, models in noise of their own with three times the voxels."""
    cells = [(kind, name) for kind in DESIGNS for name in SCENES]
    with one_thread():
        results: dict[str, Any] = {
            noise: {f"{kind}, {name}": measure(SCENES[name], kind, noise, n_voxels) for kind, name in cells}
            for noise in NOISES
        }
        results["inside"] = {
            f"{kind}, {name}": {
                model: measure(SCENES[name], kind, noise, n_voxels, (model,), SEEDS)[model]
                for noise, model in INSIDE.items()
            }
            for kind, name in cells
        }
    return results


def markdown(results: dict[str, Any]) -> str:
    """The two tables of docs/explanation/calibration.md: shares at p < .001 and at p < .05."""
    rows = [[noise, scene, found] for noise in NOISES for scene, found in results[noise].items()]
    inside = [[scene, found] for scene, found in results["inside"].items()]
    heads = ["noise", "design, TR (s), confounds", *(f"`{model}`" for model in MODELS)]
    own = ["design, TR (s), confounds", *(f"`{model}` in {noise}" for noise, model in INSIDE.items())]
    return "\n".join([*_table(heads, MODELS, rows), "", *_table(own, INSIDE.values(), inside)])


def _table(heads: Sequence[str], models: Iterable[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table whose rows end with what was found by model."""
    lines = [heads, ["---"] * len(heads)]
    for *names, found in rows:
        lines.append([*names, *(f"{found[model]['001']:.1f} / {found[model]['05']:.2f}" for model in models)])
    return ["| " + " | ".join(line) + " |" for line in lines]
