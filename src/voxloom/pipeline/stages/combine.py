"""Stage 4: contrasts of every run and their fixed effects per subject; one task per subject."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from voxloom.engine.runner import Output, Task
from voxloom.engine.worker import check_cancelled
from voxloom.errors import ContrastError, VoxloomWarning
from voxloom.io.store.objects import Objects
from voxloom.models.first_level.runs import Answer, answer, join
from voxloom.pipeline.levels import has_columns, levels_of
from voxloom.pipeline.stored.fit import load_fit
from voxloom.pipeline.stored.maps import STATISTICS, make_maps, write_maps
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
                "fits": {run.id: ws.fit_path(run) for run in runs},
                "levels": {
                    path: [run.id for run in joined]
                    for path, joined in levels_of(subject, runs, sessions=ws.analysis.subject_level.sessions).items()
                },
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
    fits: Mapping[str, str],
    levels: Mapping[str, Sequence[str]],
    contrasts: Mapping[str, Contrast],
    precision_weighted: bool,
    n_voxels: int,
) -> Output:
    """Write the contrast maps of a subject's runs, and of its levels: the subject and its sessions."""
    objects = Objects(store)
    paths = {run: f"results/{results}/runs/{run}" for run in fits}
    joined = {f"results/{results}/{level}": runs for level, runs in levels.items()}
    for path in (*paths.values(), *joined):
        make_maps(objects, path, list(contrasts), n_voxels)
    read, written, digests = 0, 0, []
    for voxels in shard_slices(n_voxels, MAP_SHARD_VOXELS):
        answers: dict[str, Answers] = {}
        for run, fit_path in fits.items():  # one fit in memory at a time, whatever the number of runs
            check_cancelled()
            answers[run], n_bytes = answer_all(objects, fit_path, voxels, contrasts, run)
            read += n_bytes
        for name in contrasts:
            require_answer(name, answers)
        for run, found in answers.items():
            alone = {name: one.maps if one else None for name, one in found.items()}
            written += write_maps(objects, paths[run], stack_contrasts(alone, voxels), voxels)
        for path, runs in joined.items():
            maps = {name: combine([answers[run][name] for run in runs], precision_weighted) for name in contrasts}
            stacked = stack_contrasts(maps, voxels)
            written += write_maps(objects, path, stacked, voxels)
            digests.append(content_digest(stacked[name].to_numpy() for name in STATISTICS))
            del maps, stacked  # before the next are made, or read
    return Output(
        digest=digest(digests),
        bytes_read=read,
        bytes_written=written,
        wrote=[f"{path}/{name}" for path in (*paths.values(), *joined) for name in STATISTICS],
    )


Answers = dict[str, Answer | None]


def answer_all(
    objects: Objects, fit_path: str, voxels: slice, contrasts: Mapping[str, Contrast], run: str
) -> tuple[Answers, int]:
    """Every contrast in one run over a stretch of voxels, and the bytes of the fit that was read for it."""
    fit = load_fit(objects, fit_path, voxels)
    found = {name: answer_or_none(fit, wanted, f"{run}: contrast {name}") for name, wanted in contrasts.items()}
    return found, sum(variable.nbytes for variable in fit.data_vars.values())


def answer_or_none(fit: xr.Dataset, wanted: Contrast, where: str) -> Answer | None:
    """The contrast in one run; None where the run's design lacks its columns or, which is warned of, cannot tell it."""
    columns = [str(name) for name in fit.regressor.values]
    if not has_columns(wanted, columns):
        return None
    try:
        return answer(fit, wanted.over(columns), wanted.stat_type)
    except ContrastError as error:
        warnings.warn(f"{where} {error.what} The run is left out of it.", VoxloomWarning, stacklevel=2)
        return None


def require_answer(name: str, answers: Mapping[str, Answers]) -> None:
    """Refuse a subject of which no run can answer a contrast."""
    if not any(found[name] for found in answers.values()):
        raise ContrastError(
            f"contrast {name}",
            f"is not estimable in any run of this subject ({', '.join(answers)}): columns are missing, zero or "
            "combinations of others.",
            "Leave the subject out with data.filters, or ask another question.",
        )


def combine(answers: Sequence[Answer | None], precision_weighted: bool) -> xr.Dataset | None:
    """Fixed effects over the runs that have the contrast; None where none has."""
    found = [one for one in answers if one is not None]
    return join(found, precision_weighted=precision_weighted, tails=False) if found else None


def stack_contrasts(maps: Mapping[str, xr.Dataset | None], voxels: slice) -> xr.Dataset:
    """Stack contrast Datasets along ``contrast``; NaN for one that is not there, and what an F has not."""
    shape = (voxels.stop - voxels.start,)
    absent = np.full(shape, np.nan)
    stacked = {
        name: np.stack(
            [absent if m is None or name not in m else np.broadcast_to(m[name], shape) for m in maps.values()]
        )
        for name in STATISTICS
    }
    return xr.Dataset(
        {name: (("contrast", "voxel"), values) for name, values in stacked.items()},
        coords={"contrast": list(maps)},
    )


STAGE = Stage(NAME, tasks)
