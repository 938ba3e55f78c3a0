"""Beta series: an estimate of the response to every single trial, at every voxel of a run."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import DesignError, InputError, VoxloomWarning
from voxloom.kernels.design.convolve import check_frame_times, convolve_events, fine_grid
from voxloom.kernels.design.gram_schmidt import orthogonalize
from voxloom.kernels.design.hrf import hrf_kernels
from voxloom.kernels.first_level.noise_models import require_estimable
from voxloom.kernels.first_level.trials import lsa_weights, lss_weights, weighted_sums
from voxloom.models.design.censoring import kept_rows
from voxloom.models.design.matrix import check_events, design_matrix
from voxloom.models.first_level.fit import fit_segments, signal_of, wants_percent

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.design.hrf import HrfModel

    FloatArray = NDArray[np.float64]

#: Trials named in a warning before it says how many more there are.
SHOWN = 5


def beta_series(
    bold: xr.Dataset | xr.DataArray,
    events: pd.DataFrame,
    *,
    method: Literal["lss", "lsa"] = "lss",
    others: Literal["condition", "all"] = "condition",
    hrf_model: HrfModel = "spm",
    drift_model: Literal["cosine", "polynomial"] | None = "cosine",
    high_pass: float = 0.01,
    drift_order: int = 1,
    confounds: pd.DataFrame | ArrayLike | None = None,
    min_onset: float = -24.0,
    oversampling: int = 50,
    noise_model: str = "ols",
    signal_scaling: int | bool | None = None,
    sample_mask: ArrayLike | None = None,
) -> xr.Dataset:
    """Estimate the response to every trial.

    Parameters
    ----------
    bold : Dataset or DataArray
        ``bold(voxel, time)``, in memory or lazy, with the times of the volumes (s); a lazy one gives lazy estimates.
    events : DataFrame
        A row per trial: ``onset``, ``duration`` (s), ``trial_type``. The amplitude is what is estimated, so a column
        ``modulation`` is not used. Equal rows are one trial.
    method : {"lss", "lsa"}
        ``"lss"``, least squares separate: a design for each trial (Mumford 2012), better where responses overlap.
        ``"lsa"``, least squares all: one design with a regressor per trial (Rissman 2004).
    others : {"condition", "all"}
        Of ``"lss"``, what stands for the other trials: a regressor for each condition (LS-2 of Turner 2012 for two
        conditions; the recipe of nilearn's documents), or one for them all (LS-1).
    hrf_model : str, callable, sequence of callables, or None
        As for `design_matrix`, but for ``"fir"``. Of several functions the coefficient of the first is returned.
    drift_model, high_pass, drift_order, min_onset, oversampling : see `design_matrix`
    confounds : DataFrame or (T, n) array_like, optional
        Further regressors, a row per volume.
    noise_model : str
        ``"lsa"`` takes all those of `fit_first_level`, ``"lss"`` is least squares: ``"ols"``.
    signal_scaling : None, False or 0
        0: estimates in percent of each voxel's mean over time.
    sample_mask : array_like, optional
        Volumes to keep, as indices or bool per volume.

    Returns
    -------
    Dataset
        ``beta(trial, voxel)`` in units of the signal, with ``onset``, ``duration`` and ``trial_type`` of each trial, in
        the order of `events`. NaN at voxels whose signal is constant or not finite, and for trials that cannot be
        estimated. Equal to the coefficient that `fit_first_level` gives in the design of the trial.

    Raises
    ------
    DesignError
        As `design_matrix`, for ``"fir"``, and where no degrees of freedom are left.
    InputError
        Unknown `method`, `others`, noise model, scaling or sample mask; no times of volumes.

    Warns
    -----
    VoxloomWarning
        Names trials that cannot be estimated: outside the run, in volumes left out, or a combination of others.
    """
    _require_options(method, others, noise_model, hrf_model)
    signal = signal_of(bold)
    times = _times(signal)
    table = _trials(events, times, min_onset)
    trials, summands = _responses(table, times, hrf_model, min_onset, oversampling)
    nuisance = design_matrix(
        times, drift_model=drift_model, high_pass=high_pass, drift_order=drift_order, add_regs=confounds
    ).to_numpy()
    keep = np.arange(times.size)
    if sample_mask is not None:
        keep = kept_rows(sample_mask, times.size)
        signal = signal.isel(time=keep)
    model = _Model(trials[:, keep], summands[:, keep], _codes(table, others), nuisance[keep], keep)
    weights = _WEIGHTS[method](model, noise_model)
    _report_lost(table, np.isnan(weights[:, 0]))
    beta = _least_squares if noise_model == "ols" else partial(_generalised, noise_model)
    found = beta(model, weights, signal, signal_scaling)
    coords = {name: ("trial", table[name].to_numpy()) for name in ("onset", "duration", "trial_type")}
    attrs = {"method": method, "noise_model": noise_model} | ({"others": others} if method == "lss" else {})
    return xr.Dataset({"beta": found}, coords={"trial": np.arange(len(table)), **coords}, attrs=attrs)


class _Model(NamedTuple):
    """Regressors of single trials at the volumes that are kept.

    Attributes
    ----------
    trials : (n, T, B) array
    summands : (n, T, B) array
        The same before derivatives were made orthogonal.
    condition : (n,) array
    nuisance : (T, K) array
    kept : (T,) array
        Indices of the volumes.
    """

    trials: FloatArray
    summands: FloatArray
    condition: NDArray[np.int64]
    nuisance: FloatArray
    kept: NDArray[np.int64]

    @property
    def all_trials(self) -> FloatArray:
        """The design (T, n B + K) with a regressor for every trial."""
        return np.column_stack([*self.trials, self.nuisance])


def _lsa(model: _Model, noise_model: str) -> FloatArray:
    require_estimable(noise_model, model.all_trials, model.kept)
    return lsa_weights(model.trials, model.nuisance)


def _lss(model: _Model, noise_model: str) -> FloatArray:
    sums = [model.summands[model.condition == code].sum(axis=0) for code in np.unique(model.condition)]
    require_estimable(noise_model, np.column_stack([model.trials[0], *sums, model.nuisance]))
    return lss_weights(model.trials, model.summands, model.condition, model.nuisance)


_WEIGHTS = {"lsa": _lsa, "lss": _lss}


def _require_options(method: str, others: str, noise_model: str, hrf_model: HrfModel) -> None:
    if method not in _WEIGHTS:
        raise InputError("method", f"{method!r} is unknown.", f"One of {sorted(_WEIGHTS)} is wanted.")
    if others not in ("condition", "all"):
        raise InputError("others", f"{others!r} is unknown.", "'condition' or 'all' is wanted.")
    if method == "lss" and noise_model != "ols":
        raise InputError("noise_model", f"{noise_model!r} is not for lss.", "Take 'ols', or method='lsa'.")
    if str(hrf_model).strip().lower() == "fir":
        raise DesignError("hrf_model", "'fir' gives a trial no one amplitude.", "Take spm or glover.")


def _times(signal: xr.DataArray) -> FloatArray:
    if "time" not in signal.coords:
        raise InputError(
            "bold", "has no coordinate `time`.", "Give the times of its volumes in s: bold.assign_coords(time=...)."
        )
    return check_frame_times(signal["time"].to_numpy())


def _trials(events: pd.DataFrame, times: FloatArray, min_onset: float) -> pd.DataFrame:
    end = times[-1] + np.diff(times).min()
    used = pd.DataFrame(events).drop(columns="modulation", errors="ignore")
    return check_events(used, start=float(times[0] + min_onset), end=float(end))


def _responses(
    table: pd.DataFrame, times: FloatArray, hrf_model: HrfModel, min_onset: float, oversampling: int
) -> tuple[FloatArray, FloatArray]:
    """Response of every trial to every function of the basis, (n, T, B), 0 for trials outside the run.

    Made orthogonal where the basis asks for it, and before that.
    """
    grid = fine_grid(times, oversampling=oversampling, min_onset=min_onset)
    basis = hrf_kernels(hrf_model, grid.t_r, oversampling)
    raw = basis._replace(orthogonal=False)
    each = zip(table["onset"], table["duration"], table["in_run"].astype(float))
    summands = np.array([convolve_events([at], [lasting], [height], raw, grid) for at, lasting, height in each])
    if not basis.orthogonal:
        return summands, summands
    return np.array([orthogonalize(trial).residual for trial in summands]), summands


def _codes(table: pd.DataFrame, others: str) -> NDArray[np.int64]:
    if others == "all":
        return np.zeros(len(table), dtype=np.int64)
    return np.asarray(pd.factorize(table["trial_type"])[0], dtype=np.int64)


def _report_lost(table: pd.DataFrame, lost: NDArray[np.bool_]) -> None:
    if not lost.any():
        return
    rows = list(table[lost][["trial_type", "onset"]].itertuples(name=None))
    named = ", ".join(f"{i} ({name} at {onset:g} s)" for i, name, onset in rows[:SHOWN])
    more = f" and {len(rows) - SHOWN} more" if len(rows) > SHOWN else ""
    warnings.warn(
        f"events: the trials {named}{more} cannot be estimated and are NaN: they lie outside the run or in volumes "
        "left out, or their responses are combinations of those of other trials.",
        VoxloomWarning,
        stacklevel=3,
    )


def _least_squares(
    model: _Model, weights: FloatArray, signal: xr.DataArray, signal_scaling: int | bool | None
) -> xr.DataArray:
    block = partial(_block, weights, wants_percent(signal_scaling))
    return map_voxels(block, signal, outputs={"beta": ("trial",)}, sizes={"trial": len(weights)})["beta"]


def _block(weights: FloatArray, percent: bool, Y: NDArray[Any]) -> tuple[FloatArray]:
    return (weighted_sums(weights, Y, percent=percent),)


def _generalised(
    noise_model: str, model: _Model, weights: FloatArray, signal: xr.DataArray, signal_scaling: int | bool | None
) -> xr.DataArray:
    """Coefficients of the design of all trials under a noise model; those of `weights` NaN stay unknown."""
    design = pd.DataFrame(model.all_trials)
    fit = fit_segments(
        signal,
        design,
        scans=model.kept,
        noise_model=noise_model,
        signal_scaling=signal_scaling,
    )
    n, _, B = model.trials.shape
    beta = fit["beta"].isel(regressor=np.arange(n) * B).drop_vars("regressor").rename(regressor="trial")
    return beta.where(xr.DataArray(np.isfinite(weights[:, 0]), dims="trial"))
