"""Files into a study without an analysis file: the first stage of the line, for any list of images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError, StageError, VoxloomWarning
from voxloom.io.store.objects import Objects
from voxloom.io.study.open import is_study, open_study
from voxloom.io.study.run_files import run_files
from voxloom.pipeline.line import go, stages_of
from voxloom.pipeline.running import at_work
from voxloom.schema import MEMORY_BUDGET
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from collections.abc import Sequence

    import distributed

    from voxloom.engine.events import OnEvent
    from voxloom.io.bids.run_table import RunFile
    from voxloom.io.study.open import Study
    from voxloom.pipeline.line import RunResult


def ingest(
    images: Any,
    store: str | PathLike[str],
    *,
    mask: str | PathLike[str] | Mapping[str, Any] | None = None,
    t_r: float | None = None,
    smoothing_fwhm: float | None = None,
    max_error_sd: float | None = None,
    memory_budget: int | str = MEMORY_BUDGET,
    workers: int | None = None,
    client: distributed.Client | None = None,
    on_event: OnEvent | None = None,
) -> Study:
    """Put runs into a study, which is made where it is not there; the first stage of `run`, by hand.

    Each image is decoded once, volume by volume, in bounded memory. Runs that are in the store and whose files
    have not changed are left as they are, so the same call goes on where it was stopped. An analysis of the
    same files takes the runs as its own.

    Parameters
    ----------
    images : path, RunFile, DataFrame, or sequence of paths, RunFile or mappings
        One run or several. A table has a row per run with a column ``bold`` (path), optional ``mask``,
        ``events`` and ``confounds`` (paths), ``t_r`` (s, as a sidecar has it) and ``id``, and BIDS entities; what
        `voxloom.io.bids.run_table.index_runs` gives are such runs.
    store : path-like or str
        Folder or address of the store.
    mask : path-like, mapping, or {"union", "intersection"}, optional
        Voxels of the study: those of an image on the runs' grid, of one on another grid (``{"template": path}``), or
        of the runs' masks (computed from the first volumes where a run has none). By default the store's own, and
        ``union`` for a new one. Fixed from then on.
    t_r : float, optional
        Repetition time in s, whatever sidecars and headers say.
    smoothing_fwhm : float, optional
        Gaussian smoothing of every volume, in mm; kept as a run of its own (``<id>_smooth-<fwhm>``).
    max_error_sd : float, optional
        Round every voxel's series, which is lossless by default, so that no value changes by more than this part
        of the voxel's temporal SD; kept as a run of its own (``<id>_error-<max_error_sd>``).
    memory_budget : int or str
        Bytes one task may use above the base of its process, or a size such as ``"512MiB"``.
    workers : int, optional
        Worker processes to start where there is no client. By default this process does the work.
    client : distributed.Client, optional
        Cluster to run on.
    on_event : callable, optional
        Called with each event of the engine.

    Returns
    -------
    Study
        ``study.runs`` lists the runs, ``study.run(id)`` opens one lazily. A run that cannot be used (truncated,
        on another grid, confounds of another length) is left out with a `VoxloomWarning` that says why.

    Raises
    ------
    InputError
        No image is named, or none of them can be used.
    StoreError
        Another process works on the store, or it was made with another mask.
    StageError
        A task failed for another reason than its input.
    """
    runs = run_files(images)
    analysis = parse_analysis(
        {
            "data": _data(runs) | {"mask": _mask(mask, store), "t_r": t_r, "max_error_sd": max_error_sd},
            "store": {"path": str(store)},
            "first_level": {"smoothing_fwhm": smoothing_fwhm},
            "cluster": "local" if workers else "threads",
            "workers": workers,
            "memory_budget": memory_budget,
        },
        where="ingest",
    )
    stages = stages_of(analysis, "ingest")
    with at_work(analysis, client, on_event, stages, runs) as (ws, connected):
        result = go(ws, connected, stages)
        n_done = len(ws.done("ingest"))
    _tell(result, n_done)
    return open_study(store)


def _data(runs: Sequence[RunFile]) -> dict[str, Any]:
    """The datasets of these runs, as an analysis names them; their folders are not looked at."""
    folders: dict[str, Any] = {run.site: {"bids_dir": str(run.bold.parent)} for run in runs}
    return dict(folders[""]) if set(folders) == {""} else {"sites": folders}


def _mask(given: str | PathLike[str] | Mapping[str, Any] | None, store: str | PathLike[str]) -> Any:
    """What stands for `data.mask`: where nothing is given, that of the study, and of a new one the default."""
    if given is None:
        return open_study(store).meta.get("mask") if is_study(Objects(store)) else None
    if not isinstance(given, (str, PathLike, Mapping)):
        raise InputError(
            "mask", f"is a {type(given).__name__}, but a file is wanted.", "Save it as NIfTI and pass the path."
        )
    return dict(given) if isinstance(given, Mapping) else str(given)


def _tell(result: RunResult, n_done: int) -> None:
    """Raise for failed tasks, and where nothing is done; warn of what was set aside or assumed."""
    reasons = [record.reason for record in result.quarantined]
    if result.failed:
        failed = "\n  ".join(f"{record.key}: {record.reason}" for record in result.failed)
        raise StageError(f"ingest: {len(result.failed)} runs failed; what was done is kept:\n  {failed}")
    if not n_done:
        raise InputError("images", "none of them can be used:\n  " + "\n  ".join(reasons))
    for text in (*reasons, *result.warnings):
        warnings.warn(text, VoxloomWarning, stacklevel=3)
