"""Number of tasks, bytes and memory of every stage, from headers and designs alone.

Bytes are those that the tasks' records will count (`voxloom.engine.task.Output`), to the last one; a test compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING

from voxloom.engine.plan import Problem, StagePlan
from voxloom.errors import InputError
from voxloom.io.study.runs import raw_bytes
from voxloom.pipeline.coverage import runs_of_sites
from voxloom.pipeline.levels import levels_of
from voxloom.pipeline.planning import memory
from voxloom.pipeline.planning.group_sizes import FLOAT64, Work, group_export_size, group_stages, map_shards
from voxloom.pipeline.planning.inference_sizes import inference_sizes
from voxloom.pipeline.sources import source_bytes
from voxloom.pipeline.stages import noise
from voxloom.pipeline.stages.consolidate import CONSOLIDATED
from voxloom.pipeline.stages.group import group_test
from voxloom.pipeline.stored.fit import PER_VOXEL
from voxloom.pipeline.stored.map_files import MAP_DTYPE, MASK_DTYPE, SUBJECT_FILES
from voxloom.pipeline.stored.maps import STATISTICS
from voxloom.schema import MAP_CHUNK_MAPS, MAP_SHARD_VOXELS, bold_chunks, shard_slices

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pandas as pd

    from voxloom.io.bids.run_table import RunFile
    from voxloom.pipeline.prepare import Inputs
    from voxloom.pipeline.stages.group import GroupTest
    from voxloom.pipeline.workspace import Workspace


@dataclass
class Survey:
    """What is known of the runs before any of them is read whole.

    Parameters
    ----------
    n_voxels, n_volume : int
        Voxels of the study, and of a whole volume of its grid.
    n_confounds : dict of str to int
        Columns kept with each run that can be ingested.
    designs : dict of str to DataFrame
        Of each run that can be fitted.
    lacking : dict of str to set of str
        Contrasts that a run cannot answer.
    unanswered : set of str
        Subjects of which no run can answer one of the contrasts.
    design_seconds : float
        CPU time that the designs took.
    """

    ws: Workspace
    inputs: Inputs
    n_voxels: int
    n_volume: int
    n_confounds: dict[str, int] = field(default_factory=dict)
    designs: dict[str, pd.DataFrame] = field(default_factory=dict)
    lacking: dict[str, set[str]] = field(default_factory=dict)
    unanswered: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    design_seconds: float = 0.0

    @property
    def ingested(self) -> list[RunFile]:
        """Runs that will be in the store."""
        return [run for run in self.ws.runs if run.id in self.n_confounds]

    @property
    def fitted(self) -> list[RunFile]:
        """Runs that will be fitted."""
        return [run for run in self.ws.runs if run.id in self.designs]

    @property
    def answered(self) -> dict[str, list[RunFile]]:
        """Runs of each subject that will have maps, in order."""
        found: dict[str, list[RunFile]] = {}
        for run in self.fitted:
            if run.subject not in self.unanswered:
                found.setdefault(run.subject, []).append(run)
        return found

    @cached_property
    def tests(self) -> list[GroupTest]:
        """Group tests of these subjects; a model they cannot answer has none, as the problems tell."""
        subjects, found = list(self.answered), []
        for name in self.ws.analysis.group if subjects else ():
            try:
                found.append(group_test(self.ws.analysis, name, subjects))
            except InputError:
                continue
        return found

    @property
    def work(self) -> Work:
        """The group tests over the voxels of the study."""
        return Work(self.ws.analysis, self.tests, self.n_voxels)

    def n_volumes(self, run: RunFile) -> int:
        """Volumes of the run's image."""
        return self.inputs.headers[run.id].n_volumes

    def itemsize(self, run: RunFile) -> int:
        """Bytes of one stored value; smoothing makes float32."""
        dtype = self.inputs.headers[run.id].dtype
        return 4 if self.ws.analysis.first_level.smoothing_fwhm else int(dtype.itemsize)

    def one_map(self, n_statistics: int = 1) -> int:
        """Bytes of so many maps over the study's voxels."""
        return n_statistics * FLOAT64 * self.n_voxels


