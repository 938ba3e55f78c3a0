"""A permutation test run over any voxels and rearrangements: statistics, their maxima, counts, and p."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.permutation import maxstat
from voxloom.kernels.permutation.nuisance import cosine_of_stat, stat_of_cosine
from voxloom.kernels.permutation.partial_maps import partial_stat, partial_voxels
from voxloom.kernels.permutation.pseudo_t import pseudo_t_maps
from voxloom.kernels.permutation.stat_maps import PERMUTATIONS, cosine_maps
from voxloom.kernels.permutation.welch_extremes import welch_extremes
from voxloom.kernels.permutation.welch_maps import observed_z, z_maps
from voxloom.models.inference.null_p import TIE_RTOL, counted_p
from voxloom.models.inference.prepared_test import PreparedTest, prepare_test

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray
    from voxloom.kernels.permutation.variance_groups import VarianceGroups

    FloatArray = NDArray[np.float64]

__all__ = [
    "PreparedTest",
    "count_reached",
    "fwe_p",
    "null_max_stat",
    "observed_stat",
    "prepare_test",
    "rearranged_stat",
    "sweep",
    "swept_of",
    "tiles",
    "uncorrected_p",
]

#: Rearranged rows (indices and float32 design) made at once.
BATCH_BYTES = 64 * 2**20
#: Rearrangements and voxels that lack maps whose statistic is made at once, 512 KiB.
PARTIAL_TILE = 128, 512


class Swept(NamedTuple):
    """What a sweep over rearrangements finds in a shard of voxels.

    Attributes
    ----------
    maxima : (P,) array
        Of the statistic; -inf where no voxel can be tested.
    reached : (V,) array of int
        In how many rearrangements the voxel's statistic reaches what was asked; 0 when nothing was.
    """

    maxima: FloatArray
    reached: NDArray[np.int64]


def observed_stat(test: PreparedTest, Y: NDArray[Any]) -> FloatArray:
    """Compute the statistic of every voxel of the maps Y (n, V); NaN where a voxel cannot be tested.

    It is t, or F of several contrast rows; with variance groups v or G as a normal deviate. Where maps are missing it
    is that of the others, as the t or F that has the same p with the degrees of freedom of all maps.
    """
    Y = _maps(test, Y)
    if test.groups is not None:
        return observed_z(Y, test.as_observed, test.groups)
    identity = np.arange(1, len(Y) + 1, dtype=np.int32)[np.newaxis]
    if test.smoothing is not None:
        return np.asarray(_stat_maps(test, Y, identity, test.as_observed)[0])
    stat, columns = stat_of_cosine(maxstat.observed(Y, test.as_observed), test.as_observed), _partial(test, Y)
    for piece in _pieces(columns):
        stat[piece] = partial_stat(Y[:, piece], identity, test.as_observed)[0]
    return stat


def null_max_stat(test: PreparedTest, Y: NDArray[Any], *, start: int = 0, stop: int | None = None) -> FloatArray:
    """Maximum of the statistic over the voxels of Y under rearrangements `start` to `stop` - 1.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps, one shard of voxels; the maxima of shards merge by ``np.maximum``, bit for bit.
    start, stop : int
        Stretch of rearrangements, all of them when not given.

    Returns
    -------
    (stop - start,) array
        -inf where no voxel of the shard can be tested.
    """
    return sweep(test, Y, start=start, stop=stop).maxima


def count_reached(
    test: PreparedTest, Y: NDArray[Any], stat: FloatArray, *, start: int = 0, stop: int | None = None
) -> NDArray[np.int64]:
    """In how many of the rearrangements `start` to `stop` - 1 each voxel's statistic reaches `stat`, (V,)."""
    return sweep(test, Y, stat, start=start, stop=stop).reached


def sweep(
    test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None = None, *, start: int = 0, stop: int | None = None
) -> Swept:
    """Do `null_max_stat` and, for what `stat` says, `count_reached` in one.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps, one shard of voxels.
    stat : (V,) array, optional
        Statistic to reach, to `TIE_RTOL`: of a two-sided test in size. NaN is never reached. Counts of stretches
        of rearrangements add up, to the last one.
    start, stop : int
        Stretch of rearrangements, all of them when not given.
    """
    Y, stop = _maps(test, Y), test.n_perm if stop is None else stop
    if start == 0 and test.apart:
        return _joined(_as_observed(test, Y, stat), sweep(test, Y, stat, start=1, stop=stop))
    if test.smoothing is not None:
        return _swept_maps(test, Y, stat, start, stop)
    if test.groups is not None:
        return _swept_groups(test, test.groups, Y, stat, start, stop)
    found = _swept_complete(test, Y, stat, start, stop)
    for columns in _pieces(_partial(test, Y)):
        part = _swept_partial(test, Y[:, columns], None if stat is None else stat[columns], start, stop)
        np.maximum(found.maxima, part.maxima, out=found.maxima)
        found.reached[columns] = part.reached
    return found


