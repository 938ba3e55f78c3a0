"""Haemodynamic response functions, sampled as nilearn 0.14 does, so that designs agree to rounding."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import gammaln, xlogy

from voxloom.errors import DesignError
from voxloom.kernels.design.convolve import convolve_events, fine_grid

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

HrfFunction = Callable[..., Any]
HrfModel = str | HrfFunction | Sequence[HrfFunction] | None

#: Seconds a response lasts.
LENGTH = 32.0
#: Steps of the finite differences: seconds for the time derivative, one for the dispersion.
TIME_STEP, DISPERSION_STEP = 0.1, 0.01


class GammaShape(NamedTuple):
    """Difference of two gamma densities: delays and dispersions in seconds, ratio undershoot to peak."""

    delay: float
    undershoot: float
    dispersion: float
    u_dispersion: float
    ratio: float


SPM = GammaShape(6.0, 16.0, 1.0, 1.0, 0.167)
GLOVER = GammaShape(6.0, 12.0, 0.9, 0.9, 0.48)


class HrfBasis(NamedTuple):
    """Kernels of one HRF model on the fine grid.

    Attributes
    ----------
    kernels : list of 1-D arrays
        One per regressor, sampled at the fine grid's step.
    suffixes : list of str
        What each adds to the name of its condition; the main regressor adds nothing.
    orthogonal : bool
        Whether the regressors of a condition are orthogonalised in turn.
    lead : int
        Steps by which the convolved course is read ahead (finite impulse responses average over one scan).
    """

    kernels: list[FloatArray]
    suffixes: list[str]
    orthogonal: bool = True
    lead: int = 0


def double_gamma(seconds: ArrayLike, shape: GammaShape) -> FloatArray:
    """Peak gamma density minus `ratio` times the undershoot's, at any times (s): SPM's, unscaled."""
    peak = _gamma_density(seconds, shape.delay, shape.dispersion)
    return peak - shape.ratio * _gamma_density(seconds, shape.undershoot, shape.u_dispersion)


def _gamma_density(seconds: ArrayLike, delay: float, dispersion: float) -> FloatArray:
    x = np.maximum(np.asarray(seconds, dtype=np.float64), 0.0) / dispersion
    shape = delay / dispersion
    density: FloatArray = np.exp(xlogy(shape - 1, x) - x - gammaln(shape)) / dispersion
    return density


def sampled(shape: GammaShape, t_r: float, oversampling: int, onset: float = 0.0, length: float = LENGTH) -> FloatArray:
    """Double gamma at sum 1. The grid over `length` and the delay of one step are nilearn's."""
    dt = t_r / oversampling
    seconds = np.linspace(0.0, length, _steps(dt, length))
    h = double_gamma(seconds - onset - dt, shape)
    total = h.sum()
    if not total > 0:
        raise DesignError(
            "oversampling", f"{oversampling} with TR {t_r:g} s is too coarse for a response.", "Raise it."
        )
    return np.asarray(h / total)


def _steps(dt: float, length: float = LENGTH) -> int:
    return int(np.rint(length / dt))


def time_derivative(
    shape: GammaShape, t_r: float, oversampling: int, onset: float = 0.0, length: float = LENGTH
) -> FloatArray:
    """Change of the sampled response per second that it comes earlier."""
    later = sampled(shape, t_r, oversampling, onset + TIME_STEP, length)
    return (sampled(shape, t_r, oversampling, onset, length) - later) / TIME_STEP


def dispersion_derivative(
    shape: GammaShape, t_r: float, oversampling: int, onset: float = 0.0, length: float = LENGTH
) -> FloatArray:
    """Change of the sampled response per unit of its peak's dispersion."""
    # nilearn leaves the undershoot's dispersion at 1 here, for glover too
    base = shape._replace(u_dispersion=1.0)
    wider = base._replace(dispersion=base.dispersion + DISPERSION_STEP)
    narrow, wide = (sampled(s, t_r, oversampling, onset, length) for s in (base, wider))
    return (narrow - wide) / DISPERSION_STEP


_PARTS = {"": sampled, "_derivative": time_derivative, "_dispersion": dispersion_derivative}


def _double_gamma_basis(
    t_r: float, oversampling: int, fir_delays: Sequence[int], *, shape: GammaShape, suffixes: Sequence[str]
) -> HrfBasis:
    return HrfBasis([_PARTS[suffix](shape, t_r, oversampling) for suffix in suffixes], list(suffixes))


def _fir_basis(t_r: float, oversampling: int, fir_delays: Sequence[int]) -> HrfBasis:
    if not len(fir_delays) or any(delay != int(delay) or delay < 0 for delay in fir_delays):
        raise DesignError("fir_delays", f"is {list(fir_delays)}.", "Give delays in whole scans, 0 or more.")
    box = np.full(oversampling, 1.0 / oversampling)
    kernels = [np.concatenate([np.zeros(int(delay) * oversampling), box]) for delay in fir_delays]
    suffixes = [f"_delay_{int(delay)}" for delay in fir_delays]
    return HrfBasis(kernels, suffixes, orthogonal=False, lead=oversampling - 1)


def _no_convolution(t_r: float, oversampling: int, fir_delays: Sequence[int]) -> HrfBasis:
    return HrfBasis([np.ones(1)], [""])


_TAILS = {"": 1, " + derivative": 2, " + derivative + dispersion": 3}
#: Every named model; the regressors of a condition are the response and then its derivatives.
HRF_MODELS: dict[str | None, Callable[[float, int, Sequence[int]], HrfBasis]] = {
    **{
        name + tail: partial(_double_gamma_basis, shape=shape, suffixes=tuple(_PARTS)[:n])
        for name, shape in {"spm": SPM, "glover": GLOVER}.items()
        for tail, n in _TAILS.items()
    },
    "fir": _fir_basis,
    None: _no_convolution,
}


