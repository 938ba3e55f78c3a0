"""Residuals of least squares at unit length, for noise models that look at them more than once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE
from voxloom.kernels.noise.lag_sums import centred_block, give_back

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign

    FloatArray = NDArray[np.float64]


class Residuals(NamedTuple):
    """Least squares of n voxels.

    Attributes
    ----------
    gamma : (n, r) array
        Coefficients in the basis Q; NaN where the voxel cannot be fitted.
    unit : (n, T) array
        Residuals over their length; 0 for lost voxels.
    length : (n,) array
    lost : (n,) array of bool
        Not finite, constant, or nothing but rounding left.
    total : (n,) array
        Squares of the data about their mean.
    """

    gamma: FloatArray
    unit: FloatArray
    length: FloatArray
    lost: NDArray[np.bool_]
    total: FloatArray


@np.errstate(over="ignore", invalid="ignore")  # voxels that are not finite, or beyond 1e154
def ols_residuals(design: LagDesign, Y: NDArray[np.generic], *, percent: bool = False) -> Residuals:
    """Fit the columns of Y (T, n), one sub-block; parameters and NaN rules as `lag_sums`."""
    block, mean, _, total, whole = centred_block(design, Y, percent)
    gamma = np.zeros((len(block), design.rank))
    for _ in range(2):  # once leaves 1e-16 of the signal, which is much beside the residuals of a thin voxel
        more = block @ design.Q
        block -= more @ design.Q.T
        gamma += more
    if design.ones is not None and not percent:
        give_back(gamma, mean, design.ones)
    length = np.sqrt((block**2).sum(axis=1))
    finite = np.isfinite(length)
    gamma[~finite] = np.nan
    lost = ~finite | (length <= NO_VARIANCE * np.sqrt(whole))
    block[lost] = 0.0
    block /= np.where(lost, 1.0, length)[:, None]
    return Residuals(gamma, block, length, lost, total)
