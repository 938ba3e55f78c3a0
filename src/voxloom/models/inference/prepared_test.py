"""A permutation test prepared from a design: how the effect is told from the nuisance, and what is rearranged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.permutation.exchangeability import free_block
from voxloom.kernels.permutation.nuisance import NUISANCE, Projections
from voxloom.kernels.permutation.partition import Split, interchangeable, split
from voxloom.kernels.permutation.pseudo_t import VarianceSmoothing
from voxloom.kernels.permutation.variance_groups import VarianceGroups, variance_groups
from voxloom.kernels.z_table import f_table, t_table
from voxloom.models.contrasts import contrast_text, estimable_rows
from voxloom.models.group.design import in_columns, require_dof, require_min_n
from voxloom.models.inference.exchangeability import BY_DESIGN, Exchange, Exchangeability, exchange

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.permutation.rearrange import GivenRearrangements, Rearrangements
    from voxloom.schema import Grid

    FloatArray = NDArray[np.float64]

#: Treatments of the nuisance that rearrange rows of the design with their variances.
GROUPED = ("freedman-lane", "ter-braak", "manly")


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
    groups : VarianceGroups or None
        Maps with a variance each; the statistic is then v or G as a normal deviate.
    smoothing : VarianceSmoothing or None
        The statistic is t with the variance smoothed over voxels, and needs all of them at once.
    min_n : int
        Voxels with fewer maps are not tested.
    """

    model: Projections
    as_observed: Projections
    rearrangements: Rearrangements | GivenRearrangements
    two_sided: bool
    contrast: str
    nuisance: str
    groups: VarianceGroups | None = None
    smoothing: VarianceSmoothing | None = None
    min_n: int = 1

    @property
    def n_perm(self) -> int:
        """Number of rearrangements, the observed order included; p is at least its reciprocal."""
        return self.rearrangements.size

    @property
    def apart(self) -> bool:
        """Whether the observed order has to be computed apart, as the rearranged data hold no effect."""
        return self.model.effect_removed

    @property
    def width(self) -> int:
        """Rows of the products with the data for each rearrangement."""
        groups = self.groups
        return self.model.width if groups is None else groups.rows.shape[1] + len(groups.size) - 1

    @property
    def stat_type(self) -> str:
        """T of one contrast row, F of several; z with variance groups, pseudo-t with smoothed variances."""
        if self.smoothing is not None:
            return "pseudo-t"
        return "z" if self.groups is not None else "t" if self.model.signed else "F"

    @property
    def takes_partial(self) -> bool:
        """Whether voxels that lack maps are tested: not where maps are combined, or variances told by groups."""
        return self.groups is None and self.smoothing is None and self.model.basis is None

    @property
    def least_maps(self) -> int:
        """Fewest maps of a voxel that can be tested."""
        return max(self.min_n, int(self.model.effect.shape[1]) + 1)

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
            **self._distinct,
            "seed": self.rearrangements.seed,
            "tail": "none",
            **({} if self.groups is None else {"z_of": "Aspin-Welch v" if self.model.signed else "G"}),
            **({} if self.smoothing is None else {"variance_smoothing_fwhm": self.smoothing.fwhm}),
            "p_method": "b / N, all distinct rearrangements"
            if exhaustive
            else f"(b + 1) / (m + 1), m {others} rearrangements",
        }

    @property
    def _distinct(self) -> dict[str, int]:
        """How many distinct rearrangements there are, where that is known and a number that files can hold."""
        distinct = self.rearrangements.n_distinct
        return {} if distinct is None or distinct > 2**53 else {"n_distinct": distinct}

    def to_z(self, stat: FloatArray, out: FloatArray | None = None) -> FloatArray:
        """Turn the statistic into the normal deviate of the same upper tail, to 1e-11; `out` may be `stat`.

        Pseudo-t has none and stays as it is; v and G are deviates.
        """
        if self.groups is not None or self.smoothing is not None:
            return np.asarray(np.positive(stat, out=out))
        dof, r = float(self.model.dof), float(self.model.effect.shape[1])
        return (t_table(dof) if self.model.signed else f_table(r, dof))(stat, out)


