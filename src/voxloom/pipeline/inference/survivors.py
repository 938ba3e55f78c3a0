"""What is left of the maps of group models at their level: for the line that a command prints at its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from voxloom.engine.events import monte_carlo_error
from voxloom.io.study.open import open_study
from voxloom.pipeline.inference.corrections import p_maps

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.io.study.open import Study
    from voxloom.spec import GroupAnalysis

#: Voxels that touch at a corner are of one cluster, as FSL and PALM count.
TOUCHING = np.ones((3, 3, 3))


@dataclass(frozen=True, kw_only=True)
class Survivors:
    """Voxels of one map of p that are at most alpha.

    Parameters
    ----------
    name : str
        Of the map, such as ``p_tfce``.
    n_voxels, n_clusters : int
    least : float
        Smallest p; NaN where no voxel could be tested.
    """

    name: str
    n_voxels: int
    n_clusters: int
    least: float

    def __str__(self) -> str:
        clusters = f"{self.n_clusters} cluster{'s' * (self.n_clusters != 1)}"
        where = f"{self.n_voxels:>8} voxels in {clusters}" if self.n_voxels else "       0 voxels"
        return f"  {self.name:<22}{where}, smallest p {self.least:.3g}"


def survivors(analysis: GroupAnalysis) -> list[str]:
    """Lines on every group contrast: how many voxels and clusters survive, by each map of p, and how sure p is."""
    study, lines = open_study(analysis.store.path), list[str]()
    for name, model in analysis.group.items():
        results = study.results(analysis.group_digest(name))
        for contrast in results["contrast"].to_numpy():
            for column, test in enumerate(results["group_contrast"].to_numpy()):
                found = results.sel(contrast=contrast, group_contrast=test)
                sure = how_sure(found, column, model.inference.alpha)
                lines.append(f"{name}, {test}: {len(results.attrs['subjects'])} maps{sure}")
                lines += [str(of_map(study, found[p], model.inference.alpha)) for p in p_maps(model.inference)]
    return lines


def how_sure(found: xr.Dataset, column: int, alpha: float) -> str:
    """How many rearrangements there were, and the Monte Carlo error of p at alpha."""
    null = next((found[name] for name in found if str(name).startswith("null_")), None)
    if null is None:
        return ""
    n_perm = int(np.count_nonzero(~np.isnan(null.to_numpy())))
    exhaustive = null.attrs["exhaustive"][column]
    sure = "all there are" if exhaustive else f"p = {alpha:g} good to {monte_carlo_error(alpha, n_perm):.2g}"
    return f", {n_perm} permutations ({sure})"


def of_map(study: Study, p: xr.DataArray, alpha: float) -> Survivors:
    """Count voxels and clusters of one map of p at most alpha."""
    values: NDArray[np.float64] = p.to_numpy()
    volume = np.zeros(study.grid.shape, bool)
    volume.reshape(-1)[study.voxel] = values <= alpha
    least = float(np.nanmin(values)) if np.isfinite(values).any() else float("nan")
    return Survivors(
        name=str(p.name), n_voxels=int(volume.sum()), n_clusters=int(ndimage.label(volume, TOUCHING)[1]), least=least
    )
