"""Statistics of whole maps in a permutation test: clusters and TFCE, as observed and as maxima of every rearrangement.

The maps may be made here, a batch of rearrangements at a time (`null_spatial`), or come from where voxel shards wrote
them (`spatial_maxima`); the numbers are the same to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

from voxloom.kernels.maps.clusters import cluster_maxima, find_clusters
from voxloom.kernels.maps.neighbours import Neighbourhood, neighbourhood
from voxloom.kernels.maps.tfce import tfce_maxima, tfce_scores
from voxloom.kernels.tails import z_to_t
from voxloom.models.inference.permutation import rearranged_stat, tiles
from voxloom.spec.statistics import TFCE, Cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.models.inference.permutation import PreparedTest
    from voxloom.spec.statistics import Statistic

    FloatArray = NDArray[np.float64]

#: What a cluster statistic takes of clusters: a field of `Clusters` and of `ClusterMaxima`.
MEASURES = {"cluster_size": "size", "cluster_mass": "mass"}


@dataclass(frozen=True, eq=False)
class SpatialTest:
    """Spatial statistics of a permutation test, for the voxels of a map.

    Attributes
    ----------
    test : PreparedTest
    statistics : mapping of str to Statistic
        By the names of their results; only those of the whole map count.
    voxel : (V,) array of int
        Flat C-order indices of the voxels.
    shape : 3 int
        Of the volume.
    """

    test: PreparedTest
    statistics: Mapping[str, Statistic]
    voxel: NDArray[np.int64]
    shape: Sequence[int]

    @cached_property
    def clusters(self) -> dict[str, Cluster]:
        """Cluster statistics by the names of their results."""
        return {name: one for name, one in self.statistics.items() if isinstance(one, Cluster)}

    @cached_property
    def enhanced(self) -> dict[str, TFCE]:
        """TFCE by the names of their results."""
        return {name: one for name, one in self.statistics.items() if isinstance(one, TFCE)}

    @cached_property
    def neighbourhoods(self) -> dict[int, Neighbourhood]:
        """Where the neighbours of a voxel are, by connectivity."""
        wanted = {one.connectivity for one in (self.clusters | self.enhanced).values()}
        return {connectivity: neighbourhood(self.voxel, self.shape, connectivity) for connectivity in wanted}

    def height(self, one: Cluster) -> float:
        """Cluster-forming threshold on the map that the clusters are formed on."""
        z = float(-special.ndtri_exp(np.log(one.threshold)))
        return z if one.on == "z" else _STAT_OF_Z[self.test.stat_type](self.test, z)

    def maps(self, stat: FloatArray) -> dict[str, FloatArray]:
        """Maps that the statistics are made of, by what they are called `on`."""
        wanted = {one.on for one in (self.clusters | self.enhanced).values()}
        stat = np.ascontiguousarray(stat, dtype=np.float64)
        return {on: self.test.to_z(stat) if on == "z" else stat for on in wanted}


#: Value whose upper tail is that of z, by the type of the statistic; of pseudo-t that of t.
_STAT_OF_Z: dict[str, Callable[[PreparedTest, float], float]] = {
    "t": lambda test, z: float(z_to_t(z, test.model.dof)),
    "F": lambda test, z: float(1 / special.fdtri(test.model.dof, test.model.effect.shape[1], special.ndtr(-z))),
    "z": lambda test, z: z,
    "pseudo-t": lambda test, z: float(z_to_t(z, test.model.dof)),
}


def observed_spatial(spatial: SpatialTest, stat: FloatArray) -> dict[str, FloatArray]:
    """Compute the statistics at every voxel of the observed map.

    Parameters
    ----------
    spatial : SpatialTest
    stat : (V,) array
        By `models.inference.permutation.observed_stat`.

    Returns
    -------
    dict of str to (V,) array
        By the names of the results. All voxels of a cluster have its size or mass, others 0. Of a two-sided test,
        values of the negative side are negative. NaN where `stat` is.
    """
    maps, untested = spatial.maps(stat), np.isnan(stat)
    sides = (1, -1) if spatial.test.two_sided else (1,)
    values = {}
    for name, one in spatial.clusters.items():
        values[name] = sum(side * _of_clusters(spatial, one, side * maps[one.on]) for side in sides)
    for name, tfce in spatial.enhanced.items():
        near = spatial.neighbourhoods[tfce.connectivity]
        values[name] = tfce_scores(maps[tfce.on][np.newaxis], near, **_parameters(spatial, tfce))[0]
    return {name: np.where(untested, np.nan, value) for name, value in values.items()}


def _of_clusters(spatial: SpatialTest, one: Cluster, values: FloatArray) -> FloatArray:
    """Size or mass of the cluster of every voxel of a map."""
    found = find_clusters(values, spatial.height(one), spatial.neighbourhoods[one.connectivity])
    return np.concatenate([[0.0], getattr(found, MEASURES[one.name])])[found.label]


def spatial_maxima(spatial: SpatialTest, stat: FloatArray) -> dict[str, FloatArray]:
    """Greatest value over voxels of each statistic in every map, of both signs where the test is two-sided.

    Parameters
    ----------
    spatial : SpatialTest
    stat : (P, V) array
        Maps of t or F under rearrangements; NaN where a voxel cannot be tested.

    Returns
    -------
    dict of str to (P,) array
        By the names of the results.
    """
    maps, maxima = spatial.maps(stat), {}
    for on, connectivity in {(one.on, one.connectivity) for one in spatial.clusters.values()}:
        alike = {k: one for k, one in spatial.clusters.items() if (one.on, one.connectivity) == (on, connectivity)}
        heights = np.array([spatial.height(one) for one in alike.values()])
        near = spatial.neighbourhoods[connectivity]
        found = cluster_maxima(maps[on], heights, near, two_sided=spatial.test.two_sided)
        for column, (name, one) in enumerate(alike.items()):
            maxima[name] = getattr(found, MEASURES[one.name])[:, column].astype(np.float64)
    for name, tfce in spatial.enhanced.items():
        near = spatial.neighbourhoods[tfce.connectivity]
        maxima[name] = tfce_maxima(maps[tfce.on], near, **_parameters(spatial, tfce))
    return maxima


def _parameters(spatial: SpatialTest, one: TFCE) -> dict[str, Any]:
    return {"E": one.E, "H": one.H, "steps": one.steps, "two_sided": spatial.test.two_sided}


def null_spatial(
    spatial: SpatialTest, Y: NDArray[Any], *, start: int = 0, stop: int | None = None
) -> dict[str, FloatArray]:
    """Do `spatial_maxima` for rearrangements `start` to `stop` - 1 of the maps Y (n, V), all voxels of the map.

    Beside Y it takes two arrays of the maps of `PERMUTATIONS` rearrangements (512 bytes a voxel) and little more,
    whatever the number of rearrangements; of pseudo-t seven.
    """
    test = spatial.test
    stop = test.n_perm if stop is None else stop
    one_sided = test.model.signed and not test.two_sided
    if test.rearrangements.mirrored and (start, stop) == (0, test.n_perm) and not (one_sided or test.apart):
        half = null_spatial(spatial, Y, start=0, stop=stop // 2)  # the others are the mirror images
        return {name: np.concatenate([maxima, maxima[::-1]]) for name, maxima in half.items()}
    names = [*spatial.clusters, *spatial.enhanced]
    maxima = {name: np.empty(stop - start) for name in names}
    for at, end in tiles(start, stop) if names else ():
        part = spatial_maxima(spatial, rearranged_stat(test, Y, start=at, stop=end))
        for name in names:
            maxima[name][at - start : end - start] = part[name]
    return maxima
