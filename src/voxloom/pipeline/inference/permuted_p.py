"""What is made of a pair of contrasts once its statistics and nulls are there: corrected p, and how each was made."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import VoxloomWarning
from voxloom.io.store.arrays import open_array
from voxloom.io.store.regions import read_region
from voxloom.kernels.maps.multiplicity import bonferroni, fdr
from voxloom.kernels.permutation.sequential import Counts, sequential_p
from voxloom.kernels.tails import z_to_p
from voxloom.models.inference.joint import how_many
from voxloom.models.inference.null_p import p_of_null
from voxloom.models.inference.permutation import uncorrected_p
from voxloom.models.inference.results import SEQUENTIAL
from voxloom.pipeline.inference.corrections import BY_GROUPS, PSEUDO_T, USED
from voxloom.pipeline.inference.nulls import (
    Null,
    counts_path,
    family,
    null_path,
    prepared_all,
    spatial_batches,
    spatial_path,
    spatial_statistics,
    stops,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from numpy.typing import NDArray

    from voxloom.io.store.objects import Objects
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import Inference

    FloatArray = NDArray[np.float64]

#: Corrections that need the map alone.
VOXELWISE = {"bonferroni": bonferroni, "fdr": fdr}


class Reading:
    """Reads parts of arrays, and counts their bytes."""

    def __init__(self, objects: Objects) -> None:
        self.objects, self.n_bytes = objects, 0

    def __call__(self, path: str, *region: slice) -> NDArray[Any]:
        """Read a region of an array."""
        values = read_region(self.objects, path, region)
        self.n_bytes += values.nbytes
        return values


class Made(NamedTuple):
    """A map or a null, and what is to be told of how it was made."""

    name: str
    values: FloatArray
    how: Mapping[str, Any] = {}


def corrected(read: Reading, test: GroupTest, row: int, column: int, inference: Inference, seed: int) -> Iterator[Made]:
    """Every map and null of a pair of contrasts, by its variable."""
    pair = slice(row, row + 1), slice(column, column + 1), slice(None)
    z, n = (read(f"{test.path}/{name}", *pair)[0, 0] for name in ("z_score", "n"))
    p = 2 * z_to_p(np.abs(z)) if test.questions[column].two_sided(inference.two_sided) else z_to_p(z)
    warn_of_few(test, n)
    for method in inference.method:
        if method in VOXELWISE:
            yield Made(f"p_{method}", VOXELWISE[method](p))
    if "permutation" in inference.method:
        fitted = np.isfinite(z)
        del p, z, n
        nulls = family_nulls(test, inference, seed, row, column)
        stat = yield from voxelwise(read, nulls[row, column], inference)
        warn_of_untested(test, fitted, stat)
        yield from over_map(read, test, nulls, (row, column), stat, inference, seed)


def over_map(
    read: Reading,
    test: GroupTest,
    nulls: Mapping[tuple[int, int], Null],
    pair: tuple[int, int],
    stat: FloatArray,
    inference: Inference,
    seed: int,
) -> Iterator[Made]:
    """P of a pair that are corrected over the map, and over the pairs that nulls are given of."""
    null = nulls[pair]
    maxima = {one: merged_maxima(read, other, inference) for one, other in nulls.items()}
    whole = list(spatial_statistics(inference))
    longest = max(setup.n_perm for setup in prepared_all(test, inference, seed))
    for name, statistic in inference.named.items():
        values = stat
        if statistic.spatial:
            place = whole.index(name)
            values = read(f"{spatial_path(null, inference)}/observed", slice(place, place + 1), slice(None))[0]
            yield Made(name, values)
        heights = np.abs(values) if null.setup.two_sided else values
        yield from judged(null, inference, name, heights, maxima[pair][name], longest)
        if inference.joint is not None:
            scale = {one: np.asarray if statistic.spatial else other.setup.to_z for one, other in nulls.items()}
            joint = np.max([scale[one](of[name]) for one, of in maxima.items()], axis=0)
            yield from judged(null, inference, f"joint_{name}", scale[pair](heights), joint, longest)


def family_nulls(
    test: GroupTest, inference: Inference, seed: int, row: int, column: int
) -> dict[tuple[int, int], Null]:
    """Nulls that p is corrected over together, by the pairs of their contrasts."""
    setups, found = prepared_all(test, inference, seed), dict[tuple[int, int], Null]()
    for i, j in family(test, inference, row, column):
        path = null_path(test, inference, seed, i, j, setups[j])
        found[i, j] = Null(row=i, column=j, setup=setups[j], path=path)
    return found


def voxelwise(read: Reading, null: Null, inference: Inference) -> Generator[Made, None, FloatArray]:
    """P of the statistic of each voxel alone; returns the statistic."""
    if stops(null, inference):
        stat = yield from counted(read, null, inference)
        return stat
    stat, reached = read(f"{null.path}/stat", slice(None)), sum_counts(read, f"{null.path}/reached")
    yield from of_statistic(stat, inference)
    yield Made("p_uncorrected", np.where(np.isnan(stat), np.nan, uncorrected_p(null.setup, reached)))
    if inference.stop_at is not None:
        yield Made(USED, np.full(stat.shape, float(null.setup.n_perm)))
    return stat


def counted(read: Reading, null: Null, inference: Inference) -> Generator[Made, None, FloatArray]:
    """The same from counts that stopped."""
    assert inference.stop_at is not None
    stat, reached, used = (
        read(f"{counts_path(null, inference)}/{name}", slice(None)) for name in ("stat", "reached", "used")
    )
    yield from of_statistic(stat, inference)
    p = sequential_p(Counts(reached, used), inference.stop_at)
    how = {"stop_at": inference.stop_at, "p_method": SEQUENTIAL}
    yield Made("p_uncorrected", np.where(np.isnan(stat), np.nan, p), how)
    yield Made(USED, used.astype(np.float64))
    return stat


def of_statistic(stat: FloatArray, inference: Inference) -> Iterator[Made]:
    """The statistic that was permuted, where it is not that of the group model."""
    if inference.variance_groups is not None:
        yield Made(BY_GROUPS, stat)
    if inference.variance_smoothing_fwhm is not None:
        yield Made(PSEUDO_T, stat)


def merged_maxima(read: Reading, null: Null, inference: Inference) -> dict[str, FloatArray]:
    """Maxima of every rearrangement by the names of the statistics."""
    found: dict[str, FloatArray] = {}
    whole = list(spatial_statistics(inference))
    for name in inference.named:
        if name not in whole:
            found[name] = read(f"{null.path}/{name}", slice(None), slice(None)).max(axis=0)
    if whole:
        blocks = read(f"{spatial_path(null, inference)}/maxima", slice(None), slice(None), slice(None))
        batches = spatial_batches(null.setup.n_perm)
        for i, name in enumerate(whole):
            parts = [block[i, : b.stop - b.start] for block, b in zip(blocks, batches, strict=True)]
            found[name] = np.concatenate(parts)
    return found


def judged(
    null: Null, inference: Inference, name: str, heights: FloatArray, maxima: FloatArray, longest: int
) -> Iterator[Made]:
    """P of a statistic from the null of its maximum, and that null, as long as the model's longest."""
    yield Made(f"p_{name}", *p_of_null(heights, maxima, tail=inference.tail, **how_many(null.setup)))
    yield Made(f"null_{name}", np.pad(maxima, (0, longest - len(maxima)), constant_values=np.nan))


