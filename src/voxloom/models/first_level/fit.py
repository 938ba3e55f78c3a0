"""First level: a general linear model per voxel of one run, and fixed effects over runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import DesignError, InputError
from voxloom.kernels import contrast as kernel
from voxloom.kernels.first_level.noise_models import noise_model as noise_model_of
from voxloom.kernels.first_level.noise_models import require_estimable
from voxloom.kernels.noise.segments import numbered
from voxloom.models.design.censoring import kept_rows, run_scans
from voxloom.models.first_level.noise import given_noise, smooth_noise
from voxloom.schema import grid_of, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def fit_first_level(
    bold: xr.Dataset | xr.DataArray,
    design: pd.DataFrame,
    *,
    noise_model: str = "ar1",
    noise: xr.Dataset | None = None,
    noise_smoothing_fwhm: float | None = None,
    signal_scaling: int | bool | None = None,
    sample_mask: ArrayLike | None = None,
    run_starts: Sequence[int] = (0,),
) -> xr.Dataset:
    """Fit ``bold = design @ beta + noise`` at every voxel.

    Parameters
    ----------
    bold : Dataset or DataArray
        ``bold(voxel, time)``, in memory or lazy; a lazy one gives a lazy fit.
    design : DataFrame
        A row per volume, a column per regressor (`design_matrix`).
    noise_model : {"ar1", "ar2" ... "ar8", "arma11", "ar1-yule-walker", "ols"}
        AR(1), AR(p), or ARMA(1, 1) by REML per voxel (white noise on top of AR(1) is ARMA(1, 1)); nilearn's AR(1);
        white noise.
    noise : Dataset, optional
        Parameters of the noise to fit with, in place of those of each voxel alone: `smooth_noise` of a first fit.
    noise_smoothing_fwhm : float, optional
        Fit, smooth the noise parameters over voxels by this many mm (`smooth_noise`), fit again. The voxels must be
        all those of the run. The first fit is computed, though the second stays lazy for a lazy `bold`.
    signal_scaling : None, False or 0
        0: fit ``100 (y / mean - 1)``, percent signal change. nilearn's numbers wherever a mean is at least 1
        (it divides by 1 below that); a mean that is not positive gives NaN.
    sample_mask : array_like, optional
        Volumes to keep, as indices or bool per volume. The others leave data and design. Noise models know how many are
        missing in each gap, but nilearn's rule, which begins anew behind it.
    run_starts : sequence of int
        First volume of every run, where runs follow each other in `bold` (`concatenate_runs`): noise does not reach
        from one to the next.

    Returns
    -------
    Dataset
        Of kind "fit" (`schema.SCHEMAS`): ``beta(regressor, voxel)``, ``sigma2(voxel)`` (of the innovations),
        ``r_squared(voxel)`` (the share that `r_squared` finds again from the data), ``design``, and over voxels ``rho``
        for AR(1), ``phi_1`` to ``phi_p`` for AR(p), ``ar`` and ``ma`` for ARMA(1, 1); NaN at voxels whose signal is
        constant or not finite. Coordinates ``volume(time)``: the volumes of `bold` that were kept, and ``scan(time)``:
        their numbers in time, which the noise goes by (`fit_segments`). Attribute ``signal_scaling`` where it is 0.

    Raises
    ------
    DesignError
        Rows of the design are not the volumes, columns share a name, a value is not finite, no degrees of freedom are
        left, or the noise model has too many parameters for them.
    InputError
        Unknown noise model, scaling, sample mask or starts of runs; `noise` lacks a parameter or a voxel; the signal is
        no real number.
    """
    signal = signal_of(bold)
    _require_rows(design, signal)
    keep = kept_rows(np.ones(len(design), bool) if sample_mask is None else sample_mask, len(design))
    scans = run_scans(keep, run_starts, len(design))
    if sample_mask is not None:
        signal, design = signal.isel(time=keep), design.iloc[keep]
    fit = partial(fit_segments, signal, design, scans=scans, noise_model=noise_model, signal_scaling=signal_scaling)
    if noise_smoothing_fwhm is None:
        return fit(noise=noise).assign_coords(volume=("time", keep))
    if noise is not None:
        raise InputError("noise", "and noise_smoothing_fwhm are both given.", "Smooth it before, or not at all.")
    smoothed = fit(noise=smooth_noise(fit(), noise_smoothing_fwhm)).assign_coords(volume=("time", keep))
    return smoothed.assign_attrs(noise_smoothing_fwhm=noise_smoothing_fwhm)


def fit_segments(
    signal: xr.DataArray,
    design: pd.DataFrame,
    *,
    scans: ArrayLike | None = None,
    noise_model: str = "ar1",
    noise: xr.Dataset | None = None,
    signal_scaling: int | bool | None = None,
) -> xr.Dataset:
    """Fit data of which volumes have been left out already.

    Parameters
    ----------
    signal : DataArray
        (voxel, time): the kept volumes.
    design : DataFrame
        Their rows.
    scans : (time,) array_like of int, optional
        Number of each volume, increasing by 1 where none is left out; those of another run begin
        `kernels.noise.segments.FAR` further on. By default none is left out.

    Others, what is returned and what is raised as in `fit_first_level`.
    """
    percent = wants_percent(signal_scaling)
    parameters = noise_model_of(noise_model).parameters
    X = _matrix(design, signal)
    scans = numbered(scans, len(X))
    require_estimable(noise_model, X, scans)
    given = () if noise is None else given_noise(noise, parameters, signal)
    maps = map_voxels(
        partial(_fit_block, noise_model, X, scans, percent),
        signal,
        *given,
        outputs={"beta": ("regressor",), **dict.fromkeys(("sigma2", "r_squared", *parameters), ())},
        sizes={"regressor": X.shape[1]},
    )
    times = signal["time"].values if "time" in signal.coords else np.asarray(design.index)
    return xr.Dataset(
        {**maps, "design": (("time", "regressor"), X)},
        coords={"regressor": [str(name) for name in design.columns], "time": times, "scan": ("time", scans)},
        attrs={"noise_model": noise_model} | ({"signal_scaling": 0} if percent else {}),
    )


def _fit_block(
    noise_model: str, X: FloatArray, scans: NDArray[np.int64], percent: bool, Y: NDArray[Any], *given: FloatArray
) -> tuple[FloatArray, ...]:
    more = {"noise": np.array(given)} if given else {}
    fit = noise_model_of(noise_model).fit(X, Y, scans=scans, percent=percent, **more)
    return fit.beta, fit.sigma2, fit.r_squared, *fit.noise


def signal_of(bold: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return the variable ``bold``, checked."""
    ds = bold.to_dataset(name="bold") if isinstance(bold, xr.DataArray) else bold
    signal = validate(ds, "bold", "bold")["bold"]
    if signal.dtype.kind not in "biuf":
        raise InputError("bold", f"holds values of type {signal.dtype}.", "Give real numbers.")
    return signal


