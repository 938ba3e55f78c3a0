"""Tasks, bytes, operations and memory of the stages that make and use permutation nulls.

Bytes are those that the tasks' records will count, to the last one; operations those of the products alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.engine.plan import StagePlan, size
from voxloom.pipeline.inference.corrections import nulls_named, p_maps, stat_maps
from voxloom.pipeline.inference.counts import COUNTS
from voxloom.pipeline.inference.nulls import family, spatial_batches, spatial_statistics, stops, swept
from voxloom.pipeline.inference.rounds import map_stretches
from voxloom.pipeline.planning import memory
from voxloom.pipeline.planning.group_sizes import FLOAT64, Work, pairs_of
from voxloom.pipeline.stages import infer, spatial

if TYPE_CHECKING:
    from collections.abc import Iterator

    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.spec import Inference


def inference_sizes(work: Work) -> Iterator[StagePlan]:
    """Every stage in order."""
    yield infer_size(work)
    if spatial.is_wanted(work.analysis):
        yield spatial_size(work)
    yield correct_size(work)


def products(work: Work, test: GroupTest) -> float:
    """Operations of the products of all rearrangements of a model: 2 P n V for each column of the design that moves."""
    rows = sum(null.setup.n_perm * null.setup.width for null in work.nulls(test))
    return 2.0 * rows * len(test.subjects) * work.n_voxels


def infer_size(work: Work) -> StagePlan:
    """All effects for each batch of permutations in; maxima, counts and the observed statistic out."""
    n_tasks = read = written = 0
    tests = [test for test in work.tests if work.nulls(test)]
    for test in tests:
        wanted, nulls = work.wanted(test), work.nulls(test)
        batches, counted = work.batches(test), sum(stops(null, wanted) for null in nulls)
        n_tasks += (batches + counted) * work.stretches(test)
        read += (batches + counted) * work.maps(len(test.subjects))
        n_swept = sum(bool(swept(null, wanted)) for null in nulls)
        written += work.maxima(test) + work.counts(test) + work.maps(n_swept + len(COUNTS) * counted)
    return StagePlan(
        name=infer.NAME,
        n_tasks=n_tasks,
        bytes_read=read,
        bytes_written=written,
        peak_memory=max((infer_task(work.n_voxels, test, work.wanted(test), work.budget) for test in tests), default=0),
        flops=sum(products(work, test) for test in tests),
    )


def infer_task(n_voxels: int, test: GroupTest, wanted: Inference, budget: int) -> int:
    """Peak memory of a batch of permutations."""
    n_subjects, n_regressors = test.design.shape
    if wanted.variance_smoothing_fwhm is not None:
        return memory.pseudo_t_memory(n_voxels, n_subjects)
    counting, rows = memory.counting_memory(wanted.stop_at), memory.infer_rows(wanted)
    stretch = min(n_voxels, memory.infer_stretch(budget - counting, n_subjects, n_regressors, rows))
    return memory.infer_memory(n_subjects, stretch, n_regressors, rows) + counting


def rearrange_task(n_voxels: int, test: GroupTest, budget: int) -> int:
    """Peak memory of a stretch of maps."""
    stretch = min(n_voxels, memory.rearrange_stretch(budget, len(test.subjects)))
    return memory.rearrange_memory(len(test.subjects), stretch)


def spatial_size(work: Work) -> StagePlan:
    """All effects for each batch in, or for each round, whose maps go out and come in again; maxima out."""
    n_tasks = read = written = 0
    for test in work.whole:
        nulls = work.nulls(test)
        batches = sum(len(spatial_batches(null.setup.n_perm)) for null in nulls)
        rounds = work.rounds(test)
        maps = work.rearranged(test) if rounds else 0
        n_tasks += batches + rounds * len(map_stretches(work.n_voxels, test, work.budget))
        read += work.maps((rounds or batches) * len(test.subjects) + len(nulls)) + maps
        written += work.spatial_maxima(test) + work.maps(len(nulls) * len(spatial_statistics(work.wanted(test)))) + maps
    return StagePlan(
        name=spatial.NAME,
        n_tasks=n_tasks,
        bytes_read=read,
        bytes_written=written,
        peak_memory=max((spatial_need(work, test) for test in work.whole), default=0),
        flops=sum(products(work, test) for test in work.whole),
        remark="; ".join(layout(work, test) for test in work.whole),
    )


def spatial_need(work: Work, test: GroupTest) -> int:
    """Peak memory of the tasks of a model: of those that use maps, and of those that write them."""
    using = spatial_task(work.n_voxels, test, work.wanted(test), work.budget)
    return max(using, rearrange_task(work.n_voxels, test, work.budget)) if work.stored(test) else using


def spatial_task(n_voxels: int, test: GroupTest, wanted: Inference, budget: int) -> int:
    """Peak memory of a batch of whole maps."""
    if not spatial.through_store(n_voxels, test, wanted, budget):
        return memory.spatial_memory(n_voxels, len(test.subjects))
    return memory.stored_spatial_memory(n_voxels, memory.map_rows(n_voxels, budget))


def layout(work: Work, test: GroupTest) -> str:
    """Say where the maps of a model are made."""
    names = ", ".join(spatial_statistics(work.wanted(test)))
    if not work.stored(test):
        return f"{names} of group.{test.name} over whole maps in memory"
    scratch, enough = size(work.scratch(test)), size(memory.spatial_memory(work.n_voxels, len(test.subjects)))
    taken = (
        f"{scratch} of disk at a time, {size(work.rearranged(test))} of maps in all (in memory from {enough} a task)"
    )
    return f"{names} of group.{test.name} through the store, {taken}"


def correct_size(work: Work) -> StagePlan:
    """Two maps, the observed statistics and the nulls in; corrected p and merged nulls, as long as the longest, out."""
    read, written, peak, n_tasks = 0, 0, 0, 0
    for test in work.tests:
        wanted, nulls = work.wanted(test), work.nulls(test)
        pairs, whole = pairs_of(test), len(spatial_statistics(wanted))
        peak = max(peak, memory.correct_memory(work.n_voxels, wanted.method))
        n_tasks += pairs
        read += work.maps(2 * pairs + (1 + whole) * len(nulls) + work.counted(test))
        again = len(family(test, wanted, 0, 0))  # nulls that each pair reads
        read += again * (work.spatial_maxima(test) + work.maxima(test) * (len(wanted.named) - whole))
        written += pairs * (
            work.maps(len(p_maps(wanted)) + len(stat_maps(wanted)))
            + len(nulls_named(wanted)) * work.longest(test) * FLOAT64
        )
    return StagePlan(name="correct", n_tasks=n_tasks, bytes_read=read, bytes_written=written, peak_memory=peak)
