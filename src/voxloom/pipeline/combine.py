"""Stage 4: contrasts of every run and their fixed effects per subject; one task per subject."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import ContrastError
from voxloom.io.objects import Objects
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.contrasts import combine_f, contrast, contrast_rows
from voxloom.models.first_level import fixed_effects
from voxloom.pipeline.stored_fit import load_fit
from voxloom.pipeline.stored_maps import STATISTICS, make_maps, write_maps
from voxloom.pipeline.workspace import Stage, Workspace, content_digest
from voxloom.schema import MAP_SHARD_VOXELS, shard_slices
from voxloom.spec import digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.spec import Contrast

NAME = "combine"


def tasks(ws: Workspace) -> list[Task]:
    """One task per subject that has a complete fit."""
    name = ws.analysis.combine_digest
    return [
        Task(
            stage=NAME,
            key=f"{name}/{subject}",
            function=combine_subject,
            kwargs={
                "store": ws.url,
                "results": name,
                "subject": subject,
                "fits": {run.id: ws.fit_path(run) for run in runs},
                "contrasts": dict(ws.analysis.first_level.contrasts),
                "precision_weighted": ws.analysis.subject_level.fixed_effects.precision_weighted,
                "n_voxels": len(ws.voxel),
            },
            # with the runs' names: the maps of a renamed run lie elsewhere
            inputs=digest([name, *([run.id, ws.fit_digest_of(run)] for run in runs)]),
        )
        for subject, runs in ws.subjects().items()
    ]


def combine_subject(
    *,
    store: str,
    results: str,
    subject: str,
    fits: Mapping[str, str],
    contrasts: Mapping[str, Contrast],
    precision_weighted: bool,
    n_voxels: int,
) -> Output:
    """Write the contrast maps of a subject's runs and of the subject."""
    objects = Objects(store)
    paths = {run: f"results/{results}/runs/{run}" for run in fits}
    subject_path = f"results/{results}/subjects/{subject}"
    for path in (*paths.values(), subject_path):
        make_maps(objects, path, list(contrasts), n_voxels)
    read, written, digests = 0, 0, []
    for voxels in shard_slices(n_voxels, MAP_SHARD_VOXELS):
        answers: dict[str, Answers] = {}
        for run, fit_path in fits.items():  # one fit in memory at a time, whatever the number of runs
            check_cancelled()
            answers[run], n_bytes = answer_all(objects, fit_path, voxels, contrasts)
            read += n_bytes
        combined = {name: combine([a[name] for a in answers.values()], name, precision_weighted) for name in contrasts}
        for run, found in answers.items():
            maps = {name: a.maps if a else xr.full_like(combined[name], np.nan) for name, a in found.items()}
            written += write_maps(objects, paths[run], stack_contrasts(maps), voxels)
        stacked = stack_contrasts(combined)
        written += write_maps(objects, subject_path, stacked, voxels)
        digests.append(content_digest(stacked[name].to_numpy() for name in STATISTICS))
        del maps, combined, stacked  # before the next stretch is read
    return Output(
        digest=digest(digests),
        bytes_read=read,
        bytes_written=written,
        wrote=[f"{path}/{name}" for path in (*paths.values(), subject_path) for name in STATISTICS],
    )


def answer_all(
    objects: Objects, fit_path: str, voxels: slice, contrasts: Mapping[str, Contrast]
) -> tuple[Answers, int]:
    """Every contrast in one run over a stretch of voxels, and the bytes of the fit that was read for it."""
    fit = load_fit(objects, fit_path, voxels)
    found = {name: answer(fit, wanted) for name, wanted in contrasts.items()}
    return found, sum(variable.nbytes for variable in fit.data_vars.values())


class Answer(NamedTuple):
    """A contrast in one run: its maps, and for an F the row effects with their covariance."""

    maps: xr.Dataset
    rows: xr.Dataset | None


Answers = dict[str, Answer | None]


def answer(fit: xr.Dataset, wanted: Contrast) -> Answer | None:
    """The contrast in one run; None when the run's design lacks its columns.

    Raises
    ------
    ContrastError
        The run has the columns, but the contrast is not estimable in it.
    """
    try:
        contrast_matrix(wanted.expression, [str(name) for name in fit.regressor.values])
    except ContrastError:
        return None
    maps = contrast(fit, wanted.expression, stat_type=wanted.stat_type, tails=False)
    return Answer(maps, contrast_rows(fit, wanted.expression) if maps.attrs["stat_type"] == "F" else None)


def combine(answers: Sequence[Answer | None], name: str, precision_weighted: bool) -> xr.Dataset:
    """Fixed effects over the runs that have the contrast; an F from the combined rows and covariance."""
    found = [a for a in answers if a is not None]
    if not found:
        raise ContrastError(f"contrast {name}", "names columns that no run of this subject has.")
    if found[0].rows is None:
        return fixed_effects([a.maps for a in found], precision_weighted=precision_weighted, tails=False)
    return combine_f([a.rows for a in found if a.rows is not None])


def stack_contrasts(maps: Mapping[str, xr.Dataset]) -> xr.Dataset:
    """Stack contrast Datasets along ``contrast``; effect and variance of an F are NaN."""
    first = next(iter(maps.values()))["stat"]
    absent = np.full(first.shape, np.nan)
    stacked = {
        name: np.stack([np.broadcast_to(m[name], first.shape) if name in m else absent for m in maps.values()])
        for name in STATISTICS
    }
    return xr.Dataset(
        {name: (("contrast", "voxel"), values) for name, values in stacked.items()},
        coords={"contrast": list(maps)},
    )


STAGE = Stage(NAME, tasks)
