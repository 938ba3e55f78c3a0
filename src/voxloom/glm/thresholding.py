"""Thresholds of z maps by nilearn's names: heights, clusters, true discoveries."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import xarray as xr

from voxloom.errors import InputError, VoxloomWarning
from voxloom.glm.images import Masker
from voxloom.glm.parameters import is_number
from voxloom.models.inference.clusters import map_clusters
from voxloom.models.inference.multiplicity import fdr_height
from voxloom.models.inference.multiplicity import threshold as threshold_map
from voxloom.models.inference.true_discoveries import true_discovery_proportion

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

HEIGHT_CONTROL = ("fpr", "fdr", "bonferroni", "fwe", None)
#: Where `height_control` is None and no threshold is given.
DEFAULT_THRESHOLD = 3.0
#: nilearn's clusters: voxels share a face.
CONNECTIVITY = 6


class Threshold(float):
    """A threshold that knows what it controls: ``threshold.height_control`` names the procedure."""

    height_control: str

    @classmethod
    def of(cls, value: float, height_control: str) -> Threshold:
        """A threshold by this procedure."""
        found = cls(value)
        found.height_control = height_control
        return found


def threshold_stats_img(
    stat_img: Any = None,
    mask_img: Any = None,
    alpha: float = 0.001,
    threshold: float | None = None,
    height_control: str | None = "fpr",
    cluster_threshold: int = 0,
    two_sided: bool = True,
    *,
    null: ArrayLike | None = None,
) -> tuple[Any, Threshold]:
    """Set voxels of a z image below a threshold to 0.

    Parameters
    ----------
    stat_img : path or image, optional
        Of z; with `null` of any statistic. May be left out where the threshold does not depend on it.
    mask_img : path or image, optional
        Voxels that count; by default those that are finite and not 0.
    alpha : float
        Rate of errors, shared by both sides where `two_sided`.
    threshold : float, optional
        For ``height_control=None``; 3.0 by default.
    height_control : {"fpr", "fdr", "bonferroni", "fwe", None}
        False positives per voxel; Benjamini-Hochberg; family-wise error by Bonferroni; family-wise error by `null`, and
        by Bonferroni without it; or `threshold` as it is.
    cluster_threshold : int
        Clusters (of voxels that share a face) of fewer voxels are set to 0; this controls no rate of errors.
    two_sided : bool
        Keep both signs.
    null : array_like, optional
        Maxima of the statistic (of ``|statistic|`` where `two_sided`) over the image under rearrangements, the observed
        one included: ``null_max_stat`` of `voxloom.permutation_test`. For "fwe".

    Returns
    -------
    image : Nifti1Image or None
    threshold : Threshold
        A float; its ``height_control`` names the procedure.

    Raises
    ------
    InputError
        Unknown `height_control`, alpha outside (0, 1), a negative `threshold` or `cluster_threshold`, an image of
        several volumes, or one that is needed and not given.
    """
    require_control(height_control, alpha, threshold)
    if cluster_threshold < 0:
        raise InputError("cluster_threshold", f"is {cluster_threshold}.", "A number of voxels, 0 or more, is wanted.")
    z, masker = None, Masker(mask_img)
    if stat_img is not None:
        z = masker.one(stat_img)
    elif height_control not in ("fpr", None):
        raise InputError("stat_img", f"is needed for height_control={height_control!r}.", "Give the image.")
    cut = cut_of(z, alpha, threshold, height_control, two_sided, null)
    return None if z is None else masker.image(_above(z, cut, cluster_threshold, two_sided)), cut


def require_control(control: str | None, alpha: float, threshold: Any) -> None:
    """Raise `InputError` where this makes no threshold; warn of a threshold that is not used."""
    if control not in HEIGHT_CONTROL:
        raise InputError("height_control", f"{control!r} is unknown.", f"Accepted: {HEIGHT_CONTROL}.")
    if not 0 < alpha < 1:
        raise InputError("alpha", f"is {alpha}.", "A rate between 0 and 1 is wanted.")
    if threshold is not None and (not is_number(threshold) or threshold < 0):
        raise InputError("threshold", f"is {threshold!r}.", "A height of z, 0 or more, is wanted.")
    if threshold is not None and control is not None:
        what = f"threshold={threshold} is not used with height_control={control!r}."
        warnings.warn(what, VoxloomWarning, stacklevel=3)


def cut_of(
    z: xr.DataArray | None,
    alpha: float,
    given: float | None,
    control: str | None,
    two_sided: bool,
    null: ArrayLike | None = None,
) -> Threshold:
    """The threshold of a map, or where that does not matter of none."""
    if control is None:
        return Threshold.of(DEFAULT_THRESHOLD if given is None else float(given), "none")
    if control == "fwe" and null is not None:
        return Threshold.of(_of_null(np.asarray(null, dtype=np.float64), alpha), "permutation")
    one = xr.DataArray([0.0], dims="voxel") if z is None else z  # "fpr" does not look at it
    made = threshold_map(one, alpha=alpha, method=cast("Any", control), two_sided=two_sided)
    return Threshold.of(made.attrs["threshold"], made.attrs["height_control"])


def _of_null(null: NDArray[np.float64], alpha: float) -> float:
    """Least value of the null that at most a share alpha of it reaches; beyond all of them where there is none."""
    values = np.unique(null)
    reached = null.size - np.searchsorted(np.sort(null), values, side="left")
    good = values[reached <= alpha * null.size]
    return float(good[0]) if good.size else float(np.nextafter(values[-1], np.inf))


def _above(z: xr.DataArray, cut: float, size: int, two_sided: bool) -> xr.DataArray:
    """Values at or above the threshold in clusters of at least `size` voxels."""
    height = abs(z) if two_sided else z
    kept = z.where((height >= cut) | z.isnull(), 0.0)
    if size <= 1 or not bool((kept != 0).any()):
        return kept
    clusters = map_clusters(z, cut, connectivity=CONNECTIVITY, two_sided=two_sided)
    small = np.append(False, clusters.size < size)
    return kept.copy(data=np.where(small[clusters.label], 0.0, kept.to_numpy()))


def fdr_threshold(z_vals: ArrayLike, alpha: float) -> float:
    """Least z that Benjamini and Hochberg reject at a false discovery rate, one-sided; infinite where none is.

    Parameters
    ----------
    z_vals : array_like
    alpha : float

    Raises
    ------
    InputError
        alpha outside [0, 1].
    """
    if not 0 <= alpha <= 1:
        raise InputError("alpha", f"is {alpha}.", "A rate between 0 and 1 is wanted.")
    z = np.asarray(z_vals, dtype=np.float64).ravel()
    return fdr_height(z[np.isfinite(z)], alpha) if alpha > 0 else float(np.inf)


def cluster_level_inference(
    stat_img: Any,
    mask_img: Any = None,
    threshold: float | list[float] = 3.0,
    alpha: float = 0.05,
    verbose: int = 0,
    *,
    two_sided: bool = False,
) -> Any:
    """Share of voxels with signal, at least, in every cluster above thresholds (all-resolution inference).

    Parameters
    ----------
    stat_img : path or image
        Of z.
    mask_img : path or image, optional
    threshold : float or list of float
        z; where there are several, clusters of higher ones overwrite those of lower ones.
    alpha : float
    verbose : int
        Of no effect.
    two_sided : bool
        Clusters of both signs; nilearn looks at positive ones.

    Returns
    -------
    Nifti1Image
        Every voxel of a cluster carries its share; 0 outside of clusters.

    Raises
    ------
    InputError
        A threshold is negative, or alpha outside (0, 1).
    """
    heights = sorted(float(height) for height in np.atleast_1d(threshold))
    if heights[0] < 0:
        raise InputError("threshold", f"{heights[0]} is negative.", "Give heights of z of 0 or more.")
    masker = Masker(mask_img)
    z = masker.one(stat_img)
    found = xr.zeros_like(z, dtype=np.float64)
    for height in heights:
        share = true_discovery_proportion(
            z, threshold=height, alpha=alpha, connectivity=CONNECTIVITY, two_sided=two_sided
        )
        inside = (abs(z) if two_sided else z) >= height
        found = found.where(~inside, share)
    return masker.image(found)
