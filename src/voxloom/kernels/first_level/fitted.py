"""What a fit says of the data it was made from, in the units that were fitted; never whitened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.noise.lag_sums import block_voxels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def as_fitted(Y: NDArray[Any], *, percent: bool) -> FloatArray:
    """Y (T, V) as float64, or ``100 (Y / mean - 1)``: NaN where the mean is not positive."""
    signal = np.asarray(Y, dtype=np.float64)
    if not percent:
        return signal
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mean = signal.mean(axis=0)
        return np.asarray((signal - mean) * np.where(mean > 0, 100.0 / mean, np.nan))


def residuals(X: FloatArray, Y: NDArray[Any], beta: FloatArray, *, percent: bool) -> FloatArray:
    """``Y - X beta`` (T, V); NaN where beta is."""
    return as_fitted(Y, percent=percent) - X @ beta


def r_squared(X: FloatArray, Y: NDArray[Any], beta: FloatArray, *, percent: bool) -> FloatArray:
    """``1 - |Y - X beta|^2 / |Y - mean|^2`` (V,); NaN where beta is."""
    found = np.empty(Y.shape[1])
    for voxels in sub_blocks(Y.shape[1], block_voxels(len(Y))):
        signal = np.array(Y[:, voxels].T, dtype=np.float64, order="C")  # a voxel's times side by side: half the time
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            mean = signal.mean(axis=1, keepdims=True)
            signal -= mean
            total = np.einsum("vt,vt->v", signal, signal)
            signal -= _beyond_mean(X, beta[:, voxels], mean, percent)
            found[voxels] = 1.0 - np.einsum("vt,vt->v", signal, signal) / total
    return found


def _beyond_mean(X: FloatArray, beta: FloatArray, mean: FloatArray, percent: bool) -> FloatArray:
    """What a fit predicts less the mean (V, T), in units of the data; NaN where percent of the mean have no meaning."""
    if percent:
        return np.asarray((beta.T * np.where(mean > 0, mean / 100, np.nan)) @ X.T)
    return np.asarray(beta.T @ X.T - mean)


def tsnr(Y: NDArray[Any]) -> FloatArray:
    """Mean over standard deviation (divisor T) of every column of Y (T, V); NaN where nothing varies."""
    found = np.empty(Y.shape[1])
    for voxels in sub_blocks(Y.shape[1]):
        signal = Y[:, voxels].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            found[voxels] = np.where(np.ptp(signal, axis=0) > 0, signal.mean(axis=0) / signal.std(axis=0), np.nan)
    return found
