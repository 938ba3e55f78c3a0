"""How each noise model knows the covariance of a contrast at a voxel: a table of cases, and the case of a voxel."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.contrast import ContrastTable
from voxloom.kernels.first_level.contrast_tables import ar1_table, ols_table, pattern_table, yule_walker_table
from voxloom.kernels.first_level.noise_models import NOISE_MODELS
from voxloom.kernels.group.homogeneous import homogeneous_degrees
from voxloom.kernels.group.random_intercept import random_intercept_case, random_intercept_table
from voxloom.kernels.group.sandwich import sandwich_degrees
from voxloom.kernels.group.unequal_variances import unequal_variances_table
from voxloom.kernels.linalg import ESTIMABLE_RTOL, is_estimable, reduce_design
from voxloom.kernels.noise.ar import MAX_ORDER
from voxloom.kernels.noise.ar_table import ar_contrasts
from voxloom.kernels.noise.arma import arma_index
from voxloom.kernels.noise.arma_table import arma_table
from voxloom.kernels.noise.rho_grid import grid_index
from voxloom.models.group.estimators import ESTIMATORS, sandwich_form

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    #: ``lookup(*keys (V,)) -> case (V,), table``
    Lookup = Callable[..., tuple[IntArray, ContrastTable]]


class NoiseLookup(NamedTuple):
    """How a noise model knows the covariance of a contrast at a voxel."""

    keys: tuple[str, ...]  # variables that say which case a voxel is
    lookup: Callable[[xr.Dataset, FloatArray], Lookup]


# lookups travel with the graph of a lazy contrast, so they have names by which they pickle
def _one_case(sigma2: NDArray[Any]) -> IntArray:
    return np.zeros(sigma2.shape, dtype=np.int64)


def _pattern_case(pattern: NDArray[Any]) -> IntArray:
    return np.asarray(pattern, dtype=np.int64)


def _tabulated(table: ContrastTable, case: Callable[..., IntArray], *keys: NDArray[Any]) -> tuple[IntArray, Any]:
    return case(*keys), table


def _occurring(
    make: Callable[..., ContrastTable], case: Callable[..., IntArray], *keys: NDArray[Any]
) -> tuple[IntArray, ContrastTable]:
    """Tabulate the cases that occur among these voxels."""
    of_voxel = case(*keys)
    return of_voxel, make(cases=np.unique(of_voxel[np.isfinite(keys).all(axis=0)]))


def _each_voxel(make: Callable[..., ContrastTable], *keys: NDArray[Any]) -> tuple[IntArray, ContrastTable]:
    """A case per voxel."""
    return np.arange(keys[-1].size), make(*keys)


def _of_phi(X: FloatArray, C: FloatArray, scans: IntArray, *phi: NDArray[Any]) -> ContrastTable:
    return ar_contrasts(X, C, np.array(phi), scans)


def _covariances(
    C: FloatArray, dof: FloatArray, scale: FloatArray, covariance: FloatArray, of_voxel: FloatArray, pattern: IntArray
) -> tuple[IntArray, ContrastTable]:
    """A case per voxel, from its covariance of beta (K, K, V); dof (NaN: not estimable) and scale are of patterns."""
    cov, dof = np.einsum("qk,klv,pl->vqp", C, covariance, C), of_voxel + dof[pattern]
    known = ~np.isnan(dof)
    known[known] = np.linalg.eigvalsh(np.nan_to_num(cov[known]))[:, 0] > 0
    cov[~known] = np.nan
    return np.arange(len(cov)), ContrastTable(cov, dof, scale[pattern])


def _sandwich(fit: xr.Dataset, C: FloatArray) -> Lookup:
    form = sandwich_form(fit.attrs["noise_model"])
    dof, scale = sandwich_degrees(design_values(fit), np.asarray(fit["group"]), _present(fit), C, form)
    return partial(_of_pattern, partial(_covariances, C, dof, scale))


def _homogeneous(fit: xr.Dataset, C: FloatArray) -> Lookup:
    groups, visits = np.asarray(fit["group"]), np.asarray(fit["visit"])
    dof, scale = homogeneous_degrees(design_values(fit), groups, visits, _present(fit), C)
    return partial(_of_pattern, partial(_covariances, C, dof, scale))


def _of_pattern(covariances: Callable[..., Any], covariance: FloatArray, pattern: IntArray) -> Any:
    return covariances(covariance, np.zeros(pattern.shape), pattern)


def _known_variances(fit: xr.Dataset, C: FloatArray) -> Lookup:
    X = design_values(fit)
    estimable = np.array([is_estimable(C, reduce_design(X[rows])).all() for rows in _present(fit)])
    return partial(_covariances, C, np.where(estimable, 0.0, np.nan), np.ones(len(estimable)))


def _unequal_variances(fit: xr.Dataset, C: FloatArray) -> Lookup:
    make = partial(unequal_variances_table, design_values(fit), np.asarray(fit["group"]), _present(fit), C)
    return partial(_each_voxel, make)


def _from_sums(C: FloatArray, inverse: FloatArray, gram: FloatArray, dof: FloatArray) -> tuple[IntArray, ContrastTable]:
    """A case per voxel, from X'X (K, K, V) and its inverse; NaN where that does not tell the contrast."""
    weights = np.einsum("qk,klv->vql", C, inverse)
    scale = np.sqrt(np.einsum("kkv->vk", gram))[:, None, :]  # of columns, so that their units do not matter
    scale[scale == 0] = 1.0
    lost = (C - np.einsum("vql,lkv->vqk", weights, gram)) / scale
    told = np.linalg.norm(lost, axis=2) <= ESTIMABLE_RTOL * np.linalg.norm(C / scale, axis=2)
    cov = np.where(told.all(axis=1)[:, None, None], weights @ C.T, np.nan)
    return np.arange(len(cov)), ContrastTable(cov, dof, np.ones(len(cov)))