def wants_percent(signal_scaling: int | bool | None) -> bool:
    """Whether data are fitted in percent of their mean; InputError for an unknown scaling."""
    if signal_scaling is None or signal_scaling is False:
        return False
    if signal_scaling == 0:
        return True
    raise InputError("signal_scaling", f"{signal_scaling!r} is unknown.", "None, False or 0 is wanted.")


def _require_rows(design: pd.DataFrame, signal: xr.DataArray) -> None:
    if len(design) != signal.sizes["time"]:
        raise DesignError(
            "bold",
            f"{signal.sizes['time']} volumes, but the design has {len(design)} rows.",
            "Check the TR of the design; to leave volumes out, give all of its rows and sample_mask=.",
        )


def _matrix(design: pd.DataFrame, signal: xr.DataArray) -> FloatArray:
    """Values of the design, checked against the volumes."""
    _require_rows(design, signal)
    X = np.ascontiguousarray(design.to_numpy(dtype=np.float64))
    names = [str(name) for name in design.columns]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DesignError("design", f"has several columns of the name {twice}.", "Rename or drop those that repeat.")
    bad = [str(name) for name, ok in zip(design.columns, np.isfinite(X).all(axis=0)) if not ok]
    if bad:
        raise DesignError("design", f"the columns {bad} hold values that are not finite.", "Fill or drop them.")
    return X


