"""A permutation test prepared once from the design, then run over any voxels and rearrangements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import ContrastError, InputError
from voxloom.kernels import maxstat
from voxloom.kernels.exchangeability import free_block
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.kernels.permutation import (
    NUISANCE,
    Projections,
    cosine_of_stat,
    interchangeable,
    split,
    stat_of_cosine,
)
from voxloom.kernels.stat_maps import PERMUTATIONS, cosine_maps
from voxloom.kernels.z_table import f_table, t_table
from voxloom.models.design import dependent_columns
from voxloom.models.exchangeability import BY_DESIGN, Exchange, Exchangeability, exchange
from voxloom.models.group_design import require_dof
from voxloom.models.null_p import TIE_RTOL, counted_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.rearrange import GivenRearrangements, Rearrangements

    FloatArray = NDArray[np.float64]

#: Rearranged rows (indices and float32 design) made at once.
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, eq=False)
class PreparedTest:
    """A permutation test of one contrast, ready for any voxels; it depends on the design alone.

    Attributes
    ----------
    model : Projections
        Of the rearranged data, by the treatment of the nuisance.
    as_observed : Projections
        Of the maps as they stand.
    rearrangements : Rearrangements
    two_sided : bool
        The statistic is ``|t|``; never of F.
    contrast, nuisance : str
    """

    model: Projections
    as_observed: Projections
    rearrangements: Rearrangements | GivenRearrangements
    two_sided: bool
    contrast: str
    nuisance: str

    @property
    def n_perm(self) -> int:
        """Number of rearrangements, the observed order included; p is at least its reciprocal."""
        return self.rearrangements.size

    @property
    def apart(self) -> bool:
        """Whether the observed order has to be computed apart, as the rearranged data hold no effect."""
        return self.model.effect_removed

    @property
    def stat_type(self) -> str:
        """T of one contrast row, F of several."""
        return "t" if self.model.signed else "F"

    @property
    def attrs(self) -> dict[str, Any]:
        """How its p are made."""
        exhaustive, scheme = self.rearrangements.exhaustive, self.rearrangements.scheme
        others = "given" if scheme == "given" else "random"
        return {
            "contrast": self.contrast,
            "stat_type": self.stat_type,
            "two_sided": self.two_sided,
            "scheme": scheme,
            "nuisance": self.nuisance,
            "n_perm": self.n_perm,
            "exhaustive": exhaustive,
            "seed": self.rearrangements.seed,
            "tail": "none",
            "p_method": "b / N, all distinct rearrangements"
            if exhaustive
            else f"(b + 1) / (m + 1), m {others} rearrangements",
        }

    def to_z(self, stat: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Turn t or F into the normal deviate of the same upper tail, to 1e-11; `out` may be `stat`."""
        dof, r = float(self.model.dof), float(self.model.effect.shape[1])
        return (t_table(dof) if self.model.signed else f_table(r, dof))(stat, out)


class Swept(NamedTuple):
    """What a sweep over rearrangements finds in a shard of voxels.

    Attributes
    ----------
    maxima : (P,) array
        Of the statistic; -inf where no voxel can be tested.
    reached : (V,) array of int
        In how many rearrangements the voxel's statistic reaches what was asked; 0 when nothing was.
    """

    maxima: FloatArray
    reached: NDArray[np.int64]


def prepare_test(
    design: pd.DataFrame,
    contrast: str | Sequence[float] | ArrayLike,
    *,
    n_perm: int = 10_000,
    exchangeability: Exchangeability = BY_DESIGN,
    nuisance: str = "freedman-lane",
    two_sided: bool = True,
    seed: int = 0,
) -> PreparedTest:
    """Partition the design by the contrast, choose the scheme and number its rearrangements.

    Parameters are those of `permutation_test`; rows of the design are the maps in order.

    Raises
    ------
    DesignError
        Not more maps than regressors.
    ContrastError
        Unknown columns, or a contrast the design cannot estimate.
    InputError
        `n_perm` or `seed` out of range, an unknown treatment of the nuisance, blocks that cannot be exchanged or
        leave no rearrangement, given rearrangements that are none.
    """
    if n_perm < 1:
        raise InputError("n_perm", f"is {n_perm}.", "At least 1, the observed order, is wanted.")
    if not 0 <= seed < 2**64:
        raise InputError("seed", f"is {seed}.", "An integer from 0 to 2**64 - 1 is wanted.")
    if nuisance not in NUISANCE:
        raise InputError("nuisance", f"{nuisance!r} is unknown.", f"One of {list(NUISANCE)} is wanted.")
    M = design.to_numpy(dtype=np.float64)
    require_dof(M)
    C = _estimable(design, contrast)
    allowed = exchange(exchangeability, M, C)
    still = None if allowed.flips or len(allowed.orbits) != len(M) else allowed.orbits
    parts = split(M, C, still)
    model = NUISANCE[nuisance](parts)
    if model.basis is not None:
        allowed = _of_combined_maps(allowed, exchangeability, nuisance, model.size)
    labels = interchangeable(M) if model.basis is None else np.arange(model.size)
    return PreparedTest(
        model=model,
        as_observed=NUISANCE["freedman-lane"](parts),
        rearrangements=allowed.plan(labels, n_perm, seed),
        two_sided=two_sided and parts.signed,
        contrast=contrast if isinstance(contrast, str) else "; ".join(" ".join(f"{w:g}" for w in row) for row in C),
        nuisance=nuisance,
    )


