"""False positives of the first level in null data, over nominal, by noise and noise model; nilearn on the same data.

Block and event-related designs with cosine drifts and random-walk confounds (6 at a TR of 3 s, 24 at 2 s, 60 at 0.7 s),
and runs a fifth of which is scrubbed. Time constants are those of the noise, so that correlations from scan to scan
grow as the TR falls. A rate of 1 is exact. Rates are means of the chances that voxels have given their residuals
(`_null_data`), with standard errors over draws. Cells run in as many processes as there are cores: 10 minutes of CPU in
all. ``python -m benchmarks.bench_calibration`` prints the tables of `docs/explanation/calibration.md` from the last
result.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from nilearn.glm.contrasts import compute_contrast
from nilearn.glm.first_level import run_glm

from benchmarks._harness import RESULTS, machine, one_thread
from benchmarks._null_data import CONTRASTS, DESIGNS, LEVELS, NOISES, SCENES, Draw, Scene, Tested, draw, passing
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fit_first_level

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

#: Draws of a cell, and voxels of each.
DRAWS, VOXELS = 12, 1000
#: Models in the noise that they are made for, where scans are scrubbed.
INSIDE = {"AR(1)": "ar1", "AR(2)": "ar2", "AR(1) + white": "arma11"}
SCRUBBED = 0.2


def ours(noise_model: str) -> Callable[[Draw], Tested]:
    """Test by a noise model of voxloom."""

    def tested(of: Draw) -> Tested:
        bold = xr.DataArray(of.Y.T, dims=("voxel", "time"))
        fit = fit_first_level(bold, of.design, noise_model=noise_model, sample_mask=of.kept)
        maps = [contrast(fit, each) for each in CONTRASTS]
        return Tested(*(np.array([found[name] for found in maps]) for name in Tested._fields))

    return tested


def nilearn_ar1(of: Draw) -> Tested:
    """Test by nilearn."""
    labels, results = run_glm(of.Y[of.kept], of.design.to_numpy()[of.kept], noise_model="ar1")
    rows = [contrast_matrix(each, list(of.design.columns))[0] for each in CONTRASTS]
    found = [compute_contrast(labels, results, row, "t") for row in rows]
    effect, variance = (np.array([np.ravel(getattr(each, name)) for each in found]) for name in ("effect", "variance"))
    return Tested(effect, variance, np.broadcast_to([[each.dof] for each in found], effect.shape))


MODELS: dict[str, Callable[[Draw], Tested]] = {
    "ols": ours("ols"),
    "ar1": ours("ar1"),
    "ar2": ours("ar2"),
    "ar4": ours("ar4"),
    "arma11": ours("arma11"),
    "nilearn ar1": nilearn_ar1,
}


class Cell(NamedTuple):
    """What is measured at once."""

    noise: str
    kind: str
    scene: str
    models: tuple[str, ...]
    scrubbed: float = 0.0

    @property
    def name(self) -> str:
        """Design and scene."""
        return f"{self.kind}, {self.scene}"


def rates(
    scene: Scene, kind: str, noise: str, models: Sequence[str], n_voxels: int = VOXELS, n_draws: int = DRAWS
) -> dict[str, dict[str, float]]:
    """False positives over nominal by noise model: decimals of the level, and its standard error."""
    draws = [draw(scene, kind, noise, n_voxels, seed) for seed in range(n_draws)]
    return {model: _over_nominal([passing(MODELS[model](of), of).mean(axis=1) for of in draws]) for model in models}


def _over_nominal(chances: Sequence[np.ndarray]) -> dict[str, float]:
    found = np.array(chances) / LEVELS
    errors = found.std(axis=0, ddof=1) / np.sqrt(len(found))
    rows = [(f"{level:g}"[2:], rate, error) for level, rate, error in zip(LEVELS, found.mean(axis=0), errors)]
    named = [{name: rate, f"{name} se": error} for name, rate, error in rows]
    return {name: round(float(value), 3) for each in named for name, value in each.items()}


def _measure(cell: Cell) -> dict[str, dict[str, float]]:
    with one_thread():
        return rates(SCENES[cell.scene]._replace(scrubbed=cell.scrubbed), cell.kind, cell.noise, cell.models)


def run() -> dict[str, Any]:
    """Every model in every noise, design and scene; ``scrubbed``: models in noise of their own."""
    places = [(kind, scene) for kind in DESIGNS for scene in SCENES]
    whole = [Cell(noise, *place, tuple(MODELS)) for noise in NOISES for place in places]
    scrubbed = [Cell(noise, *place, (model,), SCRUBBED) for place in places for noise, model in INSIDE.items()]
    results: dict[str, Any] = {}
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        for cell, found in zip([*whole, *scrubbed], pool.map(_measure, [*whole, *scrubbed])):
            part = results.setdefault("scrubbed" if cell.scrubbed else cell.noise, {})
            part.setdefault(cell.name, {}).update(found)
    return results


def markdown(results: Mapping[str, Any]) -> str:
    """The two tables of docs/explanation/calibration.md: rates at p < .001 and at p < .05."""
    names = [f"{kind}, {scene}" for kind in DESIGNS for scene in SCENES]
    rows = [[noise, name, results[noise][name]] for noise in NOISES for name in names]
    scrubbed = [[name, results["scrubbed"][name]] for name in names]
    heads = ["noise", "design, TR (s), confounds", *(f"`{model}`" for model in MODELS)]
    own = ["design, TR (s), confounds", *(f"`{model}` in {noise}" for noise, model in INSIDE.items())]
    return "\n".join([*_table(heads, MODELS, rows), "", *_table(own, INSIDE.values(), scrubbed)])


def _table(heads: Sequence[str], models: Iterable[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Lines of a table whose rows end with what was found by model."""
    lines = [heads, ["---"] * len(heads)]
    for *names, found in rows:
        lines.append([*names, *(f"{found[model]['001']:.2f} / {found[model]['05']:.2f}" for model in models)])
    return ["| " + " | ".join(line) + " |" for line in lines]


if __name__ == "__main__":
    print(markdown(json.loads((RESULTS / "calibration.json").read_text())["results"]))
