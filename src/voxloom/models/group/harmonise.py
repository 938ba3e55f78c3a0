"""ComBat on maps: sites made alike in location and scale, the effects of covariates kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import InputError
from voxloom.kernels.group import combat as kernel
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.models.group.design import aligned_design, labels_of_maps
from voxloom.models.group.fit import effects

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

_DESCRIBED = {
    "mean": (),
    "beta": ("regressor",),
    "sigma": (),
    "gamma": ("site",),
    "delta2": ("site",),
    "n": ("site",),
}


def fit_combat(
    maps: xr.Dataset | xr.DataArray,
    sites: Sequence[Any] | pd.Series[Any],
    covariates: pd.DataFrame | None = None,
) -> xr.Dataset:
    """Find location and scale of every site at every voxel, shrunken over voxels (ComBat).

    Sources: Johnson 2007 (Biostatistics 8:118), Fortin 2018 (NeuroImage 167:104); `kernels.group.combat`.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``, NaN where missing. To learn from some of the maps only, such as the training set of a
        prediction, give these. Lazy maps are read twice.
    sites : sequence or Series
        Site of each map, in their order or labelled as they are.
    covariates : DataFrame, optional
        A row per map: what is of interest and not to be taken for a difference of sites (age, sex, group), as numbers
        and without a constant (`group_design` makes them).

    Returns
    -------
    Dataset
        ``gamma(site, voxel)`` (in units of ``sigma``) and ``delta2(site, voxel)``, ``mean``, ``sigma`` ``(voxel)``,
        ``beta(regressor, voxel)``, ``n(site, voxel)``; lazy where the maps are. `apply_combat` takes it; it can be
        saved.

    Raises
    ------
    InputError
        A site is missing for a map, or has fewer than two maps.
    """
    effect = effects(maps)
    labels, of_map = _sites(effect, sites)
    X, names = _covariates(effect, covariates)
    sizes = {"regressor": X.shape[1], "site": len(labels)}
    found = xr.Dataset(map_voxels(_Describe(X, of_map, len(labels)), effect, outputs=_DESCRIBED, sizes=sizes))
    sums = map_voxels(
        _moments, found["gamma"], found["delta2"], outputs={"sums": ("moment", "site")}, sizes={"moment": 5}
    )
    prior = kernel.priors(sums["sums"].sum("voxel").transpose("moment", "site").to_numpy())
    arrays = (found[name] for name in _DESCRIBED)
    shrunken = map_voxels(_Shrink(prior), *arrays, outputs={"gamma": ("site",), "delta2": ("site",)})
    return found.assign(shrunken).assign_coords(site=labels, regressor=names)


def apply_combat(
    maps: xr.Dataset | xr.DataArray,
    combat: xr.Dataset,
    sites: Sequence[Any] | pd.Series[Any],
    covariates: pd.DataFrame | None = None,
) -> xr.DataArray:
    """Take the location and scale of their sites from maps.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``: those that `combat` was fitted to, or others of the same sites; lazy in, lazy out.
    combat : Dataset
        From `fit_combat`.
    sites : sequence or Series
    covariates : DataFrame, optional
        As in `fit_combat`, of these maps.

    Returns
    -------
    DataArray
        ``effect(map, voxel)``; NaN where nothing is known of the map's site.

    Raises
    ------
    InputError
        A site or a covariate that `combat` does not know.
    """
    effect = effects(maps)
    labels, of_map = _sites(effect, sites)
    known = [str(name) for name in combat["site"].values]
    if unknown := [name for name in labels if name not in known]:
        raise InputError("sites", f"{unknown} are none of those that were fitted.", f"Known: {known}.")
    X, names = _covariates(effect, covariates)
    wanted = [str(name) for name in combat["regressor"].values] if "regressor" in combat.coords else []
    if names != wanted:
        raise InputError("covariates", f"are {names}, but {wanted} were fitted.", "Give the same, coded alike.")
    numbers = np.array([known.index(name) for name in labels], dtype=np.int64)[of_map]
    combat = combat if "beta" in combat else combat.assign(beta=combat["gamma"][:0].rename(site="regressor"))
    arrays = (combat[name].transpose(*dims, "voxel") for name, dims in _DESCRIBED.items())
    return map_voxels(_Adjust(X, numbers), effect, *arrays, outputs={"effect": ("map",)})["effect"]


def _sites(effect: xr.DataArray, sites: Sequence[Any] | pd.Series[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Names of the sites, and the number of each map's."""
    names, numbers = np.unique(labels_of_maps(effect, sites, "sites").astype(str), return_inverse=True)
    return [str(name) for name in names], np.asarray(numbers, dtype=np.int64)


def _covariates(effect: xr.DataArray, covariates: pd.DataFrame | None) -> tuple[NDArray[np.float64], list[str]]:
    if covariates is None:
        return np.empty((effect.sizes["map"], 0)), []
    design = aligned_design(effect, covariates)
    varying = design.loc[:, design.nunique() > 1]  # the mean of the sites is the constant
    return varying.to_numpy(dtype=np.float64), [str(name) for name in varying.columns]


class _Describe:
    """The kernel with its design; a class, so that it pickles."""

    def __init__(self, X: NDArray[np.float64], sites: NDArray[np.int64], n_sites: int) -> None:
        self.X, self.sites, self.n_sites = X, sites, n_sites

    def __call__(self, Y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        pattern, present = group_patterns(pattern_bits(Y), len(Y))
        return kernel.describe(self.X, Y, self.sites, self.n_sites, pattern, present)


def _moments(gamma: NDArray[Any], delta2: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    return (kernel.moments(gamma, delta2),)


class _Shrink:
    """The kernel with its priors; a class, so that it pickles."""

    def __init__(self, prior: kernel.Priors) -> None:
        self.prior = prior

    def __call__(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return kernel.shrink(kernel.Described(*arrays), self.prior)


class _Adjust:
    """The kernel with its design; a class, so that it pickles."""

    def __init__(self, X: NDArray[np.float64], sites: NDArray[np.int64]) -> None:
        self.X, self.sites = X, sites

    def __call__(self, Y: NDArray[Any], *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        of = kernel.Described(*arrays)
        return (kernel.adjust(self.X, Y, self.sites, of, of.gamma, of.delta2),)
