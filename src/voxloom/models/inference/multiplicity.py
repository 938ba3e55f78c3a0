"""Corrections for the many voxels of a map, and thresholds. A map alone allows Bonferroni, FDR and a cut by size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.special import log_ndtr, ndtri_exp

from voxloom.errors import InputError
from voxloom.kernels.maps import multiplicity as kernel
from voxloom.kernels.tails import P_FLOOR, z_to_p
from voxloom.models.first_level.noise import same_voxels
from voxloom.models.inference.clusters import map_clusters

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

Kind = Literal["z", "p"]
_FDR: dict[str, tuple[Callable[[FloatArray], FloatArray], str]] = {
    "bh": (kernel.fdr, "Benjamini-Hochberg"),
    "bky": (kernel.bky, "Benjamini-Krieger-Yekutieli"),
}


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


def fdr(
    values: xr.DataArray, *, kind: Kind = "z", two_sided: bool = True, method: Literal["bh", "bky"] = "bh"
) -> xr.DataArray:
    """Adjusted p: the least false discovery rate at which a voxel is rejected.

    Parameters
    ----------
    values : DataArray
        A map of z, or of p; a lazy one is computed.
    kind : "z" or "p"
        What `values` are.
    two_sided : bool
        Turn z into the p of ``|z|``; of no effect on p.
    method : "bh" or "bky"
        Benjamini and Hochberg (1995), for independent or positively dependent voxels; or the two stages of Benjamini,
        Krieger and Yekutieli (2006), which find more where many voxels carry signal, for independent ones.

    Returns
    -------
    DataArray
        ``p_fdr``, in memory; attributes say how it was made.

    Raises
    ------
    InputError
        `values` are not of the kind told, or the method is unknown.
    """
    if method not in _FDR:
        raise InputError("method", f"{method!r} is unknown.", f"One of {sorted(_FDR)} is wanted.")
    correct, name = _FDR[method]
    return _adjusted(values, kind, two_sided, correct, "p_fdr", name)


def _adjusted(
    values: xr.DataArray,
    kind: Kind,
    two_sided: bool,
    correct: Callable[[FloatArray], FloatArray],
    name: str,
    method: str,
) -> xr.DataArray:
    p = p_values(values, kind, two_sided)
    attrs = {"p_method": method, "n_tests": int(np.isfinite(p).sum())}
    if kind == "z":
        attrs["two_sided"] = two_sided
    out = values.copy(data=np.maximum(correct(p), np.where(np.isnan(p), np.nan, P_FLOOR))).rename(name)
    out.attrs = attrs
    return out


def p_values(values: xr.DataArray, kind: Kind, two_sided: bool) -> FloatArray:
    """Make p of every voxel of a map of z; of p, check that it is one."""
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
    method: Literal["fpr", "bonferroni", "fdr", "fwe"],
    two_sided: bool = True,
    p: xr.DataArray | None = None,
    min_cluster_size: int = 0,
    connectivity: int = 26,
) -> xr.DataArray:
    """Set voxels of a z map below a threshold to 0.

    Parameters
    ----------
    map : DataArray
        Of z. A lazy one is computed. NaN stays and is not counted as a test.
    alpha : float
        Rate of false positives per voxel ("fpr"), of any false positive ("fwe", "bonferroni"), or expected share of
        false positives among those found ("fdr", Benjamini-Hochberg).
    method : "fpr", "bonferroni", "fdr" or "fwe"
        The thresholds are nilearn's ``threshold_stats_img``. "fwe" is that of `p`; of a map alone Bonferroni.
    two_sided : bool
        Threshold ``|z|``, with alpha shared by both sides.
    p : DataArray, optional
        Family-wise error p of the same voxels, such as ``p_max_stat`` of a two-sided or one-sided permutation test, for
        "fwe": voxels with p of at most alpha are kept.
    min_cluster_size : int
        Voxels below which a cluster of what is left is set to 0 too; a cut, which controls no rate of errors.
    connectivity : 6, 18 or 26
        Neighbours in a cluster share a face; or an edge too; or a corner too.

    Returns
    -------
    DataArray
        Voxels at the threshold are kept. Attributes ``threshold`` (z; infinite where no voxel passes under "fdr" or
        "fwe"), ``alpha``, ``method``, ``two_sided``, ``height_control`` (which procedure it was), ``min_cluster_size``.

    Raises
    ------
    InputError
        Unknown method, alpha outside (0, 1), or p without "fwe" or of other voxels.
    """
    if method not in _THRESHOLDS:
        raise InputError("method", f"{method!r} is unknown.", f"One of {sorted(_THRESHOLDS)} is wanted.")
    if not 0 < alpha < 1:
        raise InputError("alpha", f"is {alpha}.", "A rate between 0 and 1 is wanted.")
    if p is not None and method != "fwe":
        raise InputError("p", f"is of no use to {method!r}.", 'Give method="fwe".')
    data = np.asarray(map.to_numpy(), dtype=np.float64)
    height = np.abs(data) if two_sided else data
    control, cut, kept = _by_p(map, p, height, alpha) if p is not None else _by_height(height, method, alpha, two_sided)
    out = map.copy(data=np.where(kept | np.isnan(data), data, 0.0))
    if min_cluster_size > 1:
        out = out.copy(data=_without_small(out, min_cluster_size, connectivity))
    made = {"threshold": cut, "alpha": alpha, "method": method, "two_sided": two_sided, "height_control": control}
    out.attrs = map.attrs | made | {"min_cluster_size": min_cluster_size}
    return out


def _by_height(height: FloatArray, method: str, alpha: float, two_sided: bool) -> tuple[str, float, NDArray[np.bool_]]:
    """Procedure, threshold, and voxels that reach it."""
    control, find = _THRESHOLDS[method]
    cut = find(height[np.isfinite(height)], alpha / 2 if two_sided else alpha)
    return control, cut, height >= cut


def _by_p(map: xr.DataArray, p: xr.DataArray, height: FloatArray, alpha: float) -> tuple[str, float, NDArray[np.bool_]]:
    """What made p, the least height that passes, and the voxels that do."""
    if not same_voxels(p, map):
        raise InputError("p", "its voxels are not those of the map.", "Test the same voxels.")
    kept = (p_values(p, "p", True) <= alpha) & (height > 0)
    return str(p.attrs.get("p_method", p.name)), float(height[kept].min(initial=np.inf)), kept


def _without_small(map: xr.DataArray, size: int, connectivity: int) -> FloatArray:
    """Values of a map that is 0 outside its clusters, 0 in those of fewer voxels too."""
    data = np.asarray(map.to_numpy())
    least = float(np.nextafter(0, 1))
    clusters = map_clusters(map, least, connectivity=connectivity, two_sided=True)
    small = np.append(False, clusters.size < size)
    return np.where(small[clusters.label], 0.0, data)


def _z_of(p: float) -> float:
    return float(-ndtri_exp(np.log(p)))


def fdr_height(height: FloatArray, alpha: float) -> float:
    """Least z rejected; from log p, so that z beyond 38 keep their order."""
    descending = np.sort(height)[::-1]
    rates = np.log(alpha * np.arange(1, descending.size + 1) / max(descending.size, 1))
    rejected = np.flatnonzero(log_ndtr(-descending) < rates)
    return float(descending[rejected[-1]]) if rejected.size else np.inf


def _bonferroni_cut(height: FloatArray, alpha: float) -> float:
    return _z_of(alpha / max(height.size, 1))


#: Procedure and z threshold by method, the latter from the heights of the tests and a one-sided alpha.
_THRESHOLDS: dict[str, tuple[str, Callable[[FloatArray, float], float]]] = {
    "fpr": ("uncorrected", lambda height, alpha: _z_of(alpha)),
    "bonferroni": ("Bonferroni", _bonferroni_cut),
    "fdr": ("Benjamini-Hochberg", fdr_height),
    "fwe": ("Bonferroni", _bonferroni_cut),
}
