"""Residuals as independent innovations, for every noise model: white where the model is right.

For each model the sum of squares of the result is ``r'V^-1 r``, the whitened sum of squares of its fit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.kernels.ar import from_partial, partial_autocorrelations
from voxloom.kernels.segments import segments_of

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def whiten_ar1(R: FloatArray, parameters: FloatArray, scans: ArrayLike, *, stationary: bool = True) -> FloatArray:
    """Innovations of AR(1), across gaps too.

    Parameters
    ----------
    R : (T, V) array
    parameters : (1, V) array
        rho.
    scans : (T,) array_like of int
        Number of each row's scan (`kernels.segments`).
    stationary : bool
        False leaves first rows as they are (nilearn's whitening).

    Returns
    -------
    (T, V) array
        The variance of each row is that of the innovations.
    """
    rho, out = parameters[0], R.copy()
    steps = segments_of(scans, len(R), stationary=stationary).steps
    if stationary:
        out[steps == 0] *= np.sqrt(1 - rho**2)
    for d in np.unique(steps[steps > 0]):
        rows = np.flatnonzero(steps == d)
        out[rows] = (R[rows] - rho**d * R[rows - 1]) * np.sqrt((1 - rho**2) / (1 - rho ** (2 * d)))
    return out


def whiten_ar(R: FloatArray, phi: FloatArray, scans: ArrayLike) -> FloatArray:
    """Innovations (T, V) of AR(p) with phi (p, V), every stretch without a gap a series of its own."""
    order, rows, out = len(phi), np.arange(len(R)), np.empty_like(R)
    starts = segments_of(scans, len(R), stationary=True).starts
    before = rows - starts[np.searchsorted(starts, rows, side="right") - 1]
    partial = partial_autocorrelations(phi.T)
    for k in range(order + 1):  # row k of a stretch knows k rows before it, all later ones know p
        here = np.flatnonzero(before == k if k < order else before >= order)
        weights = from_partial(partial[:, :k])
        out[here] = R[here] - sum(weights[:, j] * R[here - 1 - j] for j in range(k))
        out[here] *= np.sqrt(np.prod(1.0 - partial[:, k:] ** 2, axis=1))
    return out


def whiten_arma11(R: FloatArray, parameters: FloatArray, scans: ArrayLike) -> FloatArray:
    """Innovations (T, V) of ARMA(1, 1) with a and b (2, V): the recursion of `kernels.arma`, voxels side by side."""
    (a, b), out = parameters, np.empty_like(R)
    rest = 1 - a**2
    x = variance = np.ones_like(a)
    for t, step in enumerate(segments_of(scans, len(R), stationary=True).steps):
        if step == 0:
            x, variance = R[t], (1 + 2 * a * b + b**2) / rest
        else:
            c = a ** (step - 1.0)
            weight = c * b / variance
            x = R[t] - c * a * R[t - 1] - weight * x
            variance = 1 + (a + b) ** 2 * (1 - c**2) / rest + c**2 * b**2 - c * b * weight
        out[t] = x / np.sqrt(variance)
    return out