def sum_counts(read: Reading, path: str) -> NDArray[np.int64]:
    """Sum of the counts of all batches by voxel; exact, and one batch in memory at a time."""
    n_batches, n_voxels = open_array(read.objects, path).shape
    total = np.zeros(n_voxels, np.int64)
    for batch in range(n_batches):
        total += read(path, slice(batch, batch + 1), slice(None))[0]
    return total


def warn_of_few(test: GroupTest, n: NDArray[np.float64]) -> None:
    """Count the voxels that have maps, but fewer than the model wants."""
    few = int(np.count_nonzero((n > 0) & (n < test.min_n)))
    if few:
        what = f"{few} of {len(n)} voxels have fewer than {test.min_n} maps (min_n); they are not fitted."
        warnings.warn(f"group.{test.name}: {what}", VoxloomWarning, stacklevel=2)


def warn_of_untested(test: GroupTest, fitted: NDArray[np.bool_], stat: NDArray[np.float64]) -> None:
    """Count the voxels that have a statistic, but none that can be permuted."""
    lacking = int(np.count_nonzero(fitted & np.isnan(stat)))
    if lacking:
        what = f"{lacking} of {len(stat)} voxels lack some of the {len(test.subjects)} subjects"
        warnings.warn(
            f"group.{test.name}: {what}; with variance groups or huh-jhun they have no permutation p.",
            VoxloomWarning,
            stacklevel=2,
        )