def _of_combined_maps(allowed: Exchange, wanted: Exchangeability, nuisance: str, n_data: int) -> Exchange:
    """Exchange of data that are combinations of maps, all alike."""
    if wanted.blocks is not None or wanted.variance_groups is not None:
        raise InputError(
            "nuisance",
            f"{nuisance!r} combines maps across blocks and variance groups.",
            'Use "freedman-lane" with these.',
        )
    return allowed._replace(block=free_block(n_data))


def _estimable(design: pd.DataFrame, contrast: str | Sequence[float] | ArrayLike) -> FloatArray:
    """Weights (q, K) of an estimable contrast."""
    columns = [str(name) for name in design.columns]
    M = design.to_numpy(dtype=np.float64)
    C = contrast_matrix(contrast, columns)
    if not is_estimable(C, reduce_design(M)).all():
        raise ContrastError(
            f"contrast {contrast!r}",
            f"is not estimable: the columns {dependent_columns(M, columns)} depend on the others.",
            "Leave them out of the design, or test a contrast that the design can tell.",
        )
    return C


def observed_stat(test: PreparedTest, Y: NDArray[Any]) -> FloatArray:
    """Compute t or F of every voxel of the maps Y (n, V); NaN where a voxel cannot be tested."""
    return stat_of_cosine(maxstat.observed(_maps(test, Y), test.as_observed), test.as_observed)


def null_max_stat(test: PreparedTest, Y: NDArray[Any], *, start: int = 0, stop: int | None = None) -> FloatArray:
    """Maximum of the statistic over the voxels of Y under rearrangements `start` to `stop` - 1.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps, one shard of voxels; the maxima of shards merge by ``np.maximum``, bit for bit.
    start, stop : int
        Stretch of rearrangements, all of them when not given.

    Returns
    -------
    (stop - start,) array
        -inf where no voxel of the shard can be tested.
    """
    return sweep(test, Y, start=start, stop=stop).maxima


def count_reached(
    test: PreparedTest, Y: NDArray[Any], stat: FloatArray, *, start: int = 0, stop: int | None = None
) -> NDArray[np.int64]:
    """In how many of the rearrangements `start` to `stop` - 1 each voxel's statistic reaches `stat`, (V,)."""
    return sweep(test, Y, stat, start=start, stop=stop).reached


