"""Design matrices of single runs: events convolved with a response, added regressors, drifts, constant."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from voxloom.errors import DesignError, VoxloomWarning
from voxloom.kernels.design.convolve import FineGrid, check_frame_times, convolve_events, fine_grid
from voxloom.kernels.design.drift import cosine_drift, polynomial_drift
from voxloom.kernels.design.gram_schmidt import dependent
from voxloom.kernels.design.hrf import HrfBasis, hrf_kernels
from voxloom.models.design.events import check_events
from voxloom.models.design.modulation import Modulation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.design.hrf import HrfModel

    FloatArray = NDArray[np.float64]

__all__ = ["check_events", "dependent_columns", "design_matrix", "frame_times"]


def frame_times(n_scans: int, t_r: float, slice_time_ref: float = 0.0) -> FloatArray:
    """Return the times (T,) at which the volumes are taken to be acquired, in seconds.

    Parameters
    ----------
    n_scans : int
    t_r : float
        Repetition time in seconds.
    slice_time_ref : float
        Moment of each TR the slices were corrected to, from 0 (its start) to 1.

    Raises
    ------
    DesignError
        Where an argument is out of its range.
    """
    if not 0 < t_r < np.inf:
        raise DesignError("t_r", f"is {t_r!r}.", "Give the repetition time in seconds.")
    if n_scans < 1 or not 0 <= slice_time_ref <= 1:
        raise DesignError(
            "frame_times",
            f"n_scans {n_scans}, slice_time_ref {slice_time_ref}.",
            "Give one or more scans and a reference from 0 to 1.",
        )
    return np.linspace(slice_time_ref * t_r, (n_scans - 1 + slice_time_ref) * t_r, n_scans)


def design_matrix(
    frame_times: ArrayLike,
    events: pd.DataFrame | None = None,
    *,
    hrf_model: HrfModel = "spm",
    drift_model: Literal["cosine", "polynomial"] | None = "cosine",
    high_pass: float = 0.01,
    drift_order: int = 1,
    fir_delays: Sequence[int] = (0,),
    add_regs: pd.DataFrame | ArrayLike | None = None,
    add_reg_names: Sequence[str] | None = None,
    min_onset: float = -24.0,
    oversampling: int = 50,
    modulation: Literal["separate", "amplitude"] = "separate",
    modulators: Sequence[str] | Mapping[str, Sequence[str]] = (),
    where: str = "design_matrix",
) -> pd.DataFrame:
    """Design of one run.

    Equal to nilearn's ``make_first_level_design_matrix`` to 1e-10 but for these: modulation (below); events
    that start before `min_onset` are dropped, not moved to it; a singular design is reported, not changed;
    frame times with gaps do not stretch the response; ``hrf_model`` is spm where nilearn says glover.

    Parameters
    ----------
    frame_times : (T,) array_like
        Time of every volume, in seconds; see `frame_times`.
    events : DataFrame, optional
        ``onset``, ``duration`` (s), ``trial_type``, ``modulation``; see `check_events`.
    hrf_model : str, callable, sequence of callables, or None
        See `voxloom.kernels.design.hrf.hrf_kernels`.
    drift_model : {"cosine", "polynomial"}, optional
        None leaves the constant alone.
    high_pass : float
        Cut-off of the cosines in Hz.
    drift_order : int
        Highest power of the polynomial.
    fir_delays : sequence of int
        Delays in scans, for ``hrf_model="fir"``.
    add_regs : DataFrame or (T, n) array_like, optional
        Further regressors, such as confounds.
    add_reg_names : sequence of str, optional
        Their names; ``reg0``... when not given. A DataFrame brings its own.
    min_onset : float
        Events that start earlier than this, relative to the first volume (s), are dropped.
    oversampling : int
        Points per volume of the grid on which events are placed.
    modulation : {"separate", "amplitude"}
        ``"separate"``: every condition has amplitude 1, and one whose modulation varies has a second
        regressor ``<condition>*modulation`` with the modulation minus its mean over the condition's events.
        ``"amplitude"``: the modulation is the amplitude, as in nilearn.
    modulators : sequence of str, or mapping of str to sequence of str
        Further columns of the events that modulate all conditions, or those of each condition: a regressor
        ``<condition>*<column>`` each, centred over the condition's events in the run. They are not made orthogonal
        to each other (as SPM does in turn), so none takes what it shares with another and their order means
        nothing. In a list, a column that is n/a throughout a condition does not modulate it.
    where : str
        How messages name the design: the events file, say.

    Returns
    -------
    DataFrame
        Index `frame_times`; columns: sorted conditions with their derivatives, `add_regs`, ``drift_1``...,
        ``constant``.

    Raises
    ------
    DesignError
        For frame times, events, options or added regressors that make no design, and for repeated names.

    Warns
    -----
    VoxloomWarning
        For a singular design, naming the columns that depend on earlier ones, and as `check_events` does.
    """
    times = check_frame_times(frame_times)
    parts = []
    if events is not None:
        grid = fine_grid(times, oversampling=oversampling, min_onset=min_onset)
        basis = hrf_kernels(hrf_model, grid.t_r, oversampling, fir_delays=fir_delays)
        start, end = float(times[0] + min_onset), float(times[-1] + grid.t_r)
        rule = Modulation(modulation, modulators, where)
        checked = check_events(events, where, start=start, end=end, modulators=rule.columns)
        rule.report(checked)
        parts.append(_event_regressors(checked, basis, grid, rule))
    if add_regs is not None:
        parts.append(_added_regressors(add_regs, add_reg_names, times.size, where))
    parts.append(_drifts(drift_model, times, high_pass, drift_order))
    matrix = np.column_stack([part.matrix for part in parts])
    names = [name for part in parts for name in part.names]
    _require_unique(names, where)
    _report_singular(matrix, names, where)
    return pd.DataFrame(matrix, index=pd.Index(times), columns=names)


def dependent_columns(X: ArrayLike, names: Sequence[str]) -> list[str]:
    """Names of the columns of X (T, K) that are zero or linear combinations of earlier ones."""
    return [names[k] for k in dependent(X)]


class _Part(NamedTuple):
    """Some columns of a design."""

    matrix: FloatArray
    names: list[str]


def _event_regressors(events: pd.DataFrame, basis: HrfBasis, grid: FineGrid, modulation: Modulation) -> _Part:
    """Regressors of every condition, by name; one whose events all lie outside the run is a column of 0."""
    columns, names = [], []
    for condition, rows in events.groupby("trial_type"):
        inside = rows[rows["in_run"]]
        onset, duration = inside["onset"].to_numpy(), inside["duration"].to_numpy()
        for course in modulation.courses(str(condition), inside):
            columns.append(convolve_events(onset, duration, course.height, basis, grid))
            names += [course.name + suffix for suffix in basis.suffixes]
    return _Part(np.column_stack(columns), names)


def _added_regressors(
    add_regs: pd.DataFrame | ArrayLike, names: Sequence[str] | None, n_frames: int, where: str
) -> _Part:
    if isinstance(add_regs, pd.DataFrame):
        names = [str(name) for name in add_regs.columns]
    try:
        matrix = np.array(add_regs, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DesignError(where, f"add_regs are not numeric: {error}.", "Give a number in every cell.") from error
    matrix = matrix[:, np.newaxis] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.shape[0] != n_frames:
        rows = matrix.shape[0] if matrix.ndim else 0
        raise DesignError(
            where,
            f"add_regs have {rows} rows, but the run has {n_frames} volumes.",
            "Give one row per volume; check that confounds and run belong together.",
        )
    names = [f"reg{k}" for k in range(matrix.shape[1])] if names is None else [str(name) for name in names]
    if len(names) != matrix.shape[1]:
        raise DesignError(
            where, f"{len(names)} names for {matrix.shape[1]} added regressors.", "Give one name for each."
        )
    bad = [names[k] for k in np.flatnonzero(~np.isfinite(matrix).all(axis=0))]
    if bad:
        raise DesignError(where, f"added regressors {bad} hold n/a or infinite values.", "Fill or drop them.")
    return _Part(matrix, names)


def _drifts(drift_model: str | None, times: FloatArray, high_pass: float, order: int) -> _Part:
    drifts: dict[str | None, Callable[[], FloatArray]] = {
        "cosine": lambda: cosine_drift(high_pass, times),
        "polynomial": lambda: polynomial_drift(order, times),
        None: lambda: np.ones((times.size, 1)),
    }
    model = drift_model.lower() if isinstance(drift_model, str) else drift_model
    if model not in drifts:
        raise DesignError("drift_model", f"{drift_model!r} is not known.", f"Give one of {list(drifts)}.")
    matrix = drifts[model]()
    return _Part(matrix, [*(f"drift_{k}" for k in range(1, matrix.shape[1])), "constant"])


def _require_unique(names: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise DesignError(
            where,
            f"columns {repeated} occur more than once.",
            "Rename the conditions or added regressors; `drift_1`..., `constant` and `reg0`... are taken.",
        )


def _report_singular(matrix: FloatArray, names: Sequence[str], where: str) -> None:
    singular = dependent_columns(matrix, names)
    if singular:
        warnings.warn(
            f"{where}: Design matrix is singular: its rank is {len(names) - len(singular)} of {len(names)}; "
            f"{singular} are zero or linear combinations of columns before them. Contrasts that need them "
            "cannot be estimated; drop or merge columns if that is not meant.",
            VoxloomWarning,
            stacklevel=3,
        )
