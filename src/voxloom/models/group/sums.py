"""Group models from sums that add up: people and sites join and leave without the others' maps.

Least squares needs X'X, X'Y, Y'Y and n of every voxel, nothing else. These are sums over maps, so those of sites add
up to those of all (`merge_sums`), and a map's own can be taken away (`subtract_sums`), exactly: they are kept in
twice the digits of float64. A site that may not share maps shares its sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import InputError
from voxloom.kernels.group import sums as kernel
from voxloom.models.group.about_sums import AboutSums, cells_of
from voxloom.models.group.design import aligned_design
from voxloom.models.group.fit import effects
from voxloom.schema import grid_of

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

#: Dims, without ``voxel``, of the variables of sums.
DIMS: dict[str, tuple[str, ...]] = {
    "xtx": ("part", "regressor", "regressor_"),
    "xty": ("part", "regressor"),
    "yty": ("part",),
    "n": (),
}


def group_sums(maps: xr.Dataset | xr.DataArray, design: pd.DataFrame | None = None, *, min_n: int = 1) -> xr.Dataset:
    """Sums of a group model over these maps, for `fit_sums`, alone or merged with those of others.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``, NaN where missing; lazy in, lazy out.
    design : DataFrame, optional
        As in `fit_group`. All who merge must have the same columns, coded alike: name levels of factors that a site
        lacks too, as columns of 0.
    min_n : int
        Least number of maps: of all, and of those of each level of a factor, so that nobody is told alone. Voxels with
        fewer are left out.

    Returns
    -------
    Dataset
        ``xtx(part, regressor, regressor_, voxel)``, ``xty(part, regressor, voxel)``, ``yty(part, voxel)`` with the
        parts ``high`` and ``low`` of one number, and ``n(voxel)``.

    Raises
    ------
    InputError
        A cell has fewer than `min_n` maps (but is not empty).
    DesignError
        As `fit_group`.
    """
    effect = effects(maps)
    design = aligned_design(effect, design)
    X = design.to_numpy(dtype=np.float64)
    about = AboutSums.of(design, min_n)
    about.require_told()
    found = map_voxels(
        _Sums(X, np.array(list(cells_of(design).values())), min_n),
        effect,
        outputs=DIMS,
        sizes={"part": 2, "regressor": X.shape[1], "regressor_": X.shape[1]},
    )
    coords = {"part": ["high", "low"], "regressor": list(about.regressors)}
    return xr.Dataset(found, coords=coords, attrs=about.to_attrs())


class _Sums:
    """The kernel with its design; a class, so that it pickles.

    Voxels where a cell has fewer than `min_n` maps, but some, are left out.
    """

    def __init__(self, X: NDArray[np.float64], cells: NDArray[np.bool_], min_n: int) -> None:
        self.X, self.cells, self.min_n = X, cells, min_n

    def __call__(self, Y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        if self.min_n <= 1:
            return kernel.sums_of(self.X, Y)
        counts = self.cells.astype(np.float32) @ np.isfinite(Y).astype(np.float32)  # exact up to 2^24 maps
        told = ((counts == 0) | (counts >= self.min_n)).all(axis=0)
        return kernel.sums_of(self.X, np.where(told, Y, np.nan))


def merge_sums(first: xr.Dataset, *others: xr.Dataset) -> xr.Dataset:
    """Add sums of sites; the order does not matter but for the last bit of the low parts.

    Parameters
    ----------
    first, others : Dataset
        From `group_sums`.

    Returns
    -------
    Dataset
        Sums over the maps of all.

    Raises
    ------
    InputError
        They are of other columns, codings, voxels, grids or versions, or a map is in several.
    """
    for other in others:
        first = _combined(first, other, 1)
    return first


def subtract_sums(sums: xr.Dataset, part: xr.Dataset) -> xr.Dataset:
    """Take some of their maps from sums.

    Parameters
    ----------
    sums, part : Dataset
        From `group_sums` or `merge_sums`; the maps of `part` are among those of `sums`.

    Returns
    -------
    Dataset
        Sums over the other maps.

    Raises
    ------
    InputError
        As `merge_sums`, or `part` has more maps than `sums` at some voxel.
    """
    found = _combined(sums, part, -1)
    if bool((found["n"] < 0).any()):
        raise InputError("sums", "hold fewer maps than are taken away.", "Take away what was added.")
    return found


def _combined(one: xr.Dataset, other: xr.Dataset, sign: int) -> xr.Dataset:
    abouts = [AboutSums.from_attrs(ds.attrs) for ds in (one, other)]
    about = abouts[0].with_others(abouts[1], sign)
    _require_one_axis(one, other)
    arrays = [ds[name].transpose(*dims, "voxel") for ds in (one, other) for name, dims in DIMS.items()]
    found = map_voxels(_Combine(sign, about.min_n), *arrays, outputs=DIMS)
    return xr.Dataset(found, coords=one.coords, attrs=about.to_attrs())


class _Combine:
    """The kernel with its sign; a class, so that it pickles.

    Voxels that are left with fewer than `min_n` maps are left out, and stay so.
    """

    def __init__(self, sign: int, min_n: int) -> None:
        self.sign, self.min_n = sign, min_n

    def __call__(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        one, other = kernel.GroupSums(*arrays[:4]), kernel.GroupSums(*arrays[4:])
        both = kernel.combine(one, other, self.sign)
        if self.min_n <= 1:
            return both
        told = both.n >= self.min_n
        return tuple(np.where(told, values, 0.0) for values in both)


def _require_one_axis(one: xr.Dataset, other: xr.Dataset) -> None:
    if "grid" in one.coords or "grid" in other.coords:
        grid_of(one).require(grid_of(other), "sums")
    voxels = [ds["voxel"].to_numpy() if "voxel" in ds.coords else np.arange(ds.sizes["voxel"]) for ds in (one, other)]
    if not np.array_equal(voxels[0], voxels[1]):
        raise InputError("sums", "are of other voxels.", "Use one mask at all sites.")


def fit_sums(sums: xr.Dataset) -> xr.Dataset:
    """Least squares fit from sums: that of `fit_group` to all of their maps.

    Parameters
    ----------
    sums : Dataset
        From `group_sums` or `merge_sums`; lazy in, lazy out.

    Returns
    -------
    Dataset
        ``beta(regressor, voxel)``, ``sigma2(voxel)``, ``n(voxel)``, ``dof(voxel)``, ``gram`` (X'X) and ``inverse``
        ``(regressor, regressor_, voxel)``; `contrast` tests it.

    Raises
    ------
    InputError
        They are of another version.
    """
    AboutSums.from_attrs(sums.attrs)
    arrays = [sums[name].transpose(*dims, "voxel") for name, dims in DIMS.items()]
    square = ("regressor", "regressor_")
    found = map_voxels(
        _fit_block,
        *arrays,
        outputs={"beta": ("regressor",), "sigma2": (), "dof": (), "inverse": square, "gram": square},
    )
    fit = xr.Dataset(found | {"n": sums["n"]}, coords={"regressor": sums["regressor"]})
    terms = {key: sums.attrs[key] for key in ("terms", "coding") if sums.attrs.get(key)}
    return fit.assign_attrs(noise_model="group-sums", estimator="ols", **terms)


def _fit_block(*arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    sums = kernel.GroupSums(*arrays)
    fit = kernel.fit_sums(sums)
    return fit.beta, fit.sigma2, sums.n - fit.rank, fit.inverse, sums.xtx[0]