def stage_sizes(survey: Survey) -> Iterator[StagePlan]:
    """Every stage in order."""
    yield ingest_size(survey)
    yield design_size(survey)
    if noise.wanted(survey.ws.analysis):
        yield noise_size(survey)
        yield smooth_size(survey)
    yield fit_size(survey)
    yield combine_size(survey)
    yield consolidate_size(survey)
    yield from group_stages(survey.work)
    yield from inference_sizes(survey.work)
    yield export_size(survey)


def ingest_size(survey: Survey) -> StagePlan:
    """Files in, voxel-major arrays out."""
    runs, budget = survey.ingested, survey.ws.analysis.memory_budget
    fwhm, streams = survey.ws.analysis.first_level.smoothing_fwhm, survey.ws.objects.streams
    headers = (survey.inputs.headers[run.id] for run in runs)
    needs = (memory.ingest_memory(info, survey.n_voxels, fwhm, budget, streams=streams) for info in headers)
    written = [
        raw_bytes(survey.n_voxels, survey.n_volumes(run), survey.itemsize(run), survey.n_confounds[run.id])
        for run in runs
    ]
    return StagePlan(
        name="ingest",
        n_tasks=len(runs),
        bytes_read=sum(map(source_bytes, runs)),
        bytes_written=sum(written),
        peak_memory=max(needs, default=0),
    )


def design_size(survey: Survey) -> StagePlan:
    """Confounds and sample mask in, design out."""
    rows = [(survey.n_volumes(run), survey.n_confounds[run.id]) for run in survey.fitted]
    return StagePlan(
        name="design",
        n_tasks=len(rows),
        bytes_read=sum(n_volumes * (1 + FLOAT64 * n_confounds) for n_volumes, n_confounds in rows),
        bytes_written=sum(design_bytes(survey, run) for run in survey.fitted),
    )


def design_bytes(survey: Survey, run: RunFile) -> int:
    """Bytes of the design of a run."""
    return FLOAT64 * survey.designs[run.id].size


def noise_size(survey: Survey) -> StagePlan:
    """BOLD in, parameters of the noise out."""
    need = (memory.noise_memory(fit_run(survey, run)) for run in survey.fitted)
    return StagePlan(
        name="noise",
        n_tasks=sum(fit_shards(survey, run) for run in survey.fitted),
        bytes_read=sum(fitted_bytes(survey, run) for run in survey.fitted),
        bytes_written=len(survey.fitted) * noise_bytes(survey),
        peak_memory=max(need, default=0),
    )


def noise_bytes(survey: Survey) -> int:
    """Bytes of the parameters of the noise of one run."""
    return survey.one_map(len(PER_VOXEL[survey.ws.analysis.first_level.noise_model]) - 1)


def smooth_size(survey: Survey) -> StagePlan:
    """Parameters of the noise in, and smooth ones out."""
    noise_model, moved = survey.ws.analysis.first_level.noise_model, len(survey.fitted) * noise_bytes(survey)
    return StagePlan(
        name="smooth",
        n_tasks=len(survey.fitted),
        bytes_read=moved,
        bytes_written=moved,
        peak_memory=memory.smooth_memory(survey.n_voxels, survey.n_volume, noise_model),
    )


def fitted_bytes(survey: Survey, run: RunFile) -> int:
    """Bytes of the BOLD of a run, and of its design for each of its shards."""
    bold = survey.n_voxels * survey.n_volumes(run) * survey.itemsize(run)
    return bold + fit_shards(survey, run) * design_bytes(survey, run)


def fit_size(survey: Survey) -> StagePlan:
    """BOLD in, and the noise where it is given; estimates out."""
    given = len(survey.fitted) * noise_bytes(survey) if noise.wanted(survey.ws.analysis) else 0
    return StagePlan(
        name="fit",
        n_tasks=sum(fit_shards(survey, run) for run in survey.fitted),
        bytes_read=given + sum(fitted_bytes(survey, run) for run in survey.fitted),
        bytes_written=sum(estimates(survey, run) + survey.one_map() for run in survey.fitted),  # with R squared
        peak_memory=max((memory.fit_memory(fit_run(survey, run)) for run in survey.fitted), default=0),
    )


def fit_shards(survey: Survey, run: RunFile) -> int:
    """Fit tasks of one run."""
    rule = bold_chunks(survey.n_voxels, survey.n_volumes(run), survey.itemsize(run))
    return len(shard_slices(survey.n_voxels, rule.shard))


