"""A brain mask from the images themselves, for runs that come without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: With this share of exact zeros a volume has been masked already.
ZERO_SHARE = 0.05
N_BINS = 256


def otsu_threshold(values: NDArray[np.floating]) -> float:
    """Threshold that maximises the variance between the two classes it makes.

    Parameters
    ----------
    values : (N,) finite values

    Returns
    -------
    float
        Upper edge of the histogram bin that ends the lower class. Source: Otsu 1979.
    """
    counts, edges = np.histogram(values, bins=N_BINS)
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = below[-1] - below
    sums = np.cumsum(counts * centres)
    with np.errstate(invalid="ignore", divide="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
        between = below * above * gap**2
    return float(edges[1 + int(np.nanargmax(between[:-1]))])


def compute_brain_mask(volume: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Mask of the brain in a mean volume.

    Parameters
    ----------
    volume : (X, Y, Z) mean of a few volumes

    Returns
    -------
    (X, Y, Z) bool
        A volume whose background is exactly zero has been masked before: its non-zero voxels. Otherwise the
        largest component above Otsu's threshold after a binary opening, holes filled.
    """
    finite: NDArray[np.bool_] = np.isfinite(volume)
    if not finite.any():
        return finite
    zero: NDArray[np.bool_] = ~finite | (volume == 0)
    if zero.mean() >= ZERO_SHARE or np.ptp(volume[finite]) == 0:
        return ~zero
    bright = finite & (volume > otsu_threshold(volume[finite]))
    opened = ndimage.binary_opening(bright)
    labels, n = ndimage.label(opened if opened.any() else bright)
    if n > 1:
        labels = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
    return ndimage.binary_fill_holes(labels > 0).astype(bool)
