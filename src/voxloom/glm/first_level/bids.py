"""Models of every subject of a BIDS dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError
from voxloom.glm.first_level.model import FirstLevelModel
from voxloom.io.bids.confounds import read_confounds
from voxloom.io.bids.denoise import load_confounds
from voxloom.io.bids.events import read_events
from voxloom.io.bids.run_table import index_runs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxloom.io.bids.run_table import RunFile

PREFIX = "confounds_"


def first_level_from_bids(
    dataset_path: Any,
    task_label: str,
    space_label: str | None = None,
    sub_labels: Sequence[str] | None = None,
    exclude_subjects: Sequence[str] | None = None,
    img_filters: Sequence[tuple[str, str]] | None = None,
    t_r: float | None = None,
    slice_time_ref: float | None = None,
    hrf_model: Any = "glover",
    drift_model: str | None = "cosine",
    high_pass: float = 0.01,
    drift_order: int = 1,
    fir_delays: Any = None,
    min_onset: float = -24,
    mask_img: Any = None,
    target_affine: Any = None,
    target_shape: Any = None,
    smoothing_fwhm: float | None = None,
    memory: Any = None,
    memory_level: int = 1,
    standardize: bool = False,
    signal_scaling: Any = 0,
    noise_model: str = "ar1",
    verbose: int = 0,
    n_jobs: int = 1,
    minimize_memory: bool = True,
    derivatives_folder: Any = "derivatives",
    *,
    rules: str = "nilearn",
    client: Any = None,
    store: Any = None,
    **kwargs: Any,
) -> tuple[list[FirstLevelModel], list[list[str]], list[list[Any]], list[list[Any] | None]]:
    """A model, and the files to fit it to, of every subject of a BIDS dataset.

    Parameters
    ----------
    dataset_path : path
    task_label, space_label : str
        Entities of the images; the space may be left out where there is only one.
    sub_labels, exclude_subjects : sequence of str, optional
        Subjects to take or to leave out, without ``sub-``.
    img_filters : sequence of (str, str), optional
        Further entities and their values.
    t_r : float, optional
        Repetition time in s; of each subject's sidecars when not given.
    mask_img : path, image, False or "derivatives", optional
        "derivatives" takes each subject's own brain mask, that of its first run.
    derivatives_folder : path
        Preprocessed images, relative to `dataset_path`.
    **kwargs
        ``confounds_strategy``, ``confounds_motion``, ... choose confounds as `voxloom.load_confounds` does; without
        any, every numeric column of the tables is given.

    Others as in `FirstLevelModel`.

    Returns
    -------
    models : list of FirstLevelModel
        Volumes that the strategy scrubs are kept in ``sample_masks_``, which `fit` honours (nilearn loses them).
    images : list of list of str
    events : list of list of DataFrame
    confounds : list of (list of DataFrame or None)

    Raises
    ------
    InputError
        Nothing fits, a subject is not there, a run has no events, or a keyword is unknown.
    """
    unknown = [name for name in kwargs if not name.startswith(PREFIX)]
    if unknown:
        raise InputError("first_level_from_bids", f"has no parameter {unknown[0]!r}.", f"Confounds are {PREFIX}*.")
    wanted = {name.removeprefix(PREFIX): value for name, value in kwargs.items()}
    options = {
        name: value
        for name, value in locals().items()
        if name in FirstLevelModel.names() and name not in ("t_r", "mask_img", "slice_time_ref")
    }
    found = _by_subject(dataset_path, derivatives_folder, task_label, space_label, img_filters)
    chosen = _chosen(list(found), sub_labels, exclude_subjects)
    models, images, events, confounds = [], [], [], []
    for label in chosen:
        runs = found[label]
        model = FirstLevelModel(
            t_r=runs[0].t_r if t_r is None else t_r,
            slice_time_ref=slice_time_ref or 0.0,
            mask_img=str(_own_mask(runs[0])) if isinstance(mask_img, str) and mask_img == "derivatives" else mask_img,
            subject_label=label,
            **options,
        )
        tables, model.sample_masks_ = _confounds(runs, wanted)
        models.append(model)
        images.append([str(run.bold) for run in runs])
        events.append([read_events(_own_events(run)) for run in runs])
        confounds.append(tables)
    return models, images, events, confounds


def _by_subject(path: Any, folder: Any, task: str, space: str | None, filters: Any) -> dict[str, list[RunFile]]:
    wanted: dict[str, list[str]] = {}
    for name, value in filters or ():
        wanted.setdefault(name, []).append(value)
    root = Path(path) / folder
    derived = sorted(root.iterdir()) if root.is_dir() and not any(root.glob("sub-*")) else [root]
    runs = index_runs(path, [one for one in derived if one.is_dir()], task=task, space=space, filters=wanted)
    found: dict[str, list[RunFile]] = {}
    for run in runs:
        found.setdefault(run.entities["sub"], []).append(run)
    return found


def _chosen(labels: list[str], wanted: Sequence[str] | None, excluded: Sequence[str] | None) -> list[str]:
    asked = [*(wanted or ()), *(excluded or ())]
    lost = [label for label in asked if label not in labels]
    if lost:
        raise InputError("sub_labels", f"{lost} have no such images.", f"Those that have: {labels}.")
    return [label for label in labels if (not wanted or label in wanted) and label not in (excluded or ())]


def _own_mask(run: RunFile) -> Path:
    if run.mask is None:
        raise InputError("mask_img", f"{run.id} has no brain mask in the derivatives.", "Pass a mask, or None.")
    return run.mask


def _own_events(run: RunFile) -> Path:
    if run.events is None:
        raise InputError("events", f"{run.id} has none.", "Add its events, or leave it out with img_filters.")
    return run.events


def _confounds(runs: Sequence[RunFile], wanted: dict[str, Any]) -> tuple[list[Any] | None, list[Any] | None]:
    """Tables and sample masks of the runs."""
    lost = [run.id for run in runs if run.confounds is None]
    if len(lost) == len(runs) and not wanted:
        return None, None
    if lost:
        raise InputError("confounds", f"{lost} have none.", "Leave them out with img_filters.")
    paths = [run.confounds for run in runs if run.confounds is not None]
    if not wanted:
        return [read_confounds(path).select_dtypes("number") for path in paths], None
    loaded = [load_confounds(path, wanted) for path in paths]
    return [one.confounds for one in loaded], [one.sample_mask for one in loaded]
