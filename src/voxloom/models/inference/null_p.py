"""p of statistics from the null of their maximum: by counting, and below 0.1 by a fitted tail where it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.permutation.tail_fit import TailFit, TailP, fit_tail, tail_p

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.permutation.tail_fit import Tail

    FloatArray = NDArray[np.float64]

#: Nulls within this share of a statistic are ties with it; recomputed statistics differ by about 1e-12.
TIE_RTOL = 1e-9
TAILS = ("gpd", "gamma")
EXTRAPOLATED = "p below 0.001 are extrapolated: in simulations they were off by a factor of 3 and more either way"


class NullP(NamedTuple):
    """p of statistics, (V,), and how they were made."""

    p: FloatArray
    attrs: dict[str, Any]


def p_of_null(
    stat: ArrayLike,
    null: ArrayLike,
    *,
    tail: Tail | None = None,
    exhaustive: bool = False,
    n_distinct: int | None = None,
) -> NullP:
    """Share of rearrangements whose maximum reaches a statistic, the observed order among them.

    Parameters
    ----------
    stat : (V,) array_like
        On the scale of the null: ``|t|`` where that is two-sided. NaN gives NaN.
    null : (P,) array_like
        Maximum of every rearrangement, the observed order included.
    tail : "gpd" or "gamma", optional
        Replace p below 0.1 by those of a tail fitted to the null (`kernels.permutation.tail_fit`); counting alone
        when not given.
    exhaustive : bool
        Whether the null holds all distinct rearrangements: p by counting are exact then, and no tail is used.
    n_distinct : int, optional
        How many distinct rearrangements there are; no p is below its reciprocal.

    Returns
    -------
    NullP
        Attributes ``tail``, and of a tail ``tail_status``, ``tail_threshold``, ``tail_exceedances``, ``tail_shape``,
        ``tail_scale``, ``tail_p`` (how many p it gave) and ``tail_floored`` (how many of these are a floor, because
        the fitted tail ends there or before).

    Raises
    ------
    InputError
        Unknown tail.
    """
    stat, null = np.asarray(stat, dtype=np.float64), np.asarray(null, dtype=np.float64)
    counted = counted_p(stat, null)
    if tail is None:
        return NullP(counted, {"tail": "none"})
    if tail not in TAILS:
        raise InputError("tail", f"{tail!r} is unknown.", f"One of {TAILS}, or None, is wanted.")
    if exhaustive:
        return NullP(counted, {"tail": "none", "tail_status": "not needed: all rearrangements were done"})
    fit = fit_tail(null, tail)
    found = tail_p(fit, stat, counted, 1 / n_distinct if n_distinct else 0.0)
    return NullP(found.p, {"tail": tail, **_account(fit, found)})


def counted_p(stat: FloatArray, null: FloatArray) -> FloatArray:
    """``b / N``: share of the null (P,) that reaches the statistic (V,), ties by `TIE_RTOL`, at least 1 / P."""
    ordered = np.sort(null)
    reached = ordered.size - np.searchsorted(ordered, least_tie(stat), side="left")
    # a voxel that is none of the test may exceed every maximum; p is never 0
    return np.where(np.isnan(stat), np.nan, np.maximum(reached, 1) / ordered.size)


def least_tie(stat: FloatArray) -> FloatArray:
    """Least value that counts as reaching a statistic."""
    return np.asarray(stat - TIE_RTOL * np.abs(stat))


def _account(fit: TailFit, found: TailP) -> dict[str, Any]:
    if fit.status != "fitted":
        return {"tail_status": f"not used: {fit.status}"}
    account = {
        "tail_status": fit.status,
        "tail_threshold": fit.threshold,
        "tail_exceedances": fit.n_exceedances,
        "tail_shape": fit.shape,
        "tail_scale": fit.scale,
        "tail_p": int(found.replaced.sum()),
        "tail_floored": int(found.bounded.sum()),
    }
    return account | ({"tail_note": EXTRAPOLATED} if np.any(found.p[found.replaced] < 1e-3) else {})