def estimates(survey: Survey, run: RunFile) -> int:
    """Bytes of the fit of one run."""
    per_voxel = PER_VOXEL[survey.ws.analysis.first_level.noise_model]
    return survey.one_map(survey.designs[run.id].shape[1] + len(per_voxel))


def fit_run(survey: Survey, run: RunFile) -> memory.FitSize:
    """What the memory of a fit task of one run depends on; smoothing scales."""
    level = survey.ws.analysis.first_level
    is_scaled = not level.smoothing_fwhm and survey.inputs.headers[run.id].is_scaled
    size = survey.n_voxels, survey.n_volumes(run), survey.itemsize(run)
    return memory.FitSize(*size, is_scaled, *survey.designs[run.id].shape, level.noise_model)


def n_levels(survey: Survey) -> int:
    """Subjects, and where wanted sessions, that have maps."""
    sessions = survey.ws.analysis.subject_level.sessions
    return sum(len(levels_of(subject, runs, sessions=sessions)) for subject, runs in survey.answered.items())


def subject_maps(survey: Survey) -> int:
    """Bytes of the maps of one run or subject."""
    return len(survey.ws.analysis.first_level.contrasts) * survey.one_map(len(STATISTICS))


def combine_size(survey: Survey) -> StagePlan:
    """Estimates in, maps of runs and subjects out; the design once for each stretch of voxels."""
    subjects = survey.answered
    runs = list(chain.from_iterable(subjects.values()))
    stretches = len(shard_slices(survey.n_voxels, MAP_SHARD_VOXELS))
    return StagePlan(
        name="combine",
        n_tasks=len(subjects),
        bytes_read=sum(estimates(survey, run) + stretches * design_bytes(survey, run) for run in runs),
        bytes_written=(len(runs) + n_levels(survey)) * subject_maps(survey),
        peak_memory=max((combined(survey, runs) for runs in subjects.values()), default=0),
    )


def combined(survey: Survey, runs: Iterable[RunFile]) -> int:
    """Memory of a subject's contrasts."""
    level = survey.ws.analysis.first_level
    shapes = [(len(survey.designs[run.id]), survey.n_volumes(run), survey.designs[run.id].shape[1]) for run in runs]
    return memory.combine_memory(survey.n_voxels, shapes, level.contrasts.values(), level.noise_model)


def consolidate_size(survey: Survey) -> StagePlan:
    """Every map of the subjects once more."""
    n_subjects = len(survey.answered)
    moved = n_subjects * len(survey.ws.analysis.first_level.contrasts) * survey.one_map(len(CONSOLIDATED))
    return StagePlan(
        name="consolidate",
        n_tasks=len(shard_slices(n_subjects, MAP_CHUNK_MAPS)) * map_shards(survey.n_voxels),
        bytes_read=moved,
        bytes_written=moved,
        peak_memory=memory.consolidate_memory(survey.n_voxels, n_subjects),
    )


def export_size(survey: Survey) -> StagePlan:
    """Maps and designs in, values of the volumes out."""
    groups, images = group_export_size(survey.work, survey.n_volume), subject_images(survey)
    masks, runs = n_levels(survey), list(chain.from_iterable(survey.answered.values()))
    sites = runs_of_sites(runs) if survey.tests else {}
    images += len(sites)
    read = n_levels(survey) * subject_maps(survey)
    read += sum(design_bytes(survey, run) + survey.one_map() for run in runs)
    read += sum(map(len, sites.values())) * survey.n_voxels  # masks, a byte a voxel
    return replace(
        groups,
        n_tasks=groups.n_tasks + len(survey.answered) + len(sites),
        bytes_read=groups.bytes_read + read,
        bytes_written=groups.bytes_written
        + survey.n_volume * (images * MAP_DTYPE.itemsize + masks * MASK_DTYPE.itemsize),
        peak_memory=max(groups.peak_memory, memory.export_memory(survey.n_voxels, survey.n_volume) if images else 0),
    )


def subject_images(survey: Survey) -> int:
    """Maps that are written of runs and subjects, masks apart."""
    contrasts = survey.ws.analysis.first_level.contrasts.values()
    return sum(map(len, survey.answered.values())) + n_levels(survey) * sum(
        len(SUBJECT_FILES[wanted.stat_type]) for wanted in contrasts
    )
