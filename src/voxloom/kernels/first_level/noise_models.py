"""Noise models by name: how each is fitted, what it estimates, and what its parameters mean in common terms.

Autocorrelations at lags 1 to m say what m parameters say, and unlike them they may be averaged: a mean of
autocorrelations is that of a process, the one that pools the voxels' noise at equal variance.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from voxloom.errors import DesignError, InputError
from voxloom.kernels.first_level import fit_memory
from voxloom.kernels.first_level.glm import fit_ar, fit_ar1, fit_ar1_yule_walker, fit_arma11, fit_ols
from voxloom.kernels.linalg import reduce_design
from voxloom.kernels.noise import ar, arma
from voxloom.kernels.noise.rho_grid import RHO_GRID
from voxloom.kernels.noise.segments import segments_of
from voxloom.kernels.noise.whiten import whiten_ar, whiten_ar1, whiten_arma11

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.first_level.glm import GLSFit

    FloatArray = NDArray[np.float64]
    Convert = Callable[[FloatArray], FloatArray]


class NoiseModel(NamedTuple):
    """A noise model of the first level.

    Attributes
    ----------
    fit : callable
        ``fit(X, Y, scans=, percent=) -> GLSFit``; with parameters also ``noise=`` (m, V), to fit with given ones.
    parameters : tuple of str
        Names of the m parameters of a voxel.
    order : int
        Volumes of a run that it needs, from the first that is kept to the last.
    autocorrelations, from_autocorrelations : callable
        Parameters (m, V) to autocorrelations at lags 1 to m, and back.
    whiten : callable
        ``whiten(R, parameters, scans)``: innovations of residuals (T, V) (`kernels.noise.whiten`).
    held : callable
        Bytes that a fit of a `fit_memory.Shape` holds beside data and results.
    tabulated : callable
        `fit_memory.Tables` that contrasts of a `fit_memory.Shape` hold.
    """

    fit: Callable[..., GLSFit]
    parameters: tuple[str, ...] = ()
    order: int = 1
    autocorrelations: Convert = lambda parameters: parameters
    from_autocorrelations: Convert = lambda rho: rho
    whiten: Callable[[FloatArray, FloatArray, ArrayLike], FloatArray] = lambda R, _, __: R
    held: Callable[[fit_memory.Shape], int] = fit_memory.of_lags
    tabulated: Callable[[fit_memory.Shape], fit_memory.Tables] = partial(fit_memory.of_cases, RHO_GRID.size, 1)


def _autoregressive(order: int) -> NoiseModel:
    return NoiseModel(
        partial(fit_ar, order),
        tuple(f"phi_{k}" for k in range(1, order + 1)),
        order,
        lambda phi: ar.autocorrelations(phi.T).T,
        lambda rho: ar.from_autocorrelations(rho.T).T,
        whiten_ar,
        partial(fit_memory.of_ar, order),
        partial(fit_memory.of_cells, order),
    )


NOISE_MODELS: Mapping[str, NoiseModel] = {
    "ols": NoiseModel(fit_ols),
    "ar1": NoiseModel(fit_ar1, ("rho",), whiten=whiten_ar1),
    "ar1-yule-walker": NoiseModel(fit_ar1_yule_walker, ("rho",), whiten=partial(whiten_ar1, stationary=False)),
    "arma11": NoiseModel(
        fit_arma11,
        ("ar", "ma"),
        autocorrelations=lambda ab: arma.autocorrelations(*ab),
        from_autocorrelations=arma.from_autocorrelations,
        whiten=whiten_arma11,
        held=fit_memory.of_arma,
        tabulated=partial(fit_memory.of_cases, len(arma.ARMA_GRID), 2),
    ),
    **{f"ar{order}": _autoregressive(order) for order in range(2, ar.MAX_ORDER + 1)},
}


def noise_model(name: str) -> NoiseModel:
    """The noise model of this name.

    Raises
    ------
    InputError
        There is none.
    """
    if name not in NOISE_MODELS:
        raise InputError("noise_model", f"{name!r} is unknown.", f"One of {sorted(NOISE_MODELS)} is wanted.")
    return NOISE_MODELS[name]


def require_estimable(name: str, X: FloatArray, scans: ArrayLike | None = None, where: str = "") -> None:
    """Refuse a design (T, K) whose residuals cannot tell the parameters of a noise model; `where` names the run.

    Raises
    ------
    DesignError
        No degrees of freedom are left, not more than parameters, or a run is shorter than the order.
    """
    model, (T, K) = noise_model(name), X.shape
    rank = reduce_design(X).rank
    if not 0 < rank < T:
        raise DesignError(
            where or "design",
            f"its {K} columns have rank {rank}, which leaves {T - rank} degrees of freedom of {T} volumes.",
            "Use fewer confounds or keep more volumes.",
        )
    if T - rank <= len(model.parameters):
        raise DesignError(
            where or "noise_model",
            f"{name} has {len(model.parameters)} parameters, but the design leaves {T - rank} degrees of freedom of "
            f"{T} volumes.",
            "Take a smaller noise model, use fewer confounds or keep more volumes.",
        )
    series = ar.series_of(segments_of(scans, T, stationary=True).steps)
    ar.require_scans(model.order, series, where or "noise_model")