def _random_intercept(fit: xr.Dataset, C: FloatArray) -> Lookup:
    make = partial(random_intercept_table, design_values(fit), np.asarray(fit["group"]), _present(fit), C)
    return partial(_occurring, make, random_intercept_case)


def _scans(fit: xr.Dataset) -> IntArray:
    """Number of each row's scan; a fit that does not say has left none out."""
    return np.asarray(fit["scan"]) if "scan" in fit.coords else np.arange(fit.sizes["time"])


def _present(fit: xr.Dataset) -> NDArray[np.bool_]:
    return np.asarray(fit["present"].transpose("pattern_id", "map").values, dtype=bool)


#: Covariances by noise model; a first-level case is a value of the noise parameters, a group case a pattern of
#: missing maps.
_MODELS: dict[str, NoiseLookup] = {
    "ols": NoiseLookup(("sigma2",), lambda fit, C: partial(_tabulated, ols_table(design_values(fit), C), _one_case)),
    "ar1": NoiseLookup(
        ("rho",), lambda fit, C: partial(_occurring, partial(ar1_table, design_values(fit), C, _scans(fit)), grid_index)
    ),
    "ar1-yule-walker": NoiseLookup(
        ("rho",),
        lambda fit, C: partial(_tabulated, yule_walker_table(design_values(fit), C, _scans(fit)), grid_index),
    ),
    "arma11": NoiseLookup(
        ("ar", "ma"),
        lambda fit, C: partial(_occurring, partial(arma_table, design_values(fit), C, _scans(fit)), arma_index),
    ),
    **{
        f"ar{order}": NoiseLookup(
            NOISE_MODELS[f"ar{order}"].parameters,
            lambda fit, C: partial(_each_voxel, partial(_of_phi, design_values(fit), C, _scans(fit))),
        )
        for order in range(2, MAX_ORDER + 1)
    },
    "group-ols": NoiseLookup(
        ("pattern",),
        lambda fit, C: partial(_tabulated, pattern_table(design_values(fit), _present(fit), C), _pattern_case),
    ),
    "group-known-variances": NoiseLookup(("covariance", "dof", "pattern"), _known_variances),
    "group-random-intercept": NoiseLookup(("pattern", "icc"), _random_intercept),
    "group-unequal-variances": NoiseLookup(("variance_of_group", "pattern"), _unequal_variances),
    "group-sums": NoiseLookup(("inverse", "gram", "dof"), lambda fit, C: partial(_from_sums, C)),
    **{
        how.noise_model: NoiseLookup(("covariance", "pattern"), _homogeneous if how.takes_visits else _sandwich)
        for name, how in ESTIMATORS.items()
        if name.startswith("sandwich")
    },
}


def design_values(fit: xr.Dataset) -> FloatArray:
    """The design of a fit, a row per volume or map."""
    rows = next(str(dim) for dim in fit["design"].dims if dim != "regressor")
    values = fit["design"].transpose(rows, "regressor").values
    return np.ascontiguousarray(values, dtype=np.float64)


def noise_model_of(fit: xr.Dataset) -> NoiseLookup:
    """How the noise model of a fit knows covariances.

    Raises
    ------
    InputError
        There is no such model.
    """
    name = fit.attrs.get("noise_model")
    if name not in _MODELS:
        raise InputError(
            "fit", f"its noise model {name!r} is unknown.", f"A fit with one of {sorted(_MODELS)} is wanted."
        )
    return _MODELS[name]