def fixed_effects(
    contrasts: xr.Dataset | Sequence[xr.Dataset], *, precision_weighted: bool = False, tails: bool = True
) -> xr.Dataset:
    """Combine a t contrast over runs (or sessions) of one subject, voxel by voxel.

    Parameters
    ----------
    contrasts : Dataset or sequence of Dataset
        Results of `contrast`: one with a dim ``run``, or one per run on the same voxels. A run that is NaN at
        a voxel is left out there.
    precision_weighted : bool
        False: mean effect, variance sum / n^2 (nilearn's default). True: weights 1 / variance (FSL's fixed
        effects).
    tails : bool
        False leaves out ``z_score`` and ``p_value``.

    Returns
    -------
    Dataset
        Of kind "contrast", with ``n(voxel)`` runs; dof is the sum over runs.

    Raises
    ------
    InputError
        For F contrasts (`combine_f` is for those), no runs, or runs that differ in their voxels.
    """
    runs = stack_runs(contrasts, dict.fromkeys(("effect", "variance", "dof"), ("run",)))
    test = kernel.t_of if tails else kernel.studentize
    names = kernel.TStatistics._fields if tails else kernel.Studentized._fields
    maps = map_voxels(
        partial(_combine_block, precision_weighted, test),
        *(runs[name] for name in ("effect", "variance", "dof")),
        outputs=dict.fromkeys((*names, "n"), ()),
        dtypes={"n": np.int64},
    )
    return xr.Dataset(maps, attrs={"stat_type": "t", "contrast": runs.attrs.get("contrast", "")})


def _combine_block(
    precision_weighted: bool,
    test: Callable[..., tuple[FloatArray, ...]],
    effect: FloatArray,
    variance: FloatArray,
    dof: FloatArray,
) -> tuple[NDArray[Any], ...]:
    mean = kernel.fixed_effects(effect, variance, dof, precision_weighted=precision_weighted)
    return (*test(mean.effect, mean.variance, mean.dof), mean.n)


def stack_runs(contrasts: xr.Dataset | Sequence[xr.Dataset], axes: Mapping[str, tuple[str, ...]]) -> xr.Dataset:
    """Stack variables of one Dataset per run along a dim ``run``; attributes of the first.

    Parameters
    ----------
    contrasts : Dataset or sequence of Dataset
    axes : mapping of str to tuple of str
        Variables, and the order of their dims before ``voxel``.

    Raises
    ------
    InputError
        Where there is no run, a variable is missing or has other dims, or the voxels of runs differ.
    GridError
        Where the grids of runs differ.
    """
    runs = [contrasts] if isinstance(contrasts, xr.Dataset) else list(contrasts)
    if not runs:
        raise InputError("contrasts", "holds no run.", "At least one is wanted.")
    missing = [name for name in axes for run in runs if name not in run]
    if missing:
        raise InputError(
            "contrasts",
            f"has no variable `{missing[0]}`.",
            "t contrasts combine with fixed_effects, F contrasts from contrast_rows with combine_f.",
        )
    chosen = [run[list(axes)] for run in runs]
    require_one_grid(chosen, "contrasts")
    stacked = _concatenated(chosen) if not isinstance(contrasts, xr.Dataset) else chosen[0]
    if "run" not in stacked.dims:
        stacked = stacked.expand_dims("run")
    for name, dims in axes.items():
        if set(stacked[name].dims) != {*dims, "voxel"}:
            raise InputError(
                "contrasts",
                f"`{name}` has dims {stacked[name].dims}, but {(*dims, 'voxel')} is wanted.",
                "Select one contrast, and give one Dataset per run or one with a dim run.",
            )
    return stacked.assign({name: stacked[name].transpose(*dims, "voxel") for name, dims in axes.items()})


def require_one_grid(runs: Sequence[xr.Dataset | xr.DataArray], where: str) -> None:
    """Raise `GridError` where the grids of runs, as far as they have one, differ."""
    placed = [(i, grid_of(run)) for i, run in enumerate(runs) if "grid" in run.coords]
    for i, grid in placed[1:]:
        placed[0][1].require(grid, f"{where}[{i}]")


def _concatenated(runs: Sequence[xr.Dataset]) -> xr.Dataset:
    try:
        return xr.concat(runs, dim="run", join="exact", coords="minimal", compat="override", combine_attrs="override")
    except ValueError as error:
        raise InputError("contrasts", "the voxels of the runs differ.", "Ingest them into one study.") from error
