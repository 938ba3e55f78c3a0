"""Clusters of a map as a table: peaks and subpeaks, where they are, size, mass, and corrected p."""

from __future__ import annotations

from string import ascii_lowercase
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from voxloom.errors import InputError
from voxloom.kernels.maps.closed_testing import hommel_value
from voxloom.kernels.maps.peaks import peaks
from voxloom.models.first_level.noise import same_voxels
from voxloom.models.inference.clusters import MapClusters, map_clusters
from voxloom.models.inference.multiplicity import p_values
from voxloom.models.inference.true_discoveries import proportions
from voxloom.schema import Grid, grid_of

if TYPE_CHECKING:
    from os import PathLike

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Subpeaks listed of a cluster, as in nilearn.
SUBPEAKS = 3
COLUMNS = ("cluster_id", "x", "y", "z", "i", "j", "k", "peak", "size", "size_mm3", "mass")


def clusters_table(
    map: xr.DataArray,
    *,
    threshold: float,
    connectivity: int = 26,
    two_sided: bool = True,
    min_size: int = 1,
    min_distance: float = 8.0,
    p: xr.Dataset | None = None,
    ari_alpha: float | None = None,
    path: str | PathLike[str] | None = None,
) -> pd.DataFrame:
    """List the clusters of a map with their peaks.

    Positive clusters come first, each sign by the height of its peaks. Subpeaks follow their peak: local maxima further
    than `min_distance` from those above them, at most three (nilearn's rule). Of touching voxels of one value the one
    nearest to their centre is the peak.

    Parameters
    ----------
    map : DataArray
        ``(voxel)``, z or any statistic. A lazy one is computed. NaN is in no cluster.
    threshold : float
        On the scale of the map (a z, not a p); a voxel at it belongs to a cluster.
    connectivity : 6, 18 or 26
        Neighbours share a face; or an edge too; or a corner too. FSL and PALM use 26, nilearn 6.
    two_sided : bool
        List the clusters of minus the map as well.
    min_size : int
        Voxels below which a cluster is not listed; a cut of the list, not a correction.
    min_distance : float
        Between peaks of one cluster, mm.
    p : Dataset, optional
        Result of `permutation_test` on the same voxels: its maps ``p_...`` become columns, at every peak; those of
        clusters in the row of the cluster, where they are of the same clusters.
    ari_alpha : float, optional
        Add the column ``true_discovery_proportion`` at this error rate (see `true_discovery_proportion`); z maps only.
    path : path-like, optional
        Write the table there as well, tab-separated with ``n/a`` as in BIDS.

    Returns
    -------
    DataFrame
        A row per peak: ``cluster_id`` (1, then 1a, 1b, ... for its subpeaks), ``x, y, z`` (mm), ``i, j, k`` (voxel),
        ``peak`` (value of the map), and in the first row of a cluster ``size`` (voxels), ``size_mm3``, ``mass`` (sum
        of the map). ``attrs`` hold the parameters.

    Raises
    ------
    InputError
        A parameter is out of range, `p` has other voxels, or other clusters were tested in it.
    """
    if min_distance <= 0:
        raise InputError("min_distance", f"is {min_distance}.", "A positive distance in mm is wanted.")
    clusters = map_clusters(map, threshold, connectivity=connectivity, two_sided=two_sided)
    by_peak, by_cluster = ({}, {}) if p is None else _p_maps(p, map, clusters)
    if ari_alpha is not None:
        by_cluster["true_discovery_proportion"] = _true_discoveries(map, clusters, ari_alpha, two_sided)
    rows = _rows(map, clusters, min_size, min_distance, by_peak, by_cluster)
    table = pd.DataFrame(rows, columns=[*COLUMNS, *by_peak, *by_cluster]).astype({"size": "Int64"})
    table.attrs = {"threshold": threshold, "connectivity": connectivity, "two_sided": two_sided}
    table.attrs |= {"min_size": min_size, "min_distance": min_distance}
    if path is not None:
        table.to_csv(path, sep="\t", index=False, na_rep="n/a")
    return table


def _rows(
    map: xr.DataArray,
    clusters: MapClusters,
    min_size: int,
    min_distance: float,
    by_peak: dict[str, FloatArray],
    by_cluster: dict[str, FloatArray],
) -> list[dict[str, Any]]:
    grid, values = grid_of(map), np.asarray(map.to_numpy(), dtype=np.float64)
    ijk = np.stack(np.unravel_index(map["voxel"].to_numpy(), grid.shape), axis=1)
    order = np.argsort(clusters.label, kind="stable")
    edges = np.searchsorted(clusters.label[order], np.arange(1, clusters.size.size + 2))
    rows: list[dict[str, Any]] = []
    listed = np.flatnonzero(clusters.size >= min_size)
    for number, c in enumerate(listed.tolist(), start=1):
        members = order[edges[c] : edges[c + 1]]
        found = peaks(ijk[members], np.abs(values[members]), grid.matrix, min_distance)
        for letter, v in zip(["", *ascii_lowercase], members[found[: SUBPEAKS + 1]].tolist()):
            at = _place(ijk[v], grid) | {"peak": values[v]} | {name: column[v] for name, column in by_peak.items()}
            rows.append({"cluster_id": f"{number}{letter}"} | at | ({} if letter else _whole(clusters, c, grid)))
            if not letter:
                rows[-1] |= {name: column[c] for name, column in by_cluster.items()}
    return rows


def _place(ijk: NDArray[np.int64], grid: Grid) -> dict[str, Any]:
    xyz = grid.matrix[:3, :3] @ ijk + grid.matrix[:3, 3]
    return dict(zip("xyzijk", [*xyz.tolist(), *ijk.tolist()]))


def _whole(clusters: MapClusters, c: int, grid: Grid) -> dict[str, Any]:
    size = int(clusters.size[c])
    return {"size": size, "size_mm3": size * float(np.prod(grid.voxel_sizes)), "mass": float(clusters.mass[c])}


def _p_maps(
    p: xr.Dataset, map: xr.DataArray, clusters: MapClusters
) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Maps of p by voxel, and p by cluster where the clusters are those of the table."""
    maps = {str(k): np.asarray(v.to_numpy()) for k, v in p.items() if str(k).startswith("p_") and v.dims == ("voxel",)}
    if not maps:
        raise InputError("p", "has no map of p over voxels.", "The result of one permutation_test is wanted.")
    if not same_voxels(p, map):
        raise InputError("p", "its voxels are not those of the map.", "Test the same voxels.")
    of_clusters = {name for name in maps if name.startswith(("p_cluster_", "p_joint_cluster_"))}
    return (
        {name: values for name, values in maps.items() if name not in of_clusters},
        {name: _of_clusters(name, maps[name], clusters) for name in maps if name in of_clusters},
    )


def _of_clusters(name: str, values: FloatArray, clusters: MapClusters) -> FloatArray:
    """One p of every cluster; every voxel of a cluster carries it."""
    inside = clusters.label > 0
    least, greatest = np.full(clusters.size.size, np.inf), np.full(clusters.size.size, -np.inf)
    np.minimum.at(least, clusters.label[inside] - 1, values[inside])
    np.maximum.at(greatest, clusters.label[inside] - 1, values[inside])
    if np.any(least != greatest):
        raise InputError(
            name, "differs within a cluster of the table.", "Give the threshold, connectivity and map of the test."
        )
    return least


def _true_discoveries(map: xr.DataArray, clusters: MapClusters, alpha: float, two_sided: bool) -> FloatArray:
    p = p_values(map, "z", two_sided)
    return proportions(p, clusters.label, hommel_value(p[np.isfinite(p)], alpha), alpha)
