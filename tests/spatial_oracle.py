"""Clusters and TFCE the slow way, by `scipy.ndimage.label` at one height after the other."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

AXES_APART = {6: 1, 18: 2, 26: 3}


def labels(volume, threshold, connectivity):
    """Labels of the voxels of at least the threshold (NaN: none), and voxels of each label (0 for label 0)."""
    structure = ndimage.generate_binary_structure(3, AXES_APART[connectivity])
    label, _ = ndimage.label(volume >= threshold, structure)
    extent = np.bincount(label.ravel())
    extent[0] = 0
    return label, extent


def tfce(volume, E, H, connectivity):
    """Integral over heights: extents change at the values of the map alone."""
    score, low = np.zeros(volume.shape), 0.0
    for high in np.unique(volume[volume > 0]):
        label, extent = labels(volume, high, connectivity)
        power = np.where(extent, extent.astype(float) ** E, 0)
        score += power[label] * (high ** (H + 1) - low ** (H + 1)) / (H + 1)
        low = high
    return score


def stepped_tfce(volume, E, H, connectivity, steps, top):
    """Right Riemann sum over `steps` heights up to `top`."""
    score = np.zeros(volume.shape)
    for height in [top * k / steps for k in range(1, steps)] + [top]:
        label, extent = labels(volume, height, connectivity)
        score += np.where(extent, extent.astype(float) ** E, 0)[label] * height**H * top / steps
    return score


def cluster_values(volume, threshold, connectivity):
    """Size and mass of every cluster."""
    label, extent = labels(volume, threshold, connectivity)
    inside = label > 0
    return extent[1:], np.bincount(label[inside], volume[inside], minlength=len(extent))[1:]