def with_smoothed_variance(test: PreparedTest, fwhm: float, voxel: NDArray[np.int64], grid: Grid) -> PreparedTest:
    """Make a test of pseudo-t of one of t.

    Parameters
    ----------
    test : PreparedTest
    fwhm : float
        Full width at half maximum of the Gaussian, mm (randomise's ``-v`` is its standard deviation, FWHM / 2.355).
    voxel : (V,) array of int
        Flat C-order indices of the voxels of the maps.
    grid : Grid

    Raises
    ------
    InputError
        The test is none of t, or the width is not positive.
    """
    if not fwhm > 0:
        raise InputError("variance_smoothing_fwhm", f"is {fwhm}.", "A width in mm is wanted.")
    if test.stat_type != "t":
        what = f"is for tests of t, but {test.contrast!r} is one of {test.stat_type}."
        raise InputError("variance_smoothing_fwhm", what, "Test one contrast row, without variance groups.")
    return replace(test, smoothing=VarianceSmoothing(fwhm, voxel, grid.shape, grid.voxel_sizes))


def prepare_test(
    design: pd.DataFrame,
    contrast: str | Sequence[str] | Sequence[float] | ArrayLike,
    *,
    stat_type: str | None = None,
    n_perm: int = 10_000,
    exchangeability: Exchangeability = BY_DESIGN,
    nuisance: str = "freedman-lane",
    two_sided: bool = True,
    seed: int = 0,
    min_n: int = 1,
) -> PreparedTest:
    """Partition the design by the contrast, choose the scheme and number its rearrangements.

    Parameters are those of `permutation_test`; rows of the design are the maps in order. `stat_type` may be F of one
    row; by default it is t of one row and F of more.

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
    _require_arguments(n_perm, seed, nuisance)
    require_min_n(min_n, len(design))
    M = design.to_numpy(dtype=np.float64)
    require_dof(M)
    C = _estimable(design, contrast)
    allowed = exchange(exchangeability, M, C, design.index)
    still = None if allowed.flips or len(allowed.orbits) != len(M) else allowed.orbits
    parts = split(M, C, still)._replace(signed=len(C) == 1 and stat_type != "F")
    model = NUISANCE[nuisance](parts)
    if model.basis is not None:
        allowed = _of_combined_maps(allowed, exchangeability, nuisance, model.size)
    groups = _groups(allowed, parts, nuisance)
    rows = M if groups is None else np.column_stack([M, groups.group])
    labels = interchangeable(rows) if model.basis is None else np.arange(model.size)
    return PreparedTest(
        model=model,
        as_observed=NUISANCE["freedman-lane"](parts),
        rearrangements=allowed.plan(labels, n_perm, seed),
        two_sided=two_sided and parts.signed,
        contrast=contrast_text(contrast),
        nuisance=nuisance,
        groups=groups,
        min_n=min_n,
    )


def _require_arguments(n_perm: int, seed: int, nuisance: str) -> None:
    if n_perm < 1:
        raise InputError("n_perm", f"is {n_perm}.", "At least 1, the observed order, is wanted.")
    if not 0 <= seed < 2**64:
        raise InputError("seed", f"is {seed}.", "An integer from 0 to 2**64 - 1 is wanted.")
    if nuisance not in NUISANCE:
        raise InputError("nuisance", f"{nuisance!r} is unknown.", f"One of {list(NUISANCE)} is wanted.")


def _groups(allowed: Exchange, parts: Split, nuisance: str) -> VarianceGroups | None:
    """Variance groups that are asked for; None where all maps are in one."""
    if allowed.groups is None:
        return None
    if nuisance not in GROUPED:
        what = f"{nuisance!r} keeps no variance group apart."
        raise InputError("nuisance", what, f"With variance groups, one of {GROUPED} is wanted.")
    return variance_groups(parts, allowed.groups) if allowed.groups.any() else None


def _of_combined_maps(allowed: Exchange, wanted: Exchangeability, nuisance: str, n_data: int) -> Exchange:
    """Exchange of data that are combinations of maps, all alike."""
    if wanted.blocks is not None:
        raise InputError("nuisance", f"{nuisance!r} combines maps across blocks.", 'Use "freedman-lane" with blocks.')
    return allowed._replace(block=free_block(n_data))


def _estimable(design: pd.DataFrame, contrast: str | Sequence[str] | Sequence[float] | ArrayLike) -> FloatArray:
    """Weights (q, K) of an estimable contrast."""
    columns = [str(name) for name in design.columns]
    rows = in_columns(contrast, columns, design.attrs.get("terms", {}))
    return estimable_rows(design.to_numpy(dtype=np.float64), columns, rows)
