"""Corrections for the many voxels of a map, and thresholds. A map alone allows Bonferroni and FDR."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from voxloom.errors import InputError
from voxloom.kernels import multiplicity as kernel
from voxloom.kernels.tails import P_FLOOR, z_to_p

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Kind = Literal["z", "p"]


def bonferroni(values: xr.DataArray, *, kind: Kind = "z", two_sided: bool = True) -> xr.DataArray:
    """Family-wise error p of every voxel, p times the number of voxels that are not NaN.

    Parameters
    ----------
    values : DataArray
        A map of z, or of p; a lazy one is computed.
    kind : "z" or "p"
        What `values` are.
    two_sided : bool
        Turn z into the p of ``|z|``; of no effect on p.

    Returns
    -------
    DataArray
        ``p_bonferroni``, in memory; attributes say how it was made.

    Raises
    ------
    InputError
        `values` are not of the kind told.
    """
    return _adjusted(values, kind, two_sided, kernel.bonferroni, "p_bonferroni", "Bonferroni")


def fdr(values: xr.DataArray, *, kind: Kind = "z", two_sided: bool = True) -> xr.DataArray:
    """Benjamini-Hochberg adjusted p: the least false discovery rate at which a voxel is rejected.

    Parameters
    ----------
    values : DataArray
        A map of z, or of p; a lazy one is computed.
    kind : "z" or "p"
        What `values` are.
    two_sided : bool
        Turn z into the p of ``|z|``; of no effect on p.

    Returns
    -------
    DataArray
        ``p_fdr``, in memory; attributes say how it was made.

    Raises
    ------
    InputError
        `values` are not of the kind told.
    """
    return _adjusted(values, kind, two_sided, kernel.fdr, "p_fdr", "Benjamini-Hochberg")


def _adjusted(
    values: xr.DataArray,
    kind: Kind,
    two_sided: bool,
    correct: Callable[[FloatArray], FloatArray],
    name: str,
    method: str,
) -> xr.DataArray:
    p = _p_values(values, kind, two_sided)
    attrs = {"p_method": method, "n_tests": int(np.isfinite(p).sum())}
    if kind == "z":
        attrs["two_sided"] = two_sided
    out = values.copy(data=np.maximum(correct(p), np.where(np.isnan(p), np.nan, P_FLOOR))).rename(name)
    out.attrs = attrs
    return out


def _p_values(values: xr.DataArray, kind: Kind, two_sided: bool) -> FloatArray:
    data = np.asarray(values.to_numpy(), dtype=np.float64)
    if kind not in ("z", "p"):
        raise InputError("kind", f"{kind!r} is unknown.", 'Give "z" or "p".')
    named_p = str(values.name or "").startswith("p_")
    if kind == "z" and named_p:
        raise InputError(str(values.name), "is a map of p by its name.", 'Give kind="p", or a map of z.')
    if kind == "p":
        if np.any((data < 0) | (data > 1)):
            raise InputError(str(values.name or "map"), "holds values outside [0, 1].", 'For z give kind="z".')
        return data
    return 2 * z_to_p(np.abs(data)) if two_sided else z_to_p(data)


def threshold(
    map: xr.DataArray,
    *,
    alpha: float = 0.05,
    method: Literal["fpr", "bonferroni", "fdr"],
    two_sided: bool = True,
) -> xr.DataArray:
    """Set voxels of a z map below a threshold to 0.

    Parameters
    ----------
    map : DataArray
        Of z. A lazy one is computed. NaN stays and is not counted as a test.
    alpha : float
        Rate of false positives per voxel ("fpr"), of any false positive ("bonferroni"), or expected share of
        false positives among those found ("fdr", Benjamini-Hochberg).
    method : "fpr", "bonferroni" or "fdr"
        The thresholds are nilearn's ``threshold_stats_img``.
    two_sided : bool
        Threshold ``|z|``, with alpha shared by both sides.

    Returns
    -------
    DataArray
        Voxels at the threshold are kept. Attributes ``threshold`` (z; infinite where no voxel passes under
        "fdr"), ``alpha``, ``method``, ``two_sided``.

    Raises
    ------
    InputError
        Unknown method, or alpha outside (0, 1).
    """
    if method not in _THRESHOLDS:
        raise InputError("method", f"{method!r} is unknown.", f"One of {sorted(_THRESHOLDS)} is wanted.")
    if not 0 < alpha < 1:
        raise InputError("alpha", f"is {alpha}.", "A rate between 0 and 1 is wanted.")
    data = np.asarray(map.to_numpy(), dtype=np.float64)
    height = np.abs(data) if two_sided else data
    cut = _THRESHOLDS[method](height[np.isfinite(height)], alpha / 2 if two_sided else alpha)
    out = map.copy(data=np.where(height < cut, 0.0, data))
    out.attrs = map.attrs | {"threshold": cut, "alpha": alpha, "method": method, "two_sided": two_sided}
    return out


def _z_of(p: float) -> float:
    return float(-ndtri_exp(np.log(p)))


def _fdr_cut(height: FloatArray, alpha: float) -> float:
    """Least z rejected; from log p, so that z beyond 38 keep their order."""
    descending = np.sort(height)[::-1]
    rates = np.log(alpha * np.arange(1, descending.size + 1) / max(descending.size, 1))
    rejected = np.flatnonzero(log_ndtr(-descending) < rates)
    return float(descending[rejected[-1]]) if rejected.size else np.inf


#: z threshold by method, from the heights of the tests and a one-sided alpha.
_THRESHOLDS: dict[str, Callable[[FloatArray, float], float]] = {
    "fpr": lambda height, alpha: _z_of(alpha),
    "bonferroni": lambda height, alpha: _z_of(alpha / max(height.size, 1)),
    "fdr": _fdr_cut,
}
