"""CPU seconds of the stages of group models, by proportion from the rates of this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from voxloom.pipeline.inference.nulls import spatial_statistics
from voxloom.pipeline.planning.group_sizes import pairs_of
from voxloom.pipeline.planning.inference_sizes import products
from voxloom.pipeline.stored.map_files import MAP_DTYPE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxloom.engine.plan import StagePlan
    from voxloom.pipeline.planning.calibration import Rates
    from voxloom.pipeline.planning.group_sizes import Work
    from voxloom.pipeline.stages.group import GroupTest

#: Arrays that a task makes, writes or opens besides those that are counted one by one.
FEW_ARRAYS = 4


def per_task(stages: Mapping[str, StagePlan], rates: Rates) -> dict[str, float]:
    """Seconds that the tasks' own arrays and records take, by stage."""
    return {name: (1 + FEW_ARRAYS) * stage.n_tasks * rates.array for name, stage in stages.items()}


def group_stage_seconds(work: Work, stages: Mapping[str, StagePlan], rates: Rates) -> dict[str, float]:
    """Seconds of every stage from the fit of the models to the corrections; encoding what is written included."""
    found = {
        "group": group_seconds(work, rates),
        "infer": infer_seconds(work, rates),
        "correct": correct_seconds(work, rates),
    }
    for name in {"combat", "harmonise"}.intersection(stages):
        found[name] = group_seconds(work, rates)
    if "influence" in stages:
        found["influence"] = 3 * group_seconds(work, rates)
    if "spatial" in stages:
        found["spatial"] = stages["spatial"].flops / 2 * rates.product + whole_map_seconds(work, rates)
    return {
        name: seconds + (stages[name].bytes_written * rates.encode if name != "infer" else 0.0)
        for name, seconds in found.items()
    }


def group_seconds(work: Work, rates: Rates) -> float:
    """Fits of all subjects, and tests with tails."""
    return work.n_voxels * sum(
        len(test.first_level) * len(test.subjects) * rates.group + pairs_of(test) * (rates.contrast + rates.tails)
        for test in work.tests
    )


def infer_seconds(work: Work, rates: Rates) -> float:
    """Products of all rearrangements; with variance groups in float64, as those of whole maps."""
    each = {test.name: rates.product if grouped(work, test) else rates.permutation for test in work.tests}
    return sum(products(work, test) / 2 * each[test.name] for test in work.tests)


def grouped(work: Work, test: GroupTest) -> bool:
    """Whether the tests of a model have variance groups."""
    return any(null.setup.groups is not None for null in work.nulls(test))


def whole_map_seconds(work: Work, rates: Rates) -> float:
    """Voxels times rearrangements times spatial statistics."""
    maps = sum(
        null.setup.n_perm * len(spatial_statistics(work.wanted(test)))
        for test in work.whole
        for null in work.nulls(test)
    )
    return maps * work.n_voxels * rates.whole


def correct_seconds(work: Work, rates: Rates) -> float:
    """Three sorts of every map and its p."""
    return work.pairs * work.n_voxels * (3 * rates.sort + rates.tails)


def images_seconds(n_images: int, n_voxels: int, rates: Rates) -> float:
    """Compression of the voxels of images; what lies outside them costs nothing beside it."""
    return n_images * (n_voxels * MAP_DTYPE.itemsize * rates.gzip + 3 * rates.array)
