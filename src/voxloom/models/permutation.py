"""A permutation test prepared once from the design, then run over any voxels and rearrangements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from voxloom.errors import ContrastError, InputError
from voxloom.kernels import maxstat
from voxloom.kernels.expression import contrast_matrix
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.kernels.permutation import (
    FreedmanLane,
    concerns_a_mean,
    freedman_lane,
    interchangeable,
    t_from_cosine,
)
from voxloom.kernels.rearrange import Rearrangements, count_distinct, plan_rearrangements
from voxloom.models.design import dependent_columns
from voxloom.models.group import require_dof
from voxloom.models.null_p import counted_p

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

SCHEMES = ("auto", "flip", "permute")
#: Rearranged rows (indices and float32 design) made at once.
BATCH_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class Exchangeability:
    """What may be rearranged under the null hypothesis.

    Parameters
    ----------
    scheme : "auto", "flip" or "permute"
        Signs of the errors are flipped (they are symmetric about 0), or the errors are permuted (they are
        exchangeable). "auto" flips for tests of a mean, where permuting would change nothing, and permutes
        else.
    """

    scheme: Literal["auto", "flip", "permute"] = "auto"

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InputError("exchangeability", f"scheme {self.scheme!r} is unknown.", f"One of {SCHEMES} is wanted.")


BY_DESIGN = Exchangeability()


@dataclass(frozen=True, eq=False)
class PreparedTest:
    """A permutation test of one t contrast, ready for any voxels; it depends on the design alone.

    Attributes
    ----------
    model : FreedmanLane
        Projections of effect and nuisance.
    rearrangements : Rearrangements
    two_sided : bool
        The statistic is ``|t|``.
    contrast : str
    """

    model: FreedmanLane
    rearrangements: Rearrangements
    two_sided: bool
    contrast: str

    @property
    def n_perm(self) -> int:
        """Number of rearrangements, the observed order included; p is at least its reciprocal."""
        return self.rearrangements.size

    @property
    def attrs(self) -> dict[str, Any]:
        """How its p are made."""
        exhaustive = self.rearrangements.exhaustive
        return {
            "contrast": self.contrast,
            "stat_type": "t",
            "two_sided": self.two_sided,
            "scheme": self.rearrangements.scheme,
            "nuisance": "freedman-lane",
            "n_perm": self.n_perm,
            "exhaustive": exhaustive,
            "seed": self.rearrangements.seed,
            "tail": "none",
            "p_method": "b / N, all distinct rearrangements"
            if exhaustive
            else "(b + 1) / (m + 1), m random rearrangements",
        }


def prepare_test(
    design: pd.DataFrame,
    contrast: str | Sequence[float] | ArrayLike,
    *,
    n_perm: int = 10_000,
    exchangeability: Exchangeability = BY_DESIGN,
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
        Unknown columns, an F contrast, or one the design cannot estimate.
    InputError
        `n_perm` or `seed` out of range.
    """
    if n_perm < 1:
        raise InputError("n_perm", f"is {n_perm}.", "At least 1, the observed order, is wanted.")
    if not 0 <= seed < 2**64:
        raise InputError("seed", f"is {seed}.", "An integer from 0 to 2**64 - 1 is wanted.")
    M = design.to_numpy(dtype=np.float64)
    require_dof(M)
    C = _one_row(design, contrast)
    scheme = exchangeability.scheme
    if scheme == "auto":
        scheme = "flip" if concerns_a_mean(M, C) else "permute"
    labels = interchangeable(M)
    if count_distinct(labels, scheme) == 1:
        raise InputError(
            "exchangeability",
            "all rows of the design are equal, so permuting them changes nothing.",
            'Use scheme="flip", which flips signs.',
        )
    return PreparedTest(
        freedman_lane(M, C, permute=scheme == "permute"),
        plan_rearrangements(labels, scheme, n_perm, seed),
        two_sided,
        contrast if isinstance(contrast, str) else " ".join(f"{w:g}" for w in C[0]),
    )


def _one_row(design: pd.DataFrame, contrast: str | Sequence[float] | ArrayLike) -> FloatArray:
    """Weights (1, K) of an estimable t contrast."""
    columns = [str(name) for name in design.columns]
    M = design.to_numpy(dtype=np.float64)
    C = contrast_matrix(contrast, columns)
    where = f"contrast {contrast!r}"
    if len(C) > 1:
        raise ContrastError(where, f"has {len(C)} rows, an F test.", "Permutation tests take one row, a t test.")
    if not is_estimable(C, reduce_design(M)).all():
        raise ContrastError(
            where,
            f"is not estimable: the columns {dependent_columns(M, columns)} depend on the others.",
            "Leave them out of the design, or test a contrast that the design can tell.",
        )
    return C


def observed_stat(test: PreparedTest, Y: NDArray[Any]) -> FloatArray:
    """Compute t of every voxel of the maps Y (n, V); NaN where a voxel cannot be tested."""
    return t_from_cosine(maxstat.observed(_maps(test, Y), test.model), test.model.dof)


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
    Y, stop = _maps(test, Y), test.n_perm if stop is None else stop
    rearrangements = test.rearrangements
    # all sign flips: the second half mirrors the first, its maxima are minus the minima
    mirrored = rearrangements.scheme == "flip" and rearrangements.exhaustive and (start, stop) == (0, test.n_perm)
    greatest, least = _extremes(test, Y, start, stop // 2 if mirrored else stop)
    if mirrored:
        greatest, least = (
            np.concatenate([greatest, -least[::-1]]),
            np.concatenate([least, -greatest[::-1]]),
        )
    h = np.maximum(greatest, -least) if test.two_sided else greatest
    return t_from_cosine(h, test.model.dof)


def _extremes(test: PreparedTest, Y: NDArray[Any], start: int, stop: int) -> tuple[FloatArray, FloatArray]:
    """`maxstat.extremes` for any number of rearrangements, within `BATCH_BYTES`."""
    width = 1 + test.model.moving.shape[1]
    batch = max(1, BATCH_BYTES // (4 * (1 + width) * len(Y)))
    parts = [
        maxstat.extremes(Y, test.rearrangements.draw(i, min(i + batch, stop)), test.model)
        for i in range(start, stop, batch)
    ]
    return np.concatenate([part.greatest for part in parts]), np.concatenate([part.least for part in parts])


def _maps(test: PreparedTest, Y: NDArray[Any]) -> NDArray[Any]:
    if Y.ndim != 2 or len(Y) != len(test.model.X):
        raise InputError("maps", f"has shape {Y.shape}.", f"({len(test.model.X)}, voxels) is wanted.")
    return Y


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
