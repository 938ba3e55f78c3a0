"""CPU seconds of every stage, by proportion from the rates of this machine."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from voxloom.pipeline.planning import calibration
from voxloom.pipeline.planning.group_effort import group_stage_seconds, images_seconds, per_task
from voxloom.pipeline.planning.group_sizes import map_shards
from voxloom.pipeline.planning.sizes import subject_images
from voxloom.pipeline.stages.consolidate import CONSOLIDATED
from voxloom.schema import MAP_SHARD_VOXELS, shard_slices

if TYPE_CHECKING:
    from collections.abc import Mapping

    from voxloom.engine.plan import StagePlan
    from voxloom.pipeline.planning.calibration import Rates
    from voxloom.pipeline.planning.sizes import Survey


def measured_rates(survey: Survey) -> Rates:
    """Rates for runs and groups of the median size of this study."""
    shapes = [matrix.shape for matrix in survey.designs.values()] or [(100, 10)]
    n_volumes, n_regressors = (int(np.median(column)) for column in zip(*shapes))
    noise_model = survey.ws.analysis.first_level.noise_model
    return calibration.measure(n_volumes, n_regressors, len(survey.answered), noise_model)


def stage_seconds(survey: Survey, stages: Mapping[str, StagePlan], rates: Rates) -> dict[str, float]:
    """CPU seconds of all tasks of each stage, the tasks' own arrays and records included."""
    tasks = per_task(stages, rates)
    work = {
        "ingest": ingest_seconds(survey, rates),
        "design": survey.design_seconds,
        "noise": fit_seconds(survey, rates.fit),
        "smooth": survey.n_voxels * len(survey.fitted) * rates.smooth,
        "fit": fit_seconds(survey, rates.refit if "noise" in stages else rates.fit)
        + stages["fit"].bytes_written * rates.encode,
        "combine": combine_seconds(survey, rates) + stages["combine"].bytes_written * rates.encode,
        "consolidate": consolidate_seconds(survey, rates) + stages["consolidate"].bytes_written * rates.encode,
        "export": export_seconds(survey, rates),
        **group_stage_seconds(survey.work, stages, rates),
    }
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
    return maps * map_shards(survey.n_voxels) * rates.array


def export_seconds(survey: Survey, rates: Rates) -> float:
    """Tails, images and designs."""
    images = survey.work.images + subject_images(survey)
    tails = len(survey.answered) * len(survey.ws.analysis.first_level.contrasts) * rates.tails
    designs = len(list(chain.from_iterable(survey.answered.values())))
    made = images_seconds(images, survey.n_voxels, rates)
    return made + survey.n_voxels * tails + 3 * designs * rates.array
