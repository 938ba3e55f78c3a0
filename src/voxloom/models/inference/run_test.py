"""A prepared permutation test run over maps: in this process, or in parts on the workers of a cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.blocks import is_lazy, map_parts, n_workers
from voxloom.kernels.permutation.sequential import Counts
from voxloom.kernels.permutation.stat_maps import PERMUTATIONS, VOXELS
from voxloom.models.inference.map_checks import MapChecks
from voxloom.models.inference.permutation import observed_stat, rearranged_stat, sweep, swept_of, tiles
from voxloom.models.inference.sequential import count_until
from voxloom.models.inference.spatial import SpatialTest, null_spatial, observed_spatial, spatial_maxima
from voxloom.schema import MAP_SHARD_VOXELS, grid_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import xarray as xr
    from numpy.typing import NDArray

    from voxloom.models.inference.permutation import PreparedTest
    from voxloom.spec.statistics import Statistic

    FloatArray = NDArray[np.float64]

#: Parts of a test for each thread of the workers, so that none waits long for the last.
PARTS_PER_THREAD = 4


class Found(NamedTuple):
    """What a permutation test finds in maps.

    Attributes
    ----------
    stat : (V,) array
        Observed; NaN where a voxel cannot be tested.
    n : (V,) array of int
        Maps with a value.
    reached : (V,) array of int
        In how many rearrangements the voxel reaches its own statistic.
    used : (V,) array of int
        How many rearrangements were counted in `reached`; the observed order is not one of them where counting stopped.
    spatial : dict of str to (V,) array
        Observed spatial statistics by the names of their results.
    null : dict of str to (P,) array
        Maxima of every statistic.
    """

    stat: FloatArray
    n: NDArray[np.int64]
    reached: NDArray[np.int64]
    used: NDArray[np.int64]
    spatial: dict[str, FloatArray]
    null: dict[str, FloatArray]


class _Part(NamedTuple):
    reached: NDArray[np.int64]
    maxima: FloatArray
    spatial: dict[str, FloatArray]


def run_test(
    test: PreparedTest,
    effect: xr.DataArray,
    statistics: Mapping[str, Statistic],
    *,
    stop_at: int | None = None,
    client: Any = None,
) -> Found:
    """Run every rearrangement of a test over maps.

    Parameters
    ----------
    test : PreparedTest
    effect : DataArray
        ``(map, voxel)``. Lazy maps are read a stretch of voxels at a time, or as a whole for spatial statistics.
    statistics : mapping of str to Statistic
        By the names of their results.
    stop_at : int, optional
        Count only until so many random rearrangements reach the voxel's statistic (`models.inference.sequential`).
    client : distributed.Client, optional

    Raises
    ------
    InputError
        A map is empty, 0 everywhere, or there twice; spatial statistics of maps without a place in a grid.
    """
    spatial = _spatial_test(test, effect, statistics)
    checks = MapChecks([str(label) for label in effect["map"].to_numpy()])
    found = Found(
        np.full(effect.sizes["voxel"], np.nan),
        np.zeros(effect.sizes["voxel"], np.int64),
        np.zeros(effect.sizes["voxel"], np.int64),
        np.full(effect.sizes["voxel"], test.n_perm),
        {},
        {"max_stat": np.full(test.n_perm, -np.inf)},
    )
    stretches = [slice(None)] if spatial.statistics or test.smoothing is not None else _stretches(effect)
    for stretch in stretches:
        Y = effect.isel(voxel=stretch).to_numpy()
        checks.see(Y)
        if stretch is stretches[-1]:
            checks.require_sound()
        stat = found.stat[stretch] = observed_stat(test, Y)
        found.n[stretch] = np.isfinite(Y).sum(axis=0)
        if stop_at is not None:
            found.reached[stretch], found.used[stretch] = _counted(test, Y, stat, stop_at, client)
            if not statistics:
                continue
        part = _run(test, Y, stat if stop_at is None else None, spatial, client)
        if stop_at is None:
            found.reached[stretch] = part.reached
        np.maximum(found.null["max_stat"], part.maxima, out=found.null["max_stat"])
        found.null.update(part.spatial)
    found.spatial.update(observed_spatial(spatial, found.stat))
    return found


def _run(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None, spatial: SpatialTest, client: Any) -> _Part:
    """All rearrangements of a stretch of voxels."""
    do = _part if test.smoothing is None else _part_of_maps
    return _joined(map_parts(do, _cuts(test.n_perm, PERMUTATIONS, client), Y, stat, spatial, client=client))


def _counted(test: PreparedTest, Y: NDArray[Any], stat: FloatArray, stop_at: int, client: Any) -> Counts:
    """Counts that stop, in parts by voxels: each voxel needs as many rearrangements as it needs."""
    blocks = _cuts(Y.shape[1], VOXELS, client)
    parts = map_parts(_count_block, blocks, Y, stat, test, stop_at, client=client)
    return Counts(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _count_block(
    voxels: tuple[int, int], Y: NDArray[Any], stat: FloatArray, test: PreparedTest, stop_at: int
) -> Counts:
    here = slice(*voxels)
    return count_until(test, Y[:, here], stat[here], stop_at)


def _joined(parts: Sequence[_Part]) -> _Part:
    """Results of stretches of rearrangements, in their order, as one."""
    return _Part(
        np.sum([part.reached for part in parts], axis=0),
        np.concatenate([part.maxima for part in parts]),
        {name: np.concatenate([part.spatial[name] for part in parts]) for name in parts[0].spatial},
    )


def _spatial_test(test: PreparedTest, effect: xr.DataArray, statistics: Mapping[str, Statistic]) -> SpatialTest:
    spatial = {name: one for name, one in statistics.items() if one.spatial}
    if not spatial:
        return SpatialTest(test, {}, np.empty(0, np.int64), (0, 0, 0))
    return SpatialTest(test, spatial, effect["voxel"].to_numpy(), grid_of(effect).shape)


def _stretches(effect: xr.DataArray) -> list[slice]:
    """Cut the voxel axis of lazy maps into runs of chunks of up to `MAP_SHARD_VOXELS` voxels."""
    if not is_lazy(effect):
        return [slice(0, effect.sizes["voxel"])]
    edges, last = [0], 0
    for stop in np.cumsum(effect.chunksizes["voxel"]).tolist():
        if stop - edges[-1] > MAP_SHARD_VOXELS and last > edges[-1]:
            edges.append(last)
        last = stop
    return [slice(start, stop) for start, stop in zip(edges, [*edges[1:], last])]


def _cuts(n: int, whole: int, client: Any) -> list[tuple[int, int]]:
    """Cut n for the parts: one in this process; on workers several a thread, in multiples of `whole`."""
    if client is None:
        return [(0, n)]
    wanted = -(-n // (PARTS_PER_THREAD * n_workers(client)))
    length = -(-wanted // whole) * whole
    return [(start, min(start + length, n)) for start in range(0, n, length)]


def _part(span: tuple[int, int], Y: NDArray[Any], stat: FloatArray | None, spatial: SpatialTest) -> _Part:
    start, stop = span
    swept = sweep(spatial.test, Y, stat, start=start, stop=stop)
    return _Part(swept.reached, swept.maxima, null_spatial(spatial, Y, start=start, stop=stop))


def _part_of_maps(span: tuple[int, int], Y: NDArray[Any], stat: FloatArray | None, spatial: SpatialTest) -> _Part:
    """Everything from the same maps, where these are what takes time."""
    parts = []
    for start, stop in tiles(*span):
        maps = rearranged_stat(spatial.test, Y, start=start, stop=stop)
        maxima = spatial_maxima(spatial, maps)
        swept = swept_of(spatial.test, maps, stat)
        parts.append(_Part(swept.reached, swept.maxima, maxima))
    return _joined(parts)
