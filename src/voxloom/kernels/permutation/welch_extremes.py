"""Greatest Aspin-Welch v or G over voxels under every rearrangement, as deviates, and how often voxels reach theirs.

A normal deviate by degrees of freedom costs as much as all else of a voxel. It lies between those for the fewest and
the most degrees of freedom that the groups can have, which are looked up; so few voxels can be the greatest, or are
near what they are to reach, and only these are turned into deviates. Where one comes within `NEAR` of deciding, a refit
in a fixed order of summation does: results are those of refits, bit-identical for any cut of voxels or rearrangements.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np
from scipy import special

from voxloom.kernels.permutation.variance_groups import VarianceGroups, Welch, as_z, refit
from voxloom.kernels.permutation.welch_maps import tiles
from voxloom.kernels.tails import z_to_t

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray
    from voxloom.kernels.permutation.welch_maps import Tile

    FloatArray = NDArray[np.float64]
    CountArray = NDArray[np.int64]
    IntArray = NDArray[np.int64]

#: Deviates of the products are good to this share of their size and 1, and a hundred times better where all is well.
NEAR = 1e-7
#: Deviates at which the bounds are known, from the negative of the greatest to it, and their step.
MOST_Z, STEP = 12.0, 0.01
#: Degrees of freedom at which the bounds are taken.
BETWEEN = 17


class Bounds(NamedTuple):
    """What v or G can be at each deviate, whatever its degrees of freedom.

    Attributes
    ----------
    low, high : (steps + 1,) arrays
        Increasing; at deviates from ``-MOST_Z`` on.
    """

    low: FloatArray
    high: FloatArray


class Reached(NamedTuple):
    """Greatest deviate of each rearrangement (P,), -inf where no voxel can be tested; counts of each voxel (V,)."""

    greatest: FloatArray
    counts: CountArray


def welch_extremes(
    Y: NDArray[np.floating],
    indices: IndexArray,
    model: Projections,
    groups: VarianceGroups,
    *,
    two_sided: bool,
    bars: FloatArray | None = None,
) -> Reached:
    """Greatest deviate, or its size, over the voxels of Y for each rearrangement.

    Parameters
    ----------
    Y : (n, V) array
        Maps.
    indices : (P, n) array of int32
        Rearrangements, 1-based and signed.
    model : Projections
        What is taken from the data before.
    groups : VarianceGroups
    two_sided : bool
        Of v: take its size.
    bars : (V,) array, optional
        Counts the rearrangements whose deviate (or its size) is at least this at each voxel; NaN is never reached.
    """
    bounds = bounds_of(groups.signed, groups.n_effects, tuple(groups.dof))
    found = Reached(np.full(len(indices), -np.inf), np.zeros(Y.shape[1], np.int64))
    known = None if bars is None else _bars(bars, bounds)
    for tile in tiles(Y, indices, model, groups):
        refits = Refits(tile, indices[tile.part], groups, two_sided)
        _raise(found.greatest[tile.part], refits, bounds)
        if known is not None:
            voxels = tile.block.start + tile.columns
            found.counts[voxels] += _count(Bars(*(row[voxels] for row in known)), refits)
    return found


class Refits:
    """Deviates of a tile, or their sizes, of the products and by refits."""

    def __init__(self, tile: Tile, indices: IndexArray, groups: VarianceGroups, two_sided: bool) -> None:
        self.tile, self.indices, self.groups, self.two_sided = tile, indices, groups, two_sided
        self.heights = np.abs(tile.found.stat) if two_sided else tile.found.stat

    def rough(self, p: IntArray, v: IntArray) -> FloatArray:
        """Of the products; NaN where a refit is needed."""
        return as_z(Welch(self.heights[p, v], self.tile.found.dof[p, v]), self.groups)

    def exact(self, p: IntArray, v: IntArray) -> FloatArray:
        """By refits."""
        z = as_z(refit(self.tile.e, self.indices, p, v, self.groups), self.groups)
        return np.abs(z) if self.two_sided else z


def _raise(greatest: FloatArray, refits: Refits, bounds: Bounds) -> None:
    """Raise the greatest deviates (P,) to those of a tile."""
    p, v = _candidates(refits.heights, greatest, bounds)
    rough, top = refits.rough(p, v), greatest.copy()
    np.fmax.at(top, p, rough)
    near = ~(rough < top[p] - NEAR * (1 + np.abs(top[p])))  # NaN is near everything
    p, v = p[near], v[near]
    np.maximum.at(greatest, p, refits.exact(p, v))


class Bars(NamedTuple):
    """What voxels are to reach (V,): deviates; and statistics below which that is not reached, and from which it is."""

    z: FloatArray
    low: FloatArray
    high: FloatArray


def _bars(z: FloatArray, bounds: Bounds) -> Bars:
    """Look up what reaches a deviate; NaN is never reached."""
    at, last = (z + MOST_Z) / STEP, len(bounds.low) - 1
    known = np.nan_to_num(at, nan=0.0, posinf=last, neginf=0.0)
    below, above = (np.clip(edge, 0, last).astype(np.int64) for edge in (np.floor(known - NEAR), np.ceil(known + NEAR)))
    low = np.where(at < 0, -np.inf, bounds.low[below])
    high = np.where(at > last, np.inf, bounds.high[above])
    return Bars(z, *(np.where(np.isnan(z), np.inf, edge) for edge in (low, high)))


def _count(bars: Bars, refits: Refits) -> CountArray:
    """How often each voxel of a tile (V,) reaches its bar."""
    counts = np.zeros(len(bars.z), np.int64)
    p, v = _sort_out(refits.heights, bars, counts)
    z, bar = refits.rough(p, v), bars.z[v]
    near = ~(np.abs(z - bar) > NEAR * (1 + np.abs(bar)))
    z[near] = refits.exact(p[near], v[near])
    np.add.at(counts, v, z >= bar)
    return counts


@nb.njit(nogil=True, cache=True)
def _candidates(heights: FloatArray, greatest: FloatArray, bounds: Bounds) -> tuple[IntArray, IntArray]:
    """Find who may have a deviate above the greatest: rearrangements and voxels; NaN may."""
    at_p, at_v = np.empty(heights.size, np.int64), np.empty(heights.size, np.int64)
    n, last = 0, len(bounds.low) - 1
    for p in range(len(heights)):
        top = -np.inf
        for h in heights[p]:
            top = max(top, h)  # NaN is not greater
        # the voxel of the greatest statistic has at least the deviate of that with the fewest degrees of freedom
        place = np.int64(np.searchsorted(bounds.high, top, side="right")) - 1
        if greatest[p] > -MOST_Z:
            place = max(place, np.int64(min(np.floor((greatest[p] + MOST_Z) / STEP - NEAR), last)))
        bar = bounds.low[place] if place >= 0 else -np.inf
        for v in range(heights.shape[1]):
            if not heights[p, v] < bar:
                at_p[n], at_v[n] = p, v
                n += 1
    return at_p[:n], at_v[:n]


@nb.njit(nogil=True, cache=True)
def _sort_out(heights: FloatArray, bars: Bars, counts: CountArray) -> tuple[IntArray, IntArray]:
    """Count where the bar is surely reached; return where that is not known: rearrangements and voxels."""
    at_p, at_v = np.empty(heights.size, np.int64), np.empty(heights.size, np.int64)
    n, low, high = 0, bars.low, bars.high
    for p in range(len(heights)):
        row, unsure = heights[p], np.int64(0)
        for v in range(row.size):
            reached = np.int64(row[v] >= high[v])
            counts[v] += reached
            unsure += np.int64(row[v] >= low[v]) - reached + np.int64(row[v] != row[v])  # NaN is unsure
        if not unsure:
            continue
        for v in range(row.size):
            if not (row[v] < low[v] or row[v] >= high[v]):
                at_p[n], at_v[n] = p, v
                n += 1
    return at_p[:n], at_v[:n]


def bounds_of(signed: bool, n_effects: int, dofs: tuple[float, ...]) -> Bounds:
    """Bounds for groups with these degrees of freedom.

    A = sum (1 - f_g)^2 / d_g of shares f that sum to 1 is least where 1 - f_g are as d_g, and greatest where one share
    is 1.
    """
    d, r = np.asarray(dofs), n_effects
    least, greatest = (len(d) - 1) ** 2 / d.sum(), (1 / d).sum() - 1 / d.max()
    return _bounds(signed, r, r * (r + 2) / (3 * greatest), r * (r + 2) / (3 * least))


@lru_cache(maxsize=16)
def _bounds(signed: bool, n_effects: int, fewest: float, most: float) -> Bounds:
    z = np.arange(-MOST_Z, MOST_Z + STEP / 2, STEP)
    dof = 1 / np.linspace(1 / fewest, 1 / most, BETWEEN)[:, np.newaxis]
    with np.errstate(all="ignore"):
        values = z_to_t(z, dof) if signed else 1 / special.fdtri(dof, n_effects, special.ndtr(-z))
    # between the ends the bound of t grows steadily, that of F nearly so
    room = (NEAR if signed else 1e-3) * (1 + np.abs(values))
    low = np.fmax.accumulate(np.fmin.reduce(values - room))
    high = np.fmin.accumulate(np.where(np.isnan(values), np.inf, values + room).max(axis=0)[::-1])[::-1]
    return Bounds(low, np.ascontiguousarray(high))
