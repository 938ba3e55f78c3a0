"""Stage 2: a design matrix per run, from the events and confounds kept with it."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from voxloom.engine.ledger import Ledger
from voxloom.engine.runner import Output, Task
from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.io.bids.confound_names import require_image
from voxloom.io.bids.denoise import Denoising, denoise
from voxloom.io.store.objects import Objects
from voxloom.io.study.runs import read_run
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.first_level.noise_models import NOISE_MODELS, require_estimable
from voxloom.models.design.censoring import keep_volumes
from voxloom.models.design.matrix import design_matrix, frame_times
from voxloom.pipeline.stored.fit import EXPLAINED, PER_VOXEL, make_room
from voxloom.pipeline.stored.noise import make_noise_room
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import bold_chunks
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from voxloom.spec import Analysis, Confounds, Contrast, FirstLevel

NAME = "design"
#: Share of volumes below which a run is no longer itself: nilearn's documents advise against scrubbing such runs.
LITTLE = 0.5


def tasks(ws: Workspace) -> list[Task]:
    """One task per ingested run."""
    ingested = ws.done("ingest")
    return [
        Task(
            stage=NAME,
            key=ws.fit_path(run),
            function=make_design,
            kwargs={
                "store": ws.url,
                "run_id": ws.stored_id(run),
                "fit_path": ws.fit_path(run),
                "noise_path": ws.noise_path(run),
                "first_level": ws.analysis.first_level,
            },
            inputs=digest([ws.analysis.fit_digest, ingested[ws.stored_id(run)].digest]),
        )
        for run in ws.runs
        if ws.stored_id(run) in ingested
    ]


class RunTables(NamedTuple):
    """What is known of a run besides its voxels, from the store or from files."""

    id: str
    n_volumes: int
    t_r: float
    desc: str
    events: pd.DataFrame | None
    confounds: pd.DataFrame | None
    components: Mapping[str, str | None] | None
    sample_mask: NDArray[np.bool_]


class RunDesign(NamedTuple):
    """The design of a run: rows of the volumes that are kept, and what was left out for which reason."""

    matrix: pd.DataFrame
    kept: NDArray[np.int64]
    n_volumes: int
    n_non_steady_state: int
    n_scrubbed: int


def build(run: RunTables, first_level: FirstLevel) -> RunDesign:
    """The design of one run as the analysis wants it; regressors are built over all volumes, then rows leave.

    Raises
    ------
    InputError
        Events or confounds are missing or not as wanted, or too few volumes are left, or none that follow each other
        for as long as the noise model reaches.
    """
    if run.events is None:
        raise InputError(
            run.id,
            "no events file was found.",
            "Put *_events.tsv beside the raw image (or above it), or leave the run out with data.filters.",
        )
    found = denoising(run, first_level.confounds)
    require_volumes(found, run)
    matrix = design_matrix(
        frame_times(run.n_volumes, run.t_r, first_level.slice_time_ref),
        run.events,
        hrf_model=first_level.hrf_model,
        drift_model=first_level.drift_model,
        high_pass=first_level.high_pass,
        drift_order=first_level.drift_order,
        fir_delays=first_level.fir_delays,
        add_regs=found.confounds,
        min_onset=first_level.min_onset,
        oversampling=first_level.oversampling,
        modulation=first_level.modulation,
        modulators=first_level.modulators,
        where=run.id,
    )
    kept, matrix = np.flatnonzero(found.sample_mask), keep_volumes(matrix, found.sample_mask, run.id)
    require_estimable(first_level.noise_model, matrix.to_numpy(dtype=float), kept, run.id)
    return RunDesign(
        matrix,
        kept,
        run.n_volumes,
        found.n_non_steady_state,
        found.n_scrubbed,
    )


def denoising(run: RunTables, wanted: Confounds) -> Denoising:
    """Regressors and kept volumes of the run."""
    if wanted.empty:
        return Denoising(pd.DataFrame(index=range(run.n_volumes)), run.sample_mask)
    if run.confounds is None:
        raise InputError(
            run.id,
            "no confounds table was found, but first_level.confounds asks for confounds.",
            "fMRIPrep writes *_desc-confounds_timeseries.tsv beside the image; or ask for no confounds.",
        )
    require_image(wanted, run.desc, run.id)
    return denoise(run.confounds, run.components, wanted, run.id, sample_mask=run.sample_mask)


def require_volumes(found: Denoising, run: RunTables) -> None:
    """Refuse a run of which nothing is left; warn where less than half is."""
    kept, n = int(found.sample_mask.sum()), run.n_volumes
    reasons = f"{found.n_scrubbed} of {n} volumes scrubbed, {found.n_non_steady_state} before the steady state"
    if not kept:
        raise InputError(run.id, f"no volume is left: {reasons}.", "Raise the thresholds, or leave the run out.")
    if kept < LITTLE * n:
        warnings.warn(f"{run.id}: only {kept} of {n} volumes are kept: {reasons}.", VoxloomWarning, stacklevel=3)


def make_design(*, store: str, run_id: str, fit_path: str, noise_path: str, first_level: FirstLevel) -> Output:
    """Write the design of one run and make room for its fit, and for its noise where that is found first."""
    objects = Objects(store)
    run = read_run(objects, run_id)
    desc = run.entities.get("desc", "")
    tables = RunTables(run_id, run.n_volumes, run.t_r, desc, run.events, run.confounds, run.components, run.sample_mask)
    built = build(tables, first_level)
    shards = make_room(objects, fit_path, built, run.n_voxels, run.itemsize, first_level)
    parameters = NOISE_MODELS[first_level.noise_model].parameters if first_level.noise_smoothing_fwhm else ()
    rule, forget = bold_chunks(run.n_voxels, run.n_volumes, run.itemsize), partial(Ledger(objects).forget_all, "noise")
    make_noise_room(objects, noise_path, parameters, run.n_voxels, rule, partial(forget, noise_path))
    values, columns = built.matrix.to_numpy(dtype=float), list(built.matrix.columns)
    return Output(
        digest=content_digest([values, built.kept], columns),
        bytes_read=run.sample_mask.nbytes + (0 if run.confounds is None else run.confounds.to_numpy().nbytes),
        bytes_written=values.nbytes,
        details={
            "n_shards": len(shards),
            "shards": [[s.start, s.stop] for s in shards],
            "columns": columns,
            "n_volumes": run.n_volumes,
            "n_kept": len(built.kept),
            "n_non_steady_state": built.n_non_steady_state,
            "n_scrubbed": built.n_scrubbed,
            "itemsize": run.itemsize,
            "is_scaled": run.is_scaled,
        },
        # of the arrays it makes room for, the metadata; their shards are the fit's
        wrote=[
            f"fits/{fit_path}/design",
            *(f"fits/{fit_path}/{name}/zarr.json" for name in ("beta", *PER_VOXEL[first_level.noise_model], EXPLAINED)),
            *(f"noise/{noise_path}/{name}/zarr.json" for name in parameters),
        ],
    )


def censoring_note(kept: Mapping[str, tuple[int, int]]) -> str | None:
    """One line on volumes that are left out of all runs; None where there are none.

    Parameters
    ----------
    kept : mapping of str to (int, int)
        Volumes kept, and all, of each run.
    """
    out = {run: n - k for run, (k, n) in kept.items() if k < n}
    if not out:
        return None
    total, most = sum(n for _, n in kept.values()), max(out, key=lambda run: out[run] / kept[run][1])
    return (
        f"{sum(out.values())} of {total} volumes ({sum(out.values()) / total:.1%}) are left out, in {len(out)} of "
        f"{len(kept)} runs; most in {most}: {out[most]} of {kept[most][1]}"
    )


def check_contrasts(analysis: Analysis, columns: Mapping[str, list[str]]) -> list[str]:
    """Refuse contrasts that no run can answer; note those that some cannot, and what weights by place come to.

    Parameters
    ----------
    columns : mapping of str to list of str
        Regressors of each run.

    Raises
    ------
    ContrastError
        A contrast names columns that no run has; the message lists the columns. Weights by place are more than the
        columns of a run, or fall on other columns in one run than in another.
    """
    notes = []
    for name, wanted in analysis.first_level.contrasts.items():
        if wanted.in_turn:
            notes.append(f"contrast {name}: weights by place are those of {weighed(name, wanted, columns)!r}")
            continue
        errors: dict[str, ContrastError] = {}
        for run_id, names in columns.items():
            try:
                contrast_matrix(wanted.over(names), names)
            except ContrastError as error:
                errors[run_id] = error
        if errors and len(errors) == len(columns):
            first = next(iter(errors.values()))
            raise ContrastError(f"first_level.contrasts.{name}", str(first))
        if errors:
            notes.append(
                f"contrast {name}: not in {len(errors)} of {len(columns)} runs ({', '.join(list(errors)[:3])}...)"
            )
    return notes


def weighed(name: str, wanted: Contrast, columns: Mapping[str, list[str]]) -> str | list[str]:
    """What weights by place say, in the names of the columns; raises as `check_contrasts`."""
    where = f"first_level.contrasts.{name}"
    said: dict[str, str | list[str]] = {}
    for run_id, names in columns.items():
        try:
            said[run_id] = wanted.named(names)
        except ContrastError as error:
            raise ContrastError(f"{where}: {run_id}", error.what, error.remedy) from None
    first, *others = said
    for run_id in others:
        if said[run_id] != said[first]:
            raise ContrastError(
                where,
                f"weighs columns by place: {said[first]!r} in {first}, but {said[run_id]!r} in {run_id}.",
                "Name the columns: an expression, or weights: {name: weight}.",
            )
    return said[first]


STAGE = Stage(NAME, tasks)
