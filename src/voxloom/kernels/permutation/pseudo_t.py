"""Pseudo-t: the effect over the root of a variance that is smoothed over neighbouring voxels (Holmes et al. 1996).

With few maps the variance of a voxel is noisy, and a small one makes a large t. Its average over a neighbourhood has
more degrees of freedom; how many is not known, so there is no parametric p or z, and only permutation can tell.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.permutation.residuals import residuals
from voxloom.kernels.permutation.stat_maps import share_maps
from voxloom.kernels.volumes.smooth import smoother_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.nuisance import Projections
    from voxloom.kernels.permutation.rearrange import IndexArray

    FloatArray = NDArray[np.float64]


class VarianceSmoothing(NamedTuple):
    """How far variances are smoothed, and where the voxels lie.

    Attributes
    ----------
    fwhm : float
        Full width at half maximum of the Gaussian, mm.
    voxel : (V,) array of int
        Flat C-order indices.
    shape : 3 int
        Of the volume.
    voxel_sizes : 3 floats
        In mm.
    """

    fwhm: float
    voxel: NDArray[np.int64]
    shape: Sequence[int]
    voxel_sizes: Sequence[float]


def pseudo_t_maps(
    Y: NDArray[np.floating], indices: IndexArray, model: Projections, smoothing: VarianceSmoothing
) -> FloatArray:
    """Pseudo-t of every voxel under each rearrangement, (P, V); NaN where a voxel cannot be tested.

    Smoothing is normalised within the voxels that can be tested.

    Parameters
    ----------
    Y : (n, V) array
        Maps, all voxels at once.
    indices : (P, m) array of int32
        Rearrangements, 1-based and signed.
    model : Projections
        With one effect.
    smoothing : VarianceSmoothing
    """
    stat, error = share_maps(Y, indices, model)
    tested = np.flatnonzero(~np.isnan(stat[0]))
    scale = _lengths(Y[:, tested], model)
    smoothed = smoother_within(smoothing.voxel[tested], smoothing.shape, smoothing.fwhm, smoothing.voxel_sizes)
    for t, left in zip(stat, error):  # one by one: the two may be most of the memory of a task
        t[tested] *= scale / np.sqrt(smoothed(left[tested] * (scale**2 / model.dof)))
    return stat


def _lengths(Y: NDArray[np.floating], model: Projections) -> FloatArray:
    """Norm (V,) of the data that are rearranged."""
    unit, _ = residuals(Y, model._replace(basis=None))
    return np.asarray((unit * Y.T).sum(axis=1))