def sweep(
    test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None = None, *, start: int = 0, stop: int | None = None
) -> Swept:
    """Do `null_max_stat` and, for what `stat` says, `count_reached` in one.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps, one shard of voxels.
    stat : (V,) array, optional
        Statistic to reach, to `TIE_RTOL`: of a two-sided test in size. NaN is never reached. Counts of stretches
        of rearrangements add up, to the last one.
    start, stop : int
        Stretch of rearrangements, all of them when not given.
    """
    Y, stop = _maps(test, Y), test.n_perm if stop is None else stop
    if start == 0 and test.apart:
        return _joined(_as_observed(test, Y, stat), sweep(test, Y, stat, start=1, stop=stop))
    bars = None if stat is None else cosine_of_stat(_least_tie(test, stat), test.model)
    if test.rearrangements.mirrored and (start, stop) == (0, test.n_perm):
        return _both_halves(test, _extremes(test, Y, 0, stop // 2, bars, mirrored=test.model.signed))
    found = _extremes(test, Y, start, stop, bars, mirrored=test.two_sided)
    return Swept(stat_of_cosine(_heights(test, found), test.model), found.reached)


def _both_halves(test: PreparedTest, half: maxstat.Extremes) -> Swept:
    """Make a sweep over all sign flips of one over half of them, of which the others are the mirror images."""
    heights = _heights(test, half)
    images = heights if test.two_sided or not test.model.signed else -half.least
    reached = half.reached if test.model.signed and not test.two_sided else 2 * half.reached
    return Swept(stat_of_cosine(np.concatenate([heights, images[::-1]]), test.model), reached)


def _heights(test: PreparedTest, found: maxstat.Extremes) -> FloatArray:
    return np.maximum(found.greatest, -found.least) if test.two_sided else found.greatest


def _as_observed(test: PreparedTest, Y: NDArray[Any], stat: FloatArray | None) -> Swept:
    """Sweep over the observed order alone, where it is not told by the rearranged data."""
    observed = observed_stat(test, Y)
    height = np.abs(observed) if test.two_sided else observed
    reached = np.zeros(len(height)) if stat is None else height >= _least_tie(test, stat)
    return Swept(np.array([np.max(height, initial=-np.inf, where=~np.isnan(height))]), reached.astype(np.int64))


def _joined(first: Swept, rest: Swept) -> Swept:
    return Swept(np.concatenate([first.maxima, rest.maxima]), first.reached + rest.reached)


def _least_tie(test: PreparedTest, stat: ArrayLike) -> FloatArray:
    """Least statistic that counts as reaching `stat`."""
    value = np.abs(stat) if test.two_sided else np.asarray(stat, dtype=np.float64)
    return np.asarray(value - TIE_RTOL * np.abs(value))


def _extremes(
    test: PreparedTest, Y: NDArray[Any], start: int, stop: int, bars: FloatArray | None, *, mirrored: bool
) -> maxstat.Extremes:
    """`maxstat.extremes` for any number of rearrangements, within `BATCH_BYTES`."""
    found = maxstat.Extremes(np.empty(stop - start), np.empty(stop - start), np.zeros(Y.shape[1], np.int64))
    batch = max(1, BATCH_BYTES // (4 * (1 + test.model.width) * test.model.size))
    for i in range(start, stop, batch):
        indices = test.rearrangements.draw(i, min(i + batch, stop))
        part = maxstat.extremes(Y, indices, test.model, bars=bars, mirrored=mirrored)
        here = slice(i - start, i - start + len(indices))
        found.greatest[here], found.least[here] = part.greatest, part.least
        found.reached[:] += part.reached
    return found


def rearranged_stat(test: PreparedTest, Y: NDArray[Any], *, start: int = 0, stop: int | None = None) -> FloatArray:
    """Compute the statistic of every voxel under rearrangements `start` to `stop` - 1, (P, V).

    For what is made of whole maps. A number depends on its rearrangement and voxel alone, to the last bit, where
    shards of voxels begin at multiples of `stat_maps.VOXELS`.

    Parameters
    ----------
    test : PreparedTest
    Y : (n, V) array
        Maps; NaN where a voxel cannot be tested.
    start, stop : int
        Stretch of rearrangements, all of them when not given.
    """
    Y, stop = _maps(test, Y), test.n_perm if stop is None else stop
    first = start // PERMUTATIONS * PERMUTATIONS
    stat = np.empty((stop - start, Y.shape[1]))
    for i in range(first, stop, PERMUTATIONS):
        indices = test.rearrangements.draw(i, min(i + PERMUTATIONS, stop))
        maps = stat_of_cosine(cosine_maps(Y, indices, test.model), test.model)
        stat[max(i - start, 0) : i - start + len(indices)] = maps[max(start - i, 0) :]
    if start == 0 and test.apart and stop:
        stat[0] = observed_stat(test, Y)
    return stat


def _maps(test: PreparedTest, Y: NDArray[Any]) -> NDArray[Any]:
    n = len(test.as_observed.effect)
    if Y.ndim != 2 or len(Y) != n:
        raise InputError("maps", f"has shape {Y.shape}.", f"({n}, voxels) is wanted.")
    return Y


def uncorrected_p(test: PreparedTest, reached: NDArray[np.int64]) -> FloatArray:
    """P of each voxel alone: the share of all rearrangements in which it reaches its statistic, the observed included.

    Parameters
    ----------
    test : PreparedTest
    reached : (V,) array of int
        By `count_reached` over all rearrangements.
    """
    return np.clip(reached, 1, test.n_perm) / test.n_perm


def fwe_p(test: PreparedTest, stat: ArrayLike, null: ArrayLike) -> FloatArray:
    """Family-wise error p: the share of rearrangements whose maximum reaches the statistic.

    The observed order is one of them, so p is at least 1 / n_perm: (b + 1) / (m + 1) for m random ones, b / N
    for all N.

    Parameters
    ----------
    test : PreparedTest
    stat : (V,) array_like
        t; NaN gives NaN.
    null : (P,) array_like
        Maxima over all voxels.
    """
    value = np.abs(stat) if test.two_sided else np.asarray(stat, dtype=np.float64)
    return counted_p(value, np.asarray(null, dtype=np.float64))
