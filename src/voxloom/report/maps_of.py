"""Maps of the runs of a study, added up run by run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from voxloom.io.store.regions import read_voxels
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.report.sections import background_of, quality_map
from voxloom.schema import voxel_coords

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxloom.io.study.open import Study
    from voxloom.report.blocks import Map
    from voxloom.report.volumes import Volume

    FloatArray = NDArray[np.float64]

#: Parameters of the noise that are drawn, of models that have more.
DRAWN = 2


def as_map(study: Study, values: FloatArray) -> xr.DataArray:
    """Values over the study's voxels, in their place."""
    return xr.DataArray(values, dims="voxel", coords=voxel_coords(study.grid, study.voxel))


class Mean:
    """Mean of maps, each over the voxels that it has."""

    def __init__(self, n_voxels: int) -> None:
        self.total, self.count = np.zeros(n_voxels), np.zeros(n_voxels)

    def add(self, values: NDArray[np.floating], inside: NDArray[np.bool_]) -> float:
        """Take in a map; return its median."""
        known = inside & np.isfinite(values)
        self.total[known] += values[known]
        self.count += known
        return float(np.median(values[known])) if known.any() else float("nan")

    @property
    def values(self) -> FloatArray:
        """The mean; NaN where no map has a value."""
        with np.errstate(invalid="ignore"):
            return self.total / self.count


class RunMaps:
    """Maps of a subject's runs: mean image, tSNR, parameters of the noise, coverage.

    Parameters
    ----------
    study : Study
    noise_model : str
    """

    def __init__(self, study: Study, noise_model: str) -> None:
        self.study, self.noise = study, NOISE_MODELS[noise_model].parameters[:DRAWN]
        self.means = {name: Mean(study.voxel.size) for name in ("mean", "tSNR", *self.noise)}
        self.coverage = np.zeros(study.voxel.size)

    def add(self, run_id: str, fit_path: str) -> dict[str, float]:
        """Take in a run; return the median of each of its maps."""
        objects, whole = self.study.objects, slice(0, self.study.voxel.size)
        in_mask = read_voxels(objects, f"runs/{run_id}/in_mask", whole)
        self.coverage += in_mask
        paths = {"mean": f"runs/{run_id}/mean", "tSNR": f"runs/{run_id}/tsnr"}
        paths |= {name: f"fits/{fit_path}/{name}" for name in self.noise}
        return {name: self.means[name].add(read_voxels(objects, path, whole), in_mask) for name, path in paths.items()}

    @property
    def background(self) -> Volume:
        """The mean image."""
        return background_of(as_map(self.study, self.means["mean"].values))

    @property
    def drawn(self) -> list[Map]:
        """Maps of quality for the page."""
        tsnr, *noise = (as_map(self.study, self.means[name].values) for name in ("tSNR", *self.noise))
        return [
            quality_map("tsnr", "tSNR", tsnr, "tSNR"),
            quality_map("coverage", "coverage", as_map(self.study, self.coverage), "runs"),
            *(quality_map(f"noise-{name}", f"noise: {name}", one, name) for name, one in zip(self.noise, noise)),
        ]


def mean_of_runs(study: Study, run_ids: Sequence[str]) -> xr.DataArray:
    """Mean image of some runs, each scaled to the same brightness, as scanners have units of their own."""
    mean, whole = Mean(study.voxel.size), slice(0, study.voxel.size)
    for run_id in run_ids:
        in_mask = read_voxels(study.objects, f"runs/{run_id}/in_mask", whole)
        values = read_voxels(study.objects, f"runs/{run_id}/mean", whole).astype(np.float64)
        mean.add(values / (np.median(values[in_mask]) or 1.0), in_mask)
    return as_map(study, mean.values)
