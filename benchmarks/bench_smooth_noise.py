"""False positives where parameters of the noise are smoothed over voxels, in null volumes whose noise changes in space.

150 scans of 32 x 32 x 32 voxels of 3 mm, two block conditions, six cosines, 24 random walks. Noise is smooth by 6 mm or
independent from voxel to voxel, and its coefficients change over 20 mm or lie in patches of 10 mm. Passes are counted:
voxels share their noise, so chances given the residuals (`_null_data`) would not be exact. Two volumes a cell, three
contrasts: standard errors 0.07 at p < .001 and 0.015 at p < .05. ``python -m benchmarks.bench_smooth_noise`` prints the
table of `docs/explanation/statistics.md` from the last result.
"""

from __future__ import annotations

import json
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import gaussian_filter

from benchmarks._harness import RESULTS, machine, one_thread
from voxloom.kernels.volumes.smooth import FWHM_PER_SIGMA
from voxloom.models.contrasts import contrast
from voxloom.models.first_level.fit import fit_first_level
from voxloom.models.first_level.noise import smooth_noise
from voxloom.schema import Grid, voxel_coords

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

T, MM, SIDE, FWHM = 150, 3.0, 32, 6.0
CONTRASTS = ("a", "b", "a - b")
LEVELS = (0.001, 0.05)
SEEDS = (0, 1)


def design(seed: int) -> pd.DataFrame:
    """Two block conditions, six cosines, 24 random walks and a constant."""
    rng = np.random.default_rng(seed)
    t = 2.0 * np.arange(T)
    response = (t / 5) ** 5 * np.exp(-t)
    blocks = [np.convolve((t + shift) % 60 < 15, response[:16])[:T] for shift in (0, 30)]
    cosines = np.cos(np.pi * np.outer(np.arange(T) + 0.5, np.arange(1, 7)) / T)
    X = np.column_stack([*blocks, cosines, rng.standard_normal((T, 24)).cumsum(axis=0), np.ones(T)])
    return pd.DataFrame(X, columns=["a", "b", *(f"c{i}" for i in range(30)), "constant"])


def _field(rng: np.random.Generator, side: int, fwhm: float) -> FloatArray:
    """White noise of this many voxels in three directions, smooth by `fwhm` mm, of variance 1."""
    image = rng.standard_normal((side,) * 3)
    smooth = gaussian_filter(image, fwhm / FWHM_PER_SIGMA / MM, mode="wrap") if fwhm else image
    return np.asarray(smooth / smooth.std())


def smooth_map(rng: np.random.Generator, side: int) -> FloatArray:
    """Coefficients of mean 0.4 and standard deviation 0.15 that change over 20 mm."""
    return np.clip(0.4 + 0.15 * _field(rng, side, 20), -0.2, 0.85)


def tissue_map(rng: np.random.Generator, side: int) -> FloatArray:
    """Coefficients of 0.2 and 0.6 in patches with sharp borders, of 10 mm or so."""
    return np.where(_field(rng, side, 10) > 0, 0.6, 0.2)


MAPS = {"change over 20 mm": smooth_map, "patches of 10 mm": tissue_map}


class Cell(NamedTuple):
    """What is measured at once: noise that is smooth by `fwhm` mm, with as much white noise on top or none."""

    model: str
    coefficients: str
    fwhm: float = FWHM
    white: bool = False

    @property
    def name(self) -> str:
        """Of the noise."""
        on_top, spread = " + white" if self.white else "", "" if self.fwhm else ", independent"
        return f"AR(1){on_top}{spread}, {self.coefficients}"


CELLS = [
    *(Cell(model, where) for model in ("arma11", "ar2", "ar1") for where in MAPS),
    Cell("arma11", "change over 20 mm", white=True),
    Cell("ar1", "change over 20 mm", fwhm=0.0),
]


def volumes(rho: FloatArray, rng: np.random.Generator, cell: Cell) -> xr.DataArray:
    """AR(1) of these coefficients and variance 1, and white noise where it is wanted."""
    flat, Y = rho.ravel(), np.empty((T, rho.size))
    Y[0] = _field(rng, len(rho), cell.fwhm).ravel()
    for t in range(1, T):
        Y[t] = flat * Y[t - 1] + np.sqrt(1 - flat**2) * _field(rng, len(rho), cell.fwhm).ravel()
    if cell.white:
        Y += np.array([_field(rng, len(rho), cell.fwhm).ravel() for _ in range(T)])
    coords = voxel_coords(Grid.of(rho.shape, np.diag([MM, MM, MM, 1.0])), np.arange(rho.size))
    return xr.DataArray(Y.T + 100, dims=("voxel", "time"), coords=coords, name="bold")


def false_positives(cell: Cell, seed: int, side: int = SIDE) -> FloatArray:
    """Shares (fit, level) below `LEVELS`, two-sided, over these: each voxel's own noise, and that smoothed by 6 mm."""
    rng, X = np.random.default_rng(seed), design(seed)
    bold = volumes(MAPS[cell.coefficients](rng, side), rng, cell)
    alone = fit_first_level(bold, X, noise_model=cell.model)
    smooth = fit_first_level(bold, X, noise_model=cell.model, noise=smooth_noise(alone, FWHM))
    p = np.array([[contrast(fit, wanted)["p_value"] for wanted in CONTRASTS] for fit in (alone, smooth)])
    p = 2 * np.minimum(p, 1 - p)
    return np.array([[np.mean(of_fit < level) / level for level in LEVELS] for of_fit in p])


def _measure(cell: Cell) -> FloatArray:
    with one_thread():
        return np.mean([false_positives(cell, seed) for seed in SEEDS], axis=0)


def run() -> dict[str, Any]:
    """Every cell, in as many processes as there are cores."""
    results: dict[str, Any] = {}
    with ProcessPoolExecutor(machine()["cores"]) as pool:
        for cell, found in zip(CELLS, pool.map(_measure, CELLS)):
            named = [{f"{level:g}"[2:]: round(float(x), 3) for level, x in zip(LEVELS, row)} for row in found]
            results.setdefault(cell.name, {})[cell.model] = dict(zip(("alone", "smoothed"), named))
    return results


def markdown(results: Mapping[str, Any]) -> str:
    """The table of docs/explanation/statistics.md."""
    lines = ["| noise | model | each voxel alone | smoothed |", "|---|---|---|---|"]
    for name, models in sorted(results.items()):
        for model, found in sorted(models.items()):
            rates = [f"{found[fit]['001']:.1f} / {found[fit]['05']:.2f}" for fit in ("alone", "smoothed")]
            lines.append(f"| {name} | `{model}` | {rates[0]} | {rates[1]} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(markdown(json.loads((RESULTS / "smooth_noise.json").read_text())["results"]))
