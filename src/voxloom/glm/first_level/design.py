"""Designs of runs by nilearn's names and, unless other rules are asked for, by its rules."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from voxloom.errors import DesignError, VoxloomWarning
from voxloom.glm.first_level.rules import require_rules
from voxloom.kernels.design import hrf
from voxloom.models.design.matrix import design_matrix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def make_first_level_design_matrix(
    frame_times: ArrayLike,
    events: pd.DataFrame | None = None,
    hrf_model: Any = "glover",
    drift_model: Any = "cosine",
    high_pass: float = 0.01,
    drift_order: int = 1,
    fir_delays: Sequence[int] | None = None,
    add_regs: pd.DataFrame | ArrayLike | None = None,
    add_reg_names: Sequence[str] | None = None,
    min_onset: float = -24,
    oversampling: int = 50,
    *,
    rules: str = "nilearn",
) -> pd.DataFrame:
    """Design of one run, a row per volume; see `voxloom.design_matrix`.

    A `modulation` that varies within a condition makes a column of its own, ``<condition>*modulation``, with a warning:
    nilearn scales the regressor of the condition by it (``voxloom.design_matrix(..., modulation="amplitude")``), as is
    done here with one that is the same for all events of each condition.

    Parameters
    ----------
    frame_times : (T,) array_like
        Seconds.
    events : DataFrame, optional
        ``onset``, ``duration`` (s), ``trial_type``, ``modulation``.
    hrf_model, drift_model, high_pass, drift_order, add_regs, add_reg_names, oversampling
        As in nilearn; `hrf_model` may also be a function of seconds.
    fir_delays : sequence of int, optional
        In scans; 0 alone when not given.
    min_onset : float
        Earliest onset, relative to the first volume (s).
    rules : {"nilearn", "voxloom"}
        Events before `min_onset` are moved to it, or dropped.

    Returns
    -------
    DataFrame

    Raises
    ------
    DesignError
        Frame times, events or options make no design.
    """
    require_rules(rules)
    times = np.asarray(frame_times, dtype=np.float64)
    modulation: Literal["separate", "amplitude"] = "separate" if _modulates(events) else "amplitude"
    if events is not None:
        events = clamped(events, times[0] + min_onset) if rules == "nilearn" else events
    return design_matrix(
        times,
        events,
        hrf_model=hrf_model,
        drift_model=drift_model,
        high_pass=high_pass,
        drift_order=drift_order,
        fir_delays=(0,) if fir_delays is None else fir_delays,
        add_regs=add_regs,
        add_reg_names=add_reg_names,
        min_onset=min_onset,
        oversampling=oversampling,
        modulation=modulation,
    )


def clamped(events: pd.DataFrame, start: float) -> pd.DataFrame:
    """Events of which those before `start` (s) begin at it and end when they did, as nilearn has them."""
    if not isinstance(events, pd.DataFrame) or not {"onset", "duration"} <= set(events):
        return events  # the design says what is wrong
    onset, duration = (pd.to_numeric(events[name], errors="coerce") for name in ("onset", "duration"))
    early = onset < start
    if not early.any():
        return events
    warnings.warn(
        f"events that start before {start:g} s are moved to it, as nilearn does: {early.sum()}. "
        "rules='voxloom' drops them.",
        VoxloomWarning,
        stacklevel=3,
    )
    left = np.maximum(onset + duration - start, 0)
    return events.assign(onset=onset.where(~early, start), duration=duration.where(~early, left))


def _modulates(events: pd.DataFrame | None) -> bool:
    """Whether a modulation varies within a condition, which is told."""
    if not isinstance(events, pd.DataFrame) or "modulation" not in events:
        return False
    conditions = events["trial_type"] if "trial_type" in events else np.zeros(len(events))
    varies = bool((events["modulation"].groupby(np.asarray(conditions)).nunique() > 1).any())
    if varies:
        warnings.warn(
            "`modulation` makes regressors '<condition>*modulation', centred, beside the conditions; nilearn scales "
            "the conditions by it. For that, pass design_matrices of voxloom.design_matrix(modulation='amplitude').",
            VoxloomWarning,
            stacklevel=3,
        )
    return varies


def check_design_matrix(design_matrix: pd.DataFrame) -> tuple[pd.Index[Any], FloatArray, list[Any]]:
    """Frame times (the index), values (T, K) and names of the columns.

    Raises
    ------
    DesignError
        There are no columns.
    """
    if not len(design_matrix.columns):
        raise DesignError("design_matrix", "has no columns.", "Give one per regressor.")
    return design_matrix.index, design_matrix.to_numpy(), list(design_matrix.columns)


def compute_regressor(
    exp_condition: ArrayLike,
    hrf_model: Any,
    frame_times: ArrayLike,
    con_id: str = "cond",
    oversampling: int = 50,
    fir_delays: Sequence[int] | None = None,
    min_onset: float = -24,
) -> tuple[FloatArray, list[str]]:
    """Regressors of one condition.

    Parameters
    ----------
    exp_condition : (3, E) array_like
        Onsets and durations (s), and amplitudes.
    hrf_model, frame_times, oversampling, fir_delays, min_onset
        As in `make_first_level_design_matrix`.
    con_id : str
        Name of the condition.

    Returns
    -------
    (T, n) array
    list of str
        A name per column.
    """
    onset, duration, amplitude = (np.asarray(row, dtype=np.float64) for row in exp_condition)  # type: ignore[union-attr]
    times = np.asarray(frame_times, dtype=np.float64)
    events = clamped(pd.DataFrame({"onset": onset, "duration": duration}), times[0] + min_onset)
    columns, suffixes = hrf.compute_regressor(
        events["onset"],
        events["duration"],
        amplitude,
        hrf_model,
        times,
        oversampling=oversampling,
        fir_delays=(0,) if fir_delays is None else fir_delays,
        min_onset=min_onset,
    )
    return columns, [con_id + suffix for suffix in suffixes]
