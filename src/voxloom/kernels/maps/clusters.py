"""Clusters of a map beyond thresholds: their labels, extent and mass, and the greatest of them in many maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.maps.component_tree import NONE, grow, make_scratch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.maps.component_tree import Tree
    from voxloom.kernels.maps.neighbours import Neighbourhood

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int32]


class Clusters(NamedTuple):
    """Clusters of one map, those with the highest peaks first.

    Attributes
    ----------
    label : (V,) array of int32
        Number of the voxel's cluster from 1; 0 in none.
    size : (C,) array of int64
        Voxels.
    mass : (C,) array
        Sum of the map; nilearn's mass, above the threshold, is ``mass - threshold * size``.
    """

    label: IntArray
    size: NDArray[np.int64]
    mass: FloatArray


class ClusterMaxima(NamedTuple):
    """Greatest extent and greatest mass of any cluster, each (B, T); 0 where there is none."""

    size: NDArray[np.int64]
    mass: FloatArray


def find_clusters(values: FloatArray, threshold: float, neighbourhood: Neighbourhood) -> Clusters:
    """Clusters of neighbouring voxels with values (V,) of at least the threshold; NaN are in none."""
    voxel, label = _one_map(np.ascontiguousarray(values, dtype=np.float64), threshold, neighbourhood)
    _, first, number = np.unique(label, return_index=True, return_inverse=True)
    by_peak = np.argsort(np.argsort(first))[number] + 1
    labels = np.zeros(len(values), np.int32)
    labels[voxel] = by_peak
    # in descending order, so that a mass is that of `cluster_maxima` to the last bit
    mass = np.bincount(by_peak, weights=values[voxel], minlength=1).astype(np.float64)
    return Clusters(labels, np.bincount(by_peak, minlength=1)[1:], mass[1:])


def cluster_maxima(
    values: FloatArray, thresholds: FloatArray, neighbourhood: Neighbourhood, *, two_sided: bool = False
) -> ClusterMaxima:
    """Greatest clusters of maps, from one sweep for all thresholds.

    Parameters
    ----------
    values : (B, V) array
    thresholds : (T,) array
        A voxel belongs to a cluster from its threshold up.
    neighbourhood : Neighbourhood
    two_sided : bool
        The greater of clusters of the map and of minus the map.
    """
    shape = (len(values), len(thresholds))
    maxima = ClusterMaxima(np.zeros(shape, np.int64), np.zeros(shape))
    _maxima(values, np.asarray(thresholds, dtype=np.float64), neighbourhood, two_sided, maxima.size, maxima.mass)
    return maxima


@nb.njit(nogil=True, cache=True)
def _one_map(values: FloatArray, threshold: float, neighbourhood: Neighbourhood) -> tuple[IntArray, IntArray]:
    """Voxels of clusters in descending order, and their clusters."""
    scratch = make_scratch(len(values), neighbourhood.n_cells)
    tree = grow(values, threshold, neighbourhood.cell, neighbourhood.steps, scratch)
    label = np.empty(len(tree.voxel), np.int32)
    _label(tree, len(tree.voxel), label)
    return tree.voxel.copy(), label


@nb.njit(nogil=True, cache=True)
def _maxima(
    values: FloatArray,
    thresholds: FloatArray,
    neighbourhood: Neighbourhood,
    two_sided: bool,
    greatest_size: NDArray[np.int64],
    greatest_mass: FloatArray,
) -> None:
    n_voxels = values.shape[1]
    scratch = make_scratch(n_voxels, neighbourhood.n_cells)
    upright, label = np.empty(n_voxels), np.empty(n_voxels, np.int32)
    floor = thresholds.min()
    for b in range(len(values)):
        for sign in range(1, -2 if two_sided else 0, -2):
            for v in range(n_voxels):
                upright[v] = sign * values[b, v]
            tree = grow(upright, floor, neighbourhood.cell, neighbourhood.steps, scratch)
            for t in range(len(thresholds)):
                n = _count(tree, upright, thresholds[t])
                size, mass = _measure(tree, upright, n, label)
                greatest_size[b, t] = max(greatest_size[b, t], size)
                greatest_mass[b, t] = max(greatest_mass[b, t], mass)


@nb.njit(nogil=True, cache=True)
def _count(tree: Tree, values: FloatArray, threshold: float) -> int:
    """Count nodes from the threshold up."""
    n = 0
    while n < len(tree.voxel) and values[tree.voxel[n]] >= threshold:
        n += 1
    return n


@nb.njit(nogil=True, cache=True)
def _label(tree: Tree, n: int, label: IntArray) -> int:
    """Number the components of the first n nodes from 0; return how many."""
    found = 0
    for k in range(n - 1, -1, -1):
        parent = tree.parent[k]
        if parent == NONE or parent >= n:
            label[k] = found
            found += 1
        else:
            label[k] = label[parent]
    return found


@nb.njit(nogil=True, cache=True)
def _measure(tree: Tree, values: FloatArray, n: int, label: IntArray) -> tuple[int, float]:
    """Greatest extent and greatest mass among the components of the first n nodes."""
    found = _label(tree, n, label)
    size, mass = np.zeros(found + 1, np.int64), np.zeros(found + 1)
    for k in range(n):
        size[label[k]] += 1
        mass[label[k]] += values[tree.voxel[k]]
    return size.max(), mass.max()