def _swept_complete(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None, start: int, stop: int) -> Swept:
    """Sweep over the voxels that every map has; others are not reached."""
    bars = None if stat is None else cosine_of_stat(_least_tie(test, stat), test.model)
    if test.rearrangements.mirrored and (start, stop) == (0, test.n_perm):
        return _both_halves(test, _extremes(test, Y, 0, stop // 2, bars, mirrored=test.model.signed))
    found = _extremes(test, Y, start, stop, bars, mirrored=test.two_sided)
    return Swept(stat_of_cosine(_heights(test, found), test.model), found.reached)


def _swept_maps(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None, start: int, stop: int) -> Swept:
    """Sweep over maps that are made `PERMUTATIONS` at a time."""
    found = Swept(np.full(stop - start, -np.inf), np.zeros(Y.shape[1], np.int64))
    for at, end in tiles(start, stop):
        part = swept_of(test, rearranged_stat(test, Y, start=at, stop=end), stat)
        found.maxima[at - start : end - start] = part.maxima
        found.reached[:] += part.reached
    return found


def _swept_partial(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None, start: int, stop: int) -> Swept:
    """Sweep over voxels that lack maps."""
    found = Swept(np.full(stop - start, -np.inf), np.zeros(Y.shape[1], np.int64))
    for rows in sub_blocks(stop - start, PARTIAL_TILE[0]):
        indices = test.rearrangements.draw(start + rows.start, start + rows.stop)
        part = swept_of(test, partial_stat(Y, indices, test.model), stat)
        found.maxima[rows] = part.maxima
        found.reached[:] += part.reached
    return found


def _partial(test: PreparedTest, Y: NDArray[Any]) -> NDArray[np.int64]:
    """Voxels that lack maps and can be tested without."""
    return partial_voxels(Y, test.least_maps) if test.takes_partial else np.empty(0, np.int64)


def _pieces(columns: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (columns[piece] for piece in sub_blocks(columns.size, PARTIAL_TILE[1]))


def _swept_groups(
    test: PreparedTest, groups: VarianceGroups, Y: NDArray[Any], stat: FloatArray | None, start: int, stop: int
) -> Swept:
    """Sweep with variance groups, within half of `BATCH_BYTES`: their rows are float64."""
    found = Swept(np.empty(stop - start), np.zeros(Y.shape[1], np.int64))
    bars = None if stat is None else _least_tie(test, stat)
    rows = groups.rows.shape[1] + len(groups.size)
    batch = max(1, BATCH_BYTES // 2 // (8 * rows * len(Y)) // PERMUTATIONS) * PERMUTATIONS
    for i in range(start, stop, batch):
        indices = test.rearrangements.draw(i, min(i + batch, stop))
        part = welch_extremes(Y, indices, test.model, groups, two_sided=test.two_sided, bars=bars)
        found.maxima[i - start : i - start + len(indices)] = part.greatest
        found.reached[:] += part.counts
    return found


def swept_of(test: PreparedTest, maps: FloatArray, stat: FloatArray | None) -> Swept:
    """Sweep over maps (P, V) of `rearranged_stat`, which are overwritten."""
    heights = np.abs(maps, out=maps) if test.two_sided else maps
    reached = np.zeros(maps.shape[1]) if stat is None else (heights >= _least_tie(test, stat)).sum(axis=0)
    return Swept(np.fmax.reduce(heights, axis=1, initial=-np.inf), reached.astype(np.int64))


def tiles(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Cut a stretch of rearrangements at multiples of `PERMUTATIONS`."""
    edges = range(start - start % PERMUTATIONS, stop, PERMUTATIONS)
    return ((max(edge, start), min(edge + PERMUTATIONS, stop)) for edge in edges)


def _both_halves(test: PreparedTest, half: maxstat.Extremes) -> Swept:
    """Make a sweep over all sign flips of one over half of them, of which the others are the mirror images."""
    heights = _heights(test, half)
    images = heights if test.two_sided or not test.model.signed else -half.least
    reached = half.reached if test.model.signed and not test.two_sided else 2 * half.reached
    return Swept(stat_of_cosine(np.concatenate([heights, images[::-1]]), test.model), reached)


def _heights(test: PreparedTest, found: maxstat.Extremes) -> FloatArray:
    return np.maximum(found.greatest, -found.least) if test.two_sided else found.greatest


def _as_observed(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None) -> Swept:
    """Sweep over the observed order alone, where it is not told by the rearranged data."""
    observed = observed_stat(test, Y)
    height = np.abs(observed) if test.two_sided else observed
    reached = np.zeros(len(height)) if stat is None else height >= _least_tie(test, stat)
    return Swept(np.array([np.max(height, initial=-np.inf, where=~np.isnan(height))]), reached.astype(np.int64))


def _joined(first: Swept, rest: Swept) -> Swept:
    return Swept(np.concatenate([first.maxima, rest.maxima]), first.reached + rest.reached)


def _least_tie(test: PreparedTest, stat: ArrayLike) -> FloatArray:
    """Least statistic that counts as reaching `stat`."""
    value = np.abs(stat) if test.two_sided else np.asarray(stat, dtype=np.float64)
    return np.asarray(value - TIE_RTOL * np.abs(value))


def _extremes(
    test: PreparedTest, Y: NDArray[Any], start: int, stop: int, bars: FloatArray | None, *, mirrored: bool
) -> maxstat.Extremes:
    """`maxstat.extremes` for any number of rearrangements, within `BATCH_BYTES`."""
    found = maxstat.Extremes(np.empty(stop - start), np.empty(stop - start), np.zeros(Y.shape[1], np.int64))
    batch = max(1, BATCH_BYTES // (4 * (1 + test.model.width) * test.model.size))
    for i in range(start, stop, batch):
        indices = test.rearrangements.draw(i, min(i + batch, stop))
        part = maxstat.extremes(Y, indices, test.model, bars=bars, mirrored=mirrored)
        here = slice(i - start, i - start + len(indices))
        found.greatest[here], found.least[here] = part.greatest, part.least
        found.reached[:] += part.reached
    return found


def rearranged_stat(test: PreparedTest, Y: NDArray[Any], *, start: int = 0, stop: int | None = None) -> FloatArray:
    """Compute the statistic of every voxel under rearrangements `start` to `stop` - 1, (P, V).

    For what is made of whole maps. A number depends on its rearrangement and voxel alone, to the last bit, where
    shards of voxels begin at multiples of `stat_maps.VOXELS`.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps; NaN where a voxel cannot be tested.
    start, stop : int
        Stretch of rearrangements, all of them when not given.
    """
    Y, stop = _maps(test, Y), test.n_perm if stop is None else stop
    spans = list(tiles(start, stop))
    if len(spans) == 1:
        return _tile_of_maps(test, Y, start, stop)
    stat = np.empty((stop - start, Y.shape[1]))
    for at, end in spans:
        stat[at - start : end - start] = _tile_of_maps(test, Y, at, end)
    return stat


def _tile_of_maps(test: PreparedTest, Y: NDArray[Any], start: int, stop: int) -> FloatArray:
    """Statistic maps of rearrangements that lie in one tile, which is made from its beginning."""
    first = start - start % PERMUTATIONS
    maps = _stat_maps(test, Y, test.rearrangements.draw(first, stop), test.model)[start - first :]
    if start == 0 and test.apart:
        maps[0] = observed_stat(test, Y)
    return maps


def _stat_maps(test: PreparedTest, Y: NDArray[Any], indices: IndexArray, model: Projections) -> FloatArray:
    if test.smoothing is not None:
        return pseudo_t_maps(Y, indices, model, test.smoothing)
    if test.groups is not None:
        return z_maps(Y, indices, model, test.groups)
    maps = cosine_maps(Y, indices, model)
    for row in maps:  # in place and one by one: the maps of a tile may be a large part of the memory of a task
        row[:] = stat_of_cosine(row, model)
    for columns in _pieces(_partial(test, Y)):
        maps[:, columns] = partial_stat(Y[:, columns], indices, model)
    return maps


def _maps(test: PreparedTest, Y: NDArray[Any]) -> NDArray[Any]:
    n = len(test.as_observed.effect)
    if Y.ndim != 2 or len(Y) != n:
        raise InputError("maps", f"has shape {Y.shape}.", f"({n}, voxels) is wanted.")
    return Y


def uncorrected_p(test: PreparedTest, reached: NDArray[np.int64]) -> FloatArray:
    """P of each voxel alone: the share of all rearrangements in which it reaches its statistic, the observed included.

    Parameters
    ----------
    test : PreparedTest
    reached : (V,) array of int
        By `count_reached` over all rearrangements.
    """
    return np.clip(reached, 1, test.n_perm) / test.n_perm


def fwe_p(test: PreparedTest, stat: ArrayLike, null: ArrayLike) -> FloatArray:
    """Family-wise error p: the share of rearrangements whose maximum reaches the statistic.

    The observed order is one of them, so p is at least 1 / n_perm: (b + 1) / (m + 1) for m random ones, b / N
    for all N.

    Parameters
    ----------
    test : PreparedTest
    stat : (V,) array_like
        t; NaN gives NaN.
    null : (P,) array_like
        Maxima over all voxels.
    """
    value = np.abs(stat) if test.two_sided else np.asarray(stat, dtype=np.float64)
    return counted_p(value, np.asarray(null, dtype=np.float64))
