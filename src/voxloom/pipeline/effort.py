"""CPU seconds of every stage, by proportion from the rates of this machine."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from voxloom.pipeline import calibration, sizes
from voxloom.pipeline.consolidate import CONSOLIDATED
from voxloom.pipeline.map_files import MAP_DTYPE
from voxloom.pipeline.nulls import nulls_of, spatial_statistics
from voxloom.schema import MAP_SHARD_VOXELS, shard_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxloom.engine.plan import StagePlan
    from voxloom.pipeline.calibration import Rates
    from voxloom.pipeline.sizes import Survey

#: Arrays that a task makes, writes or opens besides those that are counted one by one.
FEW_ARRAYS = 4


def measured_rates(survey: Survey) -> Rates:
    """Rates for runs and groups of the median size of this study."""
    shapes = [matrix.shape for matrix in survey.designs.values()] or [(100, 10)]
    n_volumes, n_regressors = (int(np.median(column)) for column in zip(*shapes))
    noise_model = survey.ws.analysis.first_level.noise_model
    return calibration.measure(n_volumes, n_regressors, len(survey.answered), noise_model)


def stage_seconds(survey: Survey, stages: Mapping[str, StagePlan], rates: Rates) -> dict[str, float]:
    """CPU seconds of all tasks of each stage, the tasks' own arrays and records included."""
    tasks = {name: (1 + FEW_ARRAYS) * stage.n_tasks * rates.array for name, stage in stages.items()}
    work = {
        "ingest": ingest_seconds(survey, rates),
        "design": survey.design_seconds,
        "noise": fit_seconds(survey, rates.fit),
        "smooth": survey.n_voxels * len(survey.fitted) * rates.smooth,
        "fit": fit_seconds(survey, rates.refit if "noise" in stages else rates.fit)
        + stages["fit"].bytes_written * rates.encode,
        "combine": combine_seconds(survey, rates) + stages["combine"].bytes_written * rates.encode,
        "consolidate": consolidate_seconds(survey, rates) + stages["consolidate"].bytes_written * rates.encode,
        "group": group_seconds(survey, rates) + stages["group"].bytes_written * rates.encode,
        "infer": stages["infer"].flops / 2 * rates.permutation,
        "correct": correct_seconds(survey, rates) + stages["correct"].bytes_written * rates.encode,
        "export": export_seconds(survey, rates),
    }
    if "spatial" in stages:
        made = stages["spatial"].flops / 2 * rates.product + stages["spatial"].bytes_written * rates.encode
        work["spatial"] = made + whole_map_seconds(survey, rates)
    return {name: tasks[name] + work[name] for name in stages}


def ingest_seconds(survey: Survey, rates: Rates) -> float:
    """Decode of whole volumes, encoding of the study's voxels."""
    total = 0.0
    for run in survey.ingested:
        n_volumes, itemsize = survey.n_volumes(run), survey.inputs.headers[run.id].dtype.itemsize
        total += n_volumes * (survey.n_volume * itemsize * rates.decode)
        total += n_volumes * (survey.n_voxels * survey.itemsize(run) * rates.encode)
    return total


def fit_seconds(survey: Survey, rate: float) -> float:
    """Voxels times rows times columns of the designs."""
    return survey.n_voxels * rate * sum(survey.designs[run.id].size for run in survey.fitted)


def combine_seconds(survey: Survey, rates: Rates) -> float:
    """Tables and tests of every run, twice the maps of a run for the fixed effects, and the arrays of them all."""
    n_runs = sum(map(len, survey.answered.values()))
    n_contrasts, n_units = len(survey.ws.analysis.first_level.contrasts), n_runs + len(survey.answered)
    stretches = len(shard_slices(survey.n_voxels, MAP_SHARD_VOXELS))
    tables = n_runs * stretches * (rates.table + n_contrasts * rates.test)
    return tables + n_units * (n_contrasts * survey.n_voxels * rates.contrast + 8 * rates.array)


def consolidate_seconds(survey: Survey, rates: Rates) -> float:
    """A read of every map of every subject."""
    maps = len(CONSOLIDATED) * len(survey.ws.analysis.first_level.contrasts) * len(survey.answered)
    return maps * sizes.map_shards(survey) * rates.array


def group_seconds(survey: Survey, rates: Rates) -> float:
    """Fits of all subjects, and tests with tails."""
    return survey.n_voxels * sum(
        len(test.first_level) * len(test.subjects) * rates.group + sizes.pairs_of(test) * (rates.contrast + rates.tails)
        for test in survey.tests
    )


def whole_map_seconds(survey: Survey, rates: Rates) -> float:
    """Voxels times rearrangements times spatial statistics."""
    group = survey.ws.analysis.group
    maps = sum(
        null.setup.n_perm * len(spatial_statistics(group[test.name].inference))
        for test in survey.tests
        for null in nulls_of(test, group[test.name].inference, survey.ws.analysis.seed)
    )
    return maps * survey.n_voxels * rates.whole


def correct_seconds(survey: Survey, rates: Rates) -> float:
    """Three sorts of every map and its p."""
    return sum(map(sizes.pairs_of, survey.tests)) * survey.n_voxels * (3 * rates.sort + rates.tails)


def export_seconds(survey: Survey, rates: Rates) -> float:
    """Tails, and compression of the voxels of every map; what lies outside them costs nothing beside it."""
    images = sizes.n_images(survey)
    tails = len(survey.answered) * len(survey.ws.analysis.first_level.contrasts) * rates.tails
    volume = survey.n_voxels * MAP_DTYPE.itemsize * rates.gzip + 3 * rates.array
    designs = len(list(chain.from_iterable(survey.answered.values())))
    return images * volume + survey.n_voxels * tails + 3 * designs * rates.array
