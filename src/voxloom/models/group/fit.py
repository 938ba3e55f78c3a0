"""Group models: a design over maps, fitted at every voxel to the maps that are there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.blocks import map_voxels
from voxloom.errors import InputError
from voxloom.kernels.group.patterns import group_patterns, pattern_bits
from voxloom.kernels.linalg import sub_blocks
from voxloom.models.group.design import (
    aligned_design,
    labels_of_maps,
    listed,
    require_dof,
    require_min_n,
    warn_if_alone,
    warn_if_singular,
)
from voxloom.models.group.estimators import DIMS, Estimator, find_estimator, group_numbers
from voxloom.schema import validate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def fit_group(
    maps: xr.Dataset | xr.DataArray,
    design: pd.DataFrame | None = None,
    *,
    estimator: str = "ols",
    groups: Sequence[Any] | pd.Series[Any] | None = None,
    visits: Sequence[Any] | pd.Series[Any] | None = None,
    min_n: int = 1,
) -> xr.Dataset:
    """Fit ``effect = design @ beta + error`` over maps at every voxel, where they are there.

    A map that is not finite at a voxel is missing there: the model is fitted to the others, with their number
    and their degrees of freedom. Which maps are missing where is found in one pass at the time of the call,
    also over lazy maps (a bit a value is kept), so that patterns do not depend on chunks; everything else
    stays lazy.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``, and ``variance(map, voxel)`` for the estimators that weight by it.
    design : DataFrame, optional
        A row per map, a column per regressor. A labelled index is matched with the coordinate ``map``; one
        that just counts takes the rows in order. The mean alone when not given.
    estimator : str
        - ``"ols"``: equal and independent errors;
        - ``"fixed"``: weights 1 / variance, effects the same in all maps (z rather than t);
        - ``"reml"``, ``"paule-mandel"``: mixed effects, weights 1 / (variance + tau2) with the variance between maps
          estimated per voxel, tests after Knapp, Hartung and Roever;
        - ``"sandwich"`` (CR2; also ``"sandwich-cr0"`` to ``"sandwich-cr3"``): least squares with a covariance from the
          residuals of `groups`, or of single maps without them (HC2): unequal variances, repeated measures, sites;
          degrees of freedom after Bell and McCaffrey, of F after Pustejovsky and Tipton;
        - ``"sandwich-homogeneous"``: the same where all `groups` have one covariance between their maps, told apart by
          `visits`;
        - ``"unequal-variances"``: least squares with a residual variance of each of the `groups` (patients and
          controls, scanners), tests after Welch and Johansen;
        - ``"random-intercept"``: a random effect of each of the `groups` (site, family, person), by REML per voxel,
          with Kenward and Roger's degrees of freedom.
    groups : sequence or Series, optional
        Group of each map, in their order or labelled as they are.
    visits : sequence or Series, optional
        Kind of each map within its group, for ``"sandwich-homogeneous"``: a visit, a condition, joined with the group
        of people that has covariances of its own (``patient-1``). First, second, ... map of a group when not given.
    min_n : int
        Voxels with fewer maps are NaN, and counted in the attribute ``n_too_few``.

    Returns
    -------
    Dataset
        Of kind "group_fit" (`schema.SCHEMAS`): ``beta(regressor, voxel)``, ``sigma2(voxel)``, ``n(voxel)``
        maps, ``pattern(voxel)``, ``present(pattern_id, map)``, ``design(map, regressor)``; by estimator ``icc``
        (share of the variance between groups), ``tau2`` (variance between maps) and ``q`` (Cochran's),
        ``covariance(regressor, regressor_, voxel)``. `contrast` tests it. NaN at voxels with too few maps or without
        variance.

    Raises
    ------
    DesignError
        Rows do not match the maps, values are not finite, or there are not more maps than regressors.
    InputError
        The estimator is unknown, or lacks variances or groups; a variance is negative or 0; `min_n` is out of range.
    """
    effect = effects(maps)
    design = aligned_design(effect, design)
    X = design.to_numpy(dtype=np.float64)
    warn_if_singular(design)
    require_dof(X)
    require_min_n(min_n, len(X))
    warn_if_alone(design)
    how = find_estimator(estimator, has_groups=groups is not None)
    arrays = [effect, *([variances(maps)] if how.needs_variance else [])]
    number, present = _patterns(arrays)
    pattern = xr.DataArray(number, dims="voxel")
    of_map = None if how.groups == "none" else _group_of_map(effect, groups)
    kinds = _visit_of_map(effect, of_map, visits, how)
    outputs: dict[str, tuple[str, ...]] = {name: DIMS.get(name, ()) for name in how.outputs}
    sizes = dict.fromkeys((dim for dims in outputs.values() for dim in dims), X.shape[1])
    if of_map is not None and "variance_group" in sizes:
        sizes["variance_group"] = int(of_map.max()) + 1
    labels = [numbers for numbers in (of_map, kinds) if numbers is not None]
    fit = map_voxels(_Fit(how, X, labels, present), *arrays, pattern, outputs=outputs, sizes=sizes)
    n = xr.DataArray(present.sum(axis=1)[number].astype(np.float64), dims="voxel")
    enough = n >= min_n
    fit = {name: values if bool(enough.all()) else values.where(enough) for name, values in fit.items()}
    if "sigma2" not in fit:
        fit["sigma2"] = xr.ones_like(fit["beta"][0]).where(fit["beta"][0].notnull())
    return xr.Dataset(
        {
            **fit,
            "n": n,
            "pattern": pattern,
            "present": (("pattern_id", "map"), present),
            "design": (("map", "regressor"), X),
            **({} if of_map is None else {"group": ("map", of_map)}),
            **({} if kinds is None else {"visit": ("map", kinds)}),
        },
        coords={"regressor": list(map(str, design.columns))},
        attrs={
            "noise_model": how.noise_model,
            "estimator": estimator,
            "min_n": min_n,
            "n_too_few": int((~enough).sum()),
            **design.attrs,
        },
    ).assign_coords({"map": effect["map"]} if "map" in effect.coords else {})


class _Fit:
    """The kernel with its design; a class, so that it pickles."""

    def __init__(
        self, how: Estimator, X: NDArray[np.float64], labels: Sequence[NDArray[np.int64]], present: NDArray[np.bool_]
    ) -> None:
        self.how, self.X, self.labels, self.present = how, X, labels, present

    def __call__(self, *arrays: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        *maps, pattern = arrays
        return self.how.kernel(self.X, *maps, *self.labels, pattern, self.present)


def _patterns(arrays: Sequence[xr.DataArray]) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Which maps are there at which voxel: the pattern of each voxel, and the maps of each pattern."""
    n, names = arrays[0].sizes["map"], ("bits", "unusable")[: len(arrays)]
    found = map_voxels(
        _bits,
        *arrays,
        outputs=dict.fromkeys(names, ("byte",)),
        sizes={"byte": -(-n // 8)},
        dtypes=dict.fromkeys(names, np.uint8),
    )
    both = xr.Dataset(found).compute()  # at once: maps are read once
    if "unusable" in both:
        _require_usable(both["unusable"].to_numpy(), arrays[0])
    return group_patterns(both["bits"].to_numpy(), n)


def _bits(effect: NDArray[Any], variance: NDArray[Any] | None = None) -> tuple[NDArray[Any], ...]:
    """Bits of the maps that are there, and with variances of those where that is none.

    Both 0: outside of the map's own mask.
    """
    if variance is None:
        return (pattern_bits(effect),)
    blocks = sub_blocks(max(1, effect.shape[1]))  # of all voxels, what is held between would be two more of the maps
    found = [_bits_of_both(effect[:, block], variance[:, block]) for block in blocks]
    return tuple(np.concatenate(parts, axis=1) for parts in zip(*found))


def _bits_of_both(effect: NDArray[Any], variance: NDArray[Any]) -> tuple[NDArray[Any], ...]:
    outside = (effect == 0) & (variance == 0)
    unusable = np.isfinite(effect) & (variance <= 0) & ~outside
    there = np.where(outside, np.nan, effect + variance)
    return pattern_bits(there), np.packbits(unusable, axis=0)


def _require_usable(bits: NDArray[np.uint8], effect: xr.DataArray) -> None:
    counts = np.unpackbits(bits, axis=0, count=effect.sizes["map"]).sum(axis=1, dtype=np.int64)
    bad = np.flatnonzero(counts)
    if bad.size:
        names = effect["map"].to_index() if "map" in effect.coords else pd.RangeIndex(counts.size)
        raise InputError(
            "variance",
            f"is negative or 0 at {counts.sum()} values, in maps {listed(names[bad])}.",
            "Give the variances of the effects (varcope), NaN where there is none.",
        )


def _group_of_map(effect: xr.DataArray, groups: Any) -> NDArray[np.int64]:
    """Number of each map's group, in the order of the maps; each its own without groups."""
    if groups is None:
        return np.arange(effect.sizes["map"])
    return group_numbers(labels_of_maps(effect, groups, "groups"))


def _visit_of_map(
    effect: xr.DataArray, groups: NDArray[np.int64] | None, visits: Any, how: Estimator
) -> NDArray[np.int64] | None:
    """Number of each map's kind within its group; None where the estimator has no use for it."""
    if groups is None or not how.takes_visits:
        if visits is not None:
            raise InputError("visits", "is given, but the estimator takes none.", "Use 'sandwich-homogeneous'.")
        return None
    if visits is None:
        return np.asarray(pd.Series(groups).groupby(groups).cumcount(), dtype=np.int64)
    kinds = group_numbers(labels_of_maps(effect, visits, "visits"))
    twice = pd.DataFrame({"group": groups, "kind": kinds}).duplicated().to_numpy()
    if twice.any():
        names = effect["map"].to_index() if "map" in effect.coords else pd.RangeIndex(len(kinds))
        what = f"another map of the same group is of the kind of {listed(names[twice])}."
        raise InputError("visits", what, "Tell the maps of a group apart, by visit or condition.")
    return kinds


def effects(maps: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return ``effect(map, voxel)`` of maps, checked."""
    ds = maps.to_dataset(name="effect") if isinstance(maps, xr.DataArray) else maps
    return validate(ds, "maps", "maps")["effect"].transpose("map", "voxel")


def variances(maps: xr.Dataset | xr.DataArray) -> xr.DataArray:
    """Return ``variance(map, voxel)`` of maps.

    Raises
    ------
    InputError
        There is none.
    """
    if not isinstance(maps, xr.Dataset) or "variance" not in maps:
        raise InputError(
            "maps",
            "has no `variance(map, voxel)`, which this estimator weights by.",
            "Give it, or use estimator='ols'.",
        )
    return maps["variance"].transpose("map", "voxel")