def hrf_kernels(
    hrf_model: HrfModel, t_r: float, oversampling: int = 50, *, fir_delays: Sequence[int] = (0,)
) -> HrfBasis:
    """Kernels of an HRF model on a grid of ``t_r / oversampling`` seconds.

    Parameters
    ----------
    hrf_model : str, callable, sequence of callables, or None
        ``"spm"`` or ``"glover"``, each alone, with ``" + derivative"`` or ``" + derivative + dispersion"``;
        ``"fir"``; None places the events without convolving them. A callable ``f(seconds)`` of one argument
        is sampled over 32 s and scaled by the step, so that the regressor is the integral of f over the event
        and does not depend on `oversampling`; one with parameters ``(t_r, oversampling)``, as in
        nilearn, returns its samples itself.
    t_r : float
        Spacing of the frames in seconds.
    oversampling : int
        Grid points per frame.
    fir_delays : sequence of int
        Delays in scans, for ``"fir"``.

    Returns
    -------
    HrfBasis

    Raises
    ------
    DesignError
        For an unknown model, delays that are not whole scans, or a callable that returns no finite 1-D array.
    """
    if callable(hrf_model):
        return _function_basis([hrf_model], t_r, oversampling)
    if hrf_model is not None and not isinstance(hrf_model, str):
        return _function_basis(hrf_model, t_r, oversampling)
    model = hrf_model and " + ".join(part.strip() for part in hrf_model.lower().split("+"))
    if model not in HRF_MODELS:
        known = ", ".join(repr(name) for name in HRF_MODELS)
        raise DesignError("hrf_model", f"{hrf_model!r} is not known.", f"Give one of {known}, or a function.")
    return HRF_MODELS[model](t_r, oversampling, fir_delays)


def _function_basis(functions: Sequence[HrfFunction], t_r: float, oversampling: int) -> HrfBasis:
    if not len(functions) or not all(map(callable, functions)):
        raise DesignError("hrf_model", f"{functions!r} is not a list of functions.", "Give one or more functions.")
    kernels = [_function_kernel(function, t_r, oversampling) for function in functions]
    return HrfBasis(kernels, [f"_{_name(function)}" for function in functions])


def _function_kernel(function: HrfFunction, t_r: float, oversampling: int) -> FloatArray:
    dt = t_r / oversampling
    if not _takes_seconds(function):
        return _checked(function, function(t_r, oversampling), None)
    seconds = np.arange(_steps(dt)) * dt
    return _checked(function, function(seconds), seconds.shape) * dt


def _checked(function: HrfFunction, returned: Any, shape: tuple[int, ...] | None) -> FloatArray:
    """What a function returned, as an array of this shape, or of any length where that is None."""
    remedy = "A function of an array of seconds that returns an array of the same length is wanted."
    if np.iscomplexobj(returned):
        raise DesignError("hrf_model", f"{_name(function)} returned complex numbers.", remedy)
    try:
        kernel = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DesignError("hrf_model", f"{_name(function)} returned no numbers: {error}.", remedy) from error
    if kernel.ndim != 1 or not kernel.size or (shape is not None and kernel.shape != shape):
        wanted = "one dimension" if shape is None else f"{shape}"
        raise DesignError(
            "hrf_model", f"{_name(function)} returned an array of shape {kernel.shape}, not {wanted}.", remedy
        )
    if not np.isfinite(kernel).all():
        what = f"{_name(function)} returned {np.sum(~np.isfinite(kernel))} of {kernel.size} values that are not finite."
        raise DesignError("hrf_model", what, remedy)
    return kernel


def _takes_seconds(function: HrfFunction) -> bool:
    """One required argument and none that nilearn's (t_r, oversampling) functions have.

    Raises
    ------
    DesignError
        It cannot be called either way.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # compiled functions may have no signature
        return True
    parameters = signature.parameters
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    required = [p for p in parameters.values() if p.kind in positional and p.default is inspect.Parameter.empty]
    takes_seconds = len(required) <= 1 and not {"t_r", "oversampling"} & set(parameters)
    try:
        signature.bind(*([0.0] if takes_seconds else [1.0, 1]))
    except TypeError as error:
        remedy = "A function of seconds, or of t_r and oversampling as nilearn's are, is wanted."
        raise DesignError("hrf_model", f"{_name(function)} cannot be called: {error}.", remedy) from error
    return takes_seconds


def _name(function: HrfFunction) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def compute_regressor(
    onsets: ArrayLike,
    durations: ArrayLike,
    amplitudes: ArrayLike,
    hrf_model: HrfModel,
    frame_times: ArrayLike,
    *,
    oversampling: int = 50,
    min_onset: float = -24.0,
    fir_delays: Sequence[int] = (0,),
) -> tuple[FloatArray, list[str]]:
    """Regressors of one condition at the frame times.

    Parameters
    ----------
    onsets, durations : (E,) array_like
        Seconds. Duration 0 is an impulse: one step of the fine grid.
    amplitudes : (E,) array_like
    hrf_model, fir_delays
        See `hrf_kernels`.
    frame_times : (T,) array_like
        Seconds, increasing.
    oversampling : int
        Grid points per frame.
    min_onset : float
        Events that start more than this long before the first frame (negative, s) are dropped.

    Returns
    -------
    (T, n) array
        One column per kernel.
    list of str
        Suffixes of the condition's name.
    """
    grid = fine_grid(frame_times, oversampling=oversampling, min_onset=min_onset)
    basis = hrf_kernels(hrf_model, grid.t_r, oversampling, fir_delays=fir_delays)
    return convolve_events(onsets, durations, amplitudes, basis, grid), basis.suffixes
