"""Number of tasks, bytes and memory of every stage, from headers and designs alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from voxloom.engine.plan import Problem, StagePlan
from voxloom.errors import InputError
from voxloom.pipeline import infer, memory
from voxloom.pipeline.group import group_test
from voxloom.pipeline.stored_maps import STATISTICS, map_chunks
from voxloom.schema import MAP_CHUNK_MAPS, bold_chunks, shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from voxloom.io.bids import RunFile
    from voxloom.pipeline.group import GroupTest
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.workspace import Workspace

#: Bytes of a stored estimate.
FLOAT64 = 8


@dataclass
class Survey:
    """What is known of the runs before any of them is read whole."""

    ws: Workspace
    inputs: Inputs
    n_voxels: int
    designs: dict[str, pd.DataFrame] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    @property
    def runs(self) -> list[RunFile]:
        """Runs that will be fitted."""
        return [run for run in self.ws.runs if run.id in self.designs]

    @property
    def subjects(self) -> list[str]:
        """Subjects with such a run, in order."""
        return list(dict.fromkeys(run.subject for run in self.runs))

    def raw_bytes(self, run: RunFile) -> int:
        """Bytes of the run's voxels in the store, before compression."""
        return self.n_voxels * self.inputs.headers[run.id].n_volumes * self.itemsize(run)

    def itemsize(self, run: RunFile) -> int:
        """Bytes of one stored value; smoothing makes float32."""
        dtype = self.inputs.headers[run.id].dtype
        return 4 if self.ws.analysis.first_level.smoothing_fwhm else int(dtype.itemsize)


def stage_sizes(survey: Survey) -> Iterator[StagePlan]:
    """Every stage in order."""
    yield from run_stages(survey)
    yield from subject_stages(survey)
    yield from group_stages(survey)


def run_stages(survey: Survey) -> Iterator[StagePlan]:
    """Ingest, design and fit."""
    ingested, fitted = survey.ws.runs, survey.runs
    raw = sum(map(survey.raw_bytes, fitted))
    yield StagePlan(
        name="ingest",
        n_tasks=len(ingested),
        bytes_read=sum(Path(run.bold).stat().st_size for run in ingested),
        bytes_written=sum(map(survey.raw_bytes, ingested)),
        peak_memory=min(survey.ws.analysis.memory_budget, max(map(survey.raw_bytes, ingested), default=0)),
    )
    yield StagePlan(name="design", n_tasks=len(fitted))
    yield StagePlan(
        name="fit",
        n_tasks=sum(fit_shards(survey, run) for run in fitted),
        bytes_read=raw,
        bytes_written=sum(estimates(survey, run) for run in fitted),
        peak_memory=max((fit_memory(survey, run) for run in fitted), default=0),
    )


def fit_shards(survey: Survey, run: RunFile) -> int:
    """Fit tasks of one run."""
    rule = bold_chunks(survey.n_voxels, survey.inputs.headers[run.id].n_volumes, survey.itemsize(run))
    return len(shard_slices(survey.n_voxels, rule.shard))


def estimates(survey: Survey, run: RunFile) -> int:
    """Bytes of the fit of one run."""
    return FLOAT64 * (survey.designs[run.id].shape[1] + 2) * survey.n_voxels


def fit_memory(survey: Survey, run: RunFile) -> int:
    """Peak memory of a fit task of one run."""
    n_volumes, n_regressors = survey.designs[run.id].shape
    return memory.fit_memory(survey.n_voxels, n_volumes, survey.itemsize(run), n_regressors)


def subject_stages(survey: Survey) -> Iterator[StagePlan]:
    """Combine and consolidate."""
    n_contrasts, n_subjects = len(survey.ws.analysis.first_level.contrasts), len(survey.subjects)
    one_map = len(STATISTICS) * FLOAT64 * survey.n_voxels
    written = n_subjects * n_contrasts * one_map
    runs_each = [sum(run.subject == subject for run in survey.runs) for subject in survey.subjects]
    widest = max((matrix.shape[1] for matrix in survey.designs.values()), default=0)
    yield StagePlan(
        name="combine",
        n_tasks=n_subjects,
        bytes_read=sum(estimates(survey, run) for run in survey.runs),
        bytes_written=written + len(survey.runs) * n_contrasts * one_map,
        peak_memory=memory.combine_memory(survey.n_voxels, widest, n_contrasts, max(runs_each, default=0)),
    )
    blocks = len(shard_slices(n_subjects, MAP_CHUNK_MAPS)) * map_shards(survey)
    yield StagePlan(
        name="consolidate",
        n_tasks=blocks,
        bytes_read=written,
        bytes_written=written,
        peak_memory=memory.consolidate_memory(survey.n_voxels, n_subjects),
    )


def map_shards(survey: Survey) -> int:
    """Shards of a map."""
    return len(shard_slices(survey.n_voxels, map_chunks(survey.n_voxels)[1]))


def group_stages(survey: Survey) -> Iterator[StagePlan]:
    """Group, infer, correct and export."""
    n_voxels, n_subjects = survey.n_voxels, len(survey.subjects)
    tests = planned_tests(survey)
    pairs = sum(len(test.first_level) * len(test.contrasts) for test in tests)
    one_map, peak = FLOAT64 * n_voxels, memory.group_memory(n_subjects)
    batches = sum(null_batches(survey, test) for test in tests)
    yield StagePlan(
        name="group",
        n_tasks=map_shards(survey) * len(tests),
        bytes_read=n_subjects * one_map * sum(len(test.first_level) for test in tests),
        bytes_written=7 * pairs * one_map,
        peak_memory=peak,
    )
    yield StagePlan(name="infer", n_tasks=batches, bytes_read=n_subjects * one_map * batches, peak_memory=peak)
    yield StagePlan(name="correct", n_tasks=pairs, bytes_read=3 * pairs * one_map, peak_memory=8 * one_map)
    yield StagePlan(name="export", n_tasks=n_subjects + pairs, bytes_read=7 * pairs * one_map, peak_memory=8 * one_map)


def planned_tests(survey: Survey) -> list[GroupTest]:
    """Group tests of the subjects that will be there; a model they cannot answer has none."""
    found = []
    for name in survey.ws.analysis.group:
        try:
            found.append(group_test(survey.ws.analysis, name, survey.subjects))
        except InputError:
            continue  # told among the problems
    return found


def null_batches(survey: Survey, test: GroupTest) -> int:
    """Permutation tasks of one group model."""
    analysis = survey.ws.analysis
    wanted = analysis.group[test.name].inference
    if "permutation" not in wanted.method:
        return 0
    stretches = infer.voxel_stretches(survey.n_voxels, len(test.subjects), analysis.memory_budget)
    per_contrast = sum(
        len(shard_slices(setup.n_perm, infer.BATCH)) for setup in infer.prepared_all(test, wanted, analysis.seed)
    )
    return len(test.first_level) * len(stretches) * per_contrast
