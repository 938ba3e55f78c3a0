"""Permutation inference over maps: p of every voxel, alone and corrected by the null of a maximum over voxels.

`permutation_test` does it all here; over voxel shards on a cluster, `models.inference.permutation` and
`models.inference.spatial` have its parts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError
from voxloom.models.group.design import INTERCEPT, aligned_design, warn_if_singular
from voxloom.models.group.fit import effects
from voxloom.models.inference.exchangeability import BY_DESIGN, Exchangeability
from voxloom.models.inference.joint import joint_p, require_comparable
from voxloom.models.inference.null_p import TAILS
from voxloom.models.inference.prepared_test import PreparedTest, prepare_test, with_smoothed_variance
from voxloom.models.inference.results import report_untested, result_of, stacked
from voxloom.models.inference.run_test import run_test
from voxloom.schema import grid_of
from voxloom.spec.statistics import as_made, as_statistics, by_result_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    import xarray as xr
    from numpy.typing import ArrayLike

    from voxloom.kernels.permutation.tail_fit import Tail
    from voxloom.spec.statistics import Statistic

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
    stop_at: int | None = None,
    variance_smoothing_fwhm: float | None = None,
    min_n: int = 1,
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
    stop_at : int, optional
        Stop counting for a voxel's ``p_uncorrected`` after so many random rearrangements that reach its statistic: 20
        tell p to about a quarter of its size. With ``statistics=()`` that takes a third to a half of the time. Where
        all distinct rearrangements are done, all are counted.
    variance_smoothing_fwhm : float, optional
        Test pseudo-t: the variance is smoothed over voxels by a Gaussian of this full width at half maximum, mm, in
        every rearrangement. For t with few degrees of freedom. There is no ``z_score`` then, and spatial statistics are
        made ``on="stat"``.
    min_n : int
        Voxels with fewer maps are not tested.
    seed : int
        Rearrangement i depends on (seed, i) alone: a longer test begins with the shorter one.
    client : distributed.Client, optional
        Whose workers share the rearrangements; each holds the maps.

    Returns
    -------
    Dataset
        ``stat``, ``z_score``, ``p_uncorrected`` and, of every statistic, ``p_<name>`` over ``voxel``,
        ``null_<name>(permutation)`` with the observed maximum first; of spatial ones also their values ``<name>``
        (negative on the negative side); with `stop_at` also ``n_used``, the rearrangements until a voxel stopped. With
        several contrasts or modalities there are dims ``contrast`` and ``modality``, and ``p_joint_<name>`` corrects
        over all of them, by the maximum on the scale of z. Attributes tell the degrees of freedom (``dof``) and how p
        was made. A voxel that lacks maps is tested with the others, ``n(voxel)`` of them; ``stat`` is then the t (or F)
        of the same p with the degrees of freedom of all maps. Voxels with too few, or without variance, are NaN and
        counted in a warning; so are those that lack any, with variance groups, smoothed variances or "huh-jhun".

    Raises
    ------
    DesignError, ContrastError, InputError
        Also for maps that are empty, 0 everywhere or there twice, and for spatial statistics of maps without a grid.
    """
    named = by_result_name(as_made(as_statistics(statistics), has_z=variance_smoothing_fwhm is None))
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
            min_n=min_n,
        )
        for name, one in contrasts.items()
    }
    require_comparable(tests, named)
    if variance_smoothing_fwhm is not None:
        tests = {name: _smoothed(test, variance_smoothing_fwhm, modalities[0], stop_at) for name, test in tests.items()}
    if all(test.rearrangements.exhaustive for test in tests.values()):
        stop_at = None
    found = [
        [run_test(test, effect, named, stop_at=stop_at, client=client) for effect in modalities]
        for test in tests.values()
    ]
    report_untested(found[0])
    coords = {name: coord for name, coord in modalities[0].coords.items() if "map" not in coord.dims}
    parts = [
        [result_of(test, one, named, tail, stop_at).assign_coords(coords) for one in row]
        for test, row in zip(tests.values(), found)
    ]
    result = stacked(parts, list(tests), _labels(maps))
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


def _smoothed(test: PreparedTest, fwhm: float, effect: xr.DataArray, stop_at: int | None) -> PreparedTest:
    if stop_at is not None:
        raise InputError(
            "stop_at", "stops voxel by voxel, but a smoothed variance needs all voxels.", "Leave one of the two out."
        )
    return with_smoothed_variance(test, fwhm, effect["voxel"].to_numpy(), grid_of(effect))
