"""Permutation inference over maps: p of every voxel, alone and corrected by the null of a maximum over voxels.

`permutation_test` does it all here; over voxel shards on a cluster, `models.permutation` and `models.spatial` have its
parts.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.errors import InputError, VoxloomWarning
from voxloom.models.exchangeability import BY_DESIGN, Exchangeability
from voxloom.models.group import effects
from voxloom.models.group_design import INTERCEPT, aligned_design, warn_if_singular
from voxloom.models.joint import heights, how_many, joint_p, require_comparable
from voxloom.models.null_p import TAILS, p_of_null
from voxloom.models.permutation import PreparedTest, prepare_test, uncorrected_p
from voxloom.models.run_test import Found, run_test
from voxloom.spec.statistics import as_statistics, by_result_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.tail_fit import Tail
    from voxloom.spec.statistics import Statistic

    FloatArray = NDArray[np.float64]
    OneContrast = str | Sequence[str] | Sequence[float] | ArrayLike


def permutation_test(
    maps: xr.Dataset | xr.DataArray,
    design: pd.DataFrame | None = None,
    contrast: OneContrast | Mapping[str, OneContrast] = INTERCEPT,
    *,
    n_perm: int = 10_000,
    statistics: str | Statistic | Iterable[Any] = ("max_stat",),
    exchangeability: Exchangeability = BY_DESIGN,
    nuisance: str = "freedman-lane",
    two_sided: bool = True,
    tail: Tail | None = None,
    seed: int = 0,
    client: Any = None,
) -> xr.Dataset:
    """Test contrasts over maps at every voxel, with family-wise error p from permutations.

    The nulls are those of float64 refits, and do not depend on how voxels are chunked or who computes them.

    Parameters
    ----------
    maps : Dataset or DataArray
        ``effect(map, voxel)``, or ``(modality, map, voxel)`` for several maps of each subject. Lazy maps are read a
        stretch of voxels at a time, or one modality at a time where a statistic is spatial; the result is in memory.
    design : DataFrame, optional
        A row per map; matched as in `fit_group`. The mean alone when not given.
    contrast : str, array_like, or mapping of them by name
        Expression of the design's columns or weights (K,): t. Several expressions or rows (q, K): F. Contrasts of a
        mapping, as modalities, are rearranged together.
    n_perm : int
        Rearrangements, the observed order included. When there are no more distinct ones, all are done.
    statistics : name, statistic, or a sequence of them
        ``"max_stat"``: the maximum over voxels. ``"cluster_size"``, ``"cluster_mass"``, ``"tfce"`` for the defaults of
        `ClusterSize`, `ClusterMass` and `TFCE`. Two-sided ones keep the signs apart.
    exchangeability : Exchangeability
    nuisance : str
        What is done with what the contrast leaves of the design: ``"freedman-lane"``, ``"dekker"``, ``"ter-braak"``,
        ``"manly"`` or ``"huh-jhun"``.
    two_sided : bool
        Test ``|t|``; else only positive t. F has one side.
    tail : "gpd" or "gamma", optional
        Take p below 0.1 from a tail fitted to the null.
    seed : int
        Rearrangement i depends on (seed, i) alone: a longer test begins with the shorter one.
    client : distributed.Client, optional
        Whose workers share the rearrangements; each holds the maps.

    Returns
    -------
    Dataset
        ``stat``, ``z_score``, ``p_uncorrected`` and, of every statistic, ``p_<name>`` over ``voxel``,
        ``null_<name>(permutation)`` with the observed maximum first; of spatial ones also their values ``<name>``
        (negative on the negative side). With several contrasts or modalities there are dims ``contrast`` and
        ``modality``, and ``p_joint_<name>`` corrects over all of them, by the maximum on the scale of z. Attributes
        tell the degrees of freedom (``dof``) and how p was made. Voxels with a value missing in any map, or without
        variance, are NaN and counted in a warning.

    Raises
    ------
    DesignError, ContrastError, InputError
        Also for maps that are empty, 0 everywhere or there twice, and for spatial statistics of maps without a grid.
    """
    named = by_result_name(as_statistics(statistics))
    if tail not in (None, *TAILS):
        raise InputError("tail", f"{tail!r} is unknown.", f"One of {TAILS}, or None, is wanted.")
    modalities = _modalities(maps)
    design = aligned_design(modalities[0], design)
    warn_if_singular(design)
    contrasts = contrast if isinstance(contrast, Mapping) else {"": contrast}
    tests = {
        name: prepare_test(
            design,
            one,
            n_perm=n_perm,
            exchangeability=exchangeability,
            nuisance=nuisance,
            two_sided=two_sided,
            seed=seed,
        )
        for name, one in contrasts.items()
    }
    require_comparable(tests, named)
    found = [[run_test(test, effect, named, client) for effect in modalities] for test in tests.values()]
    _report_untested(found[0])
    coords = {name: coord for name, coord in modalities[0].coords.items() if "map" not in coord.dims}
    parts = [
        [_result(test, one, named, tail).assign_coords(coords) for one in row]
        for test, row in zip(tests.values(), found)
    ]
    result = _stacked(parts, list(tests), _labels(maps))
    if len(parts) * len(modalities) > 1:
        result = result.assign(joint_p(list(tests.values()), found, named, tail))
    alone = {"contrast": not isinstance(contrast, Mapping), "modality": "modality" not in maps.dims}
    return result.isel({dim: 0 for dim in alone if alone[dim]}, drop=True)


def _modalities(maps: xr.Dataset | xr.DataArray) -> list[xr.DataArray]:
    """Maps ``(map, voxel)`` of every modality; one where there is no such dim."""
    if "modality" not in maps.dims:
        return [effects(maps)]
    return [effects(maps.isel(modality=i, drop=True)) for i in range(maps.sizes["modality"])]


def _labels(maps: xr.Dataset | xr.DataArray) -> list[Any]:
    return maps["modality"].to_numpy().tolist() if "modality" in maps.dims else [""]


def _result(test: PreparedTest, found: Found, statistics: Mapping[str, Statistic], tail: Tail | None) -> xr.Dataset:
    """Maps and nulls of one test of one modality."""
    variables: dict[str, Any] = {
        "stat": ("voxel", found.stat),
        "z_score": ("voxel", test.to_z(found.stat)),
        "p_uncorrected": (
            "voxel",
            np.where(np.isnan(found.stat), np.nan, uncorrected_p(test, found.reached)),
            test.attrs,
        ),
    }
    for name, one in statistics.items():
        p, attrs = p_of_null(heights(test, found, name), found.null[name], tail=tail, **how_many(test))
        variables[f"p_{name}"] = ("voxel", p, test.attrs | _parameters(one) | attrs)
        variables[f"null_{name}"] = ("permutation", found.null[name])
    variables |= {name: ("voxel", values) for name, values in found.spatial.items()}
    dof = {} if test.groups is not None else {"dof": test.model.dof}  # of v and G it differs between voxels
    return xr.Dataset(variables, attrs=test.attrs | dof)


def _parameters(one: Statistic) -> dict[str, Any]:
    """Those of a statistic that are set, for attributes of files."""
    return {key: value for key, value in one.model_dump()[one.name].items() if value is not None}


def _stacked(parts: list[list[xr.Dataset]], contrasts: list[str], modalities: list[Any]) -> xr.Dataset:
    """Results of every contrast and modality as one Dataset; attributes in which they differ become lists."""
    along = pd.Index(modalities, name="modality")
    rows = [xr.concat(row, along, join="exact", combine_attrs=_combined) for row in parts]
    return xr.concat(rows, pd.Index(contrasts, name="contrast"), join="exact", combine_attrs=_combined)


def _combined(attrs: Sequence[dict[str, Any]], context: Any = None) -> dict[str, Any]:
    """Attributes of several, one value where it is that of all."""
    values = {key: [one.get(key) for one in attrs] for key in attrs[0]}
    return {key: all_of[0] if all(value == all_of[0] for value in all_of) else all_of for key, all_of in values.items()}


def _report_untested(found: Sequence[Found]) -> None:
    for one in found:
        untested, n_voxels = int(np.isnan(one.stat).sum()), len(one.stat)
        if untested == n_voxels:
            raise InputError(
                "maps",
                f"none of the {n_voxels} voxels has variance and a value in every map.",
                "Check mask and maps.",
            )
        if untested:
            warnings.warn(
                f"maps: {untested} of {n_voxels} voxels have no variance or no value in some map; they are not tested.",
                VoxloomWarning,
                stacklevel=3,
            )
