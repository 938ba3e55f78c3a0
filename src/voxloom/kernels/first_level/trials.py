"""Least squares of single trials as weights over volumes: estimates of all trials and voxels are one product.

An estimate is linear in the data, ``b_iv = w_i'y_v``, and w_i depends on the design alone. So no model is ever
refitted: what distinguishes the designs of n trials costs n small factorisations that know no voxel, and the data
cost ``2 n T V`` operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.kernels.linalg import RANK_RTOL, SUB_BLOCK, is_estimable, orth, reduce_design, sub_blocks
from voxloom.kernels.noise.lag_sums import BLOCK_BYTES, centre_and_square

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Start of the one segment of a series of which no lagged product is wanted.
_WHOLE = np.zeros(1, dtype=np.int64)


def lsa_weights(trials: FloatArray, nuisance: FloatArray) -> FloatArray:
    """Weights of least squares, all trials in one design (Rissman 2004).

    Parameters
    ----------
    trials : (n, T, B) array
        Responses of every trial, of which the first is the one that is estimated.
    nuisance : (T, K) array

    Returns
    -------
    (n, T) array
        NaN for a trial that the design cannot tell from the others and the nuisance.
    """
    n, T, B = trials.shape
    X = np.hstack([trials.transpose(1, 0, 2).reshape(T, n * B), nuisance])
    return _weights(X, np.arange(n) * B)


def lss_weights(trials: FloatArray, summands: FloatArray, condition: NDArray[Any], nuisance: FloatArray) -> FloatArray:
    """Weights of least squares, a design for each trial (Mumford 2012, Turner 2012).

    The design of trial i holds its responses, those of the other trials of its condition summed, those of every other
    condition summed, and the nuisance. By the theorem of Frisch, Waugh and Lovell the last two are taken out of all
    trials of a condition at once, which leaves 2 B columns to solve.

    Parameters
    ----------
    trials : (n, T, B) array
        As for `lsa_weights`.
    summands : (n, T, B) array
        The same as other trials add them up: before derivatives were made orthogonal, which a sum is not then.
    condition : (n,) array
        Code of each trial's condition; the same for all is Turner's LS-1.
    nuisance : (T, K) array

    Returns
    -------
    (n, T) array
        NaN for a trial that its design cannot tell from the rest.
    """
    totals = {code: summands[condition == code].sum(axis=0) for code in np.unique(condition)}
    weights = np.empty(trials.shape[:2])
    for code, total in totals.items():
        rest = [other for key, other in totals.items() if key != code]
        Q, members = orth(np.hstack([*rest, nuisance])), np.flatnonzero(condition == code)
        own, others = _without(Q, trials[members]), _without(Q, total - summands[members])
        for i, x, o in zip(members, own, others):
            weights[i] = _weights(np.hstack([x, o]), np.zeros(1, dtype=np.int64))[0]
    return weights


def _weights(X: FloatArray, columns: NDArray[np.int64]) -> FloatArray:
    """Rows of the pseudoinverse of X (T, K) that estimate these columns; NaN where that cannot be done."""
    basis = reduce_design(X)
    weights = basis.back[columns] @ basis.Q.T
    weights[~is_estimable(np.eye(X.shape[1])[columns], basis)] = np.nan
    return np.asarray(weights)


def _without(Q: FloatArray, X: FloatArray) -> FloatArray:
    """X (n, T, B) without the orthonormal columns of Q; 0 where nothing but rounding is left."""
    length, rest = np.linalg.norm(X, axis=1, keepdims=True), X
    for _ in range(2):  # once leaves 1e-16 of X, which is much beside a small rest
        rest = rest - Q @ (Q.T @ rest)
    return np.asarray(np.where(np.linalg.norm(rest, axis=1, keepdims=True) > RANK_RTOL * length, rest, 0.0))


@np.errstate(over="ignore", invalid="ignore")  # voxels that are not finite, or beyond 1e154
def weighted_sums(weights: FloatArray, Y: NDArray[Any], *, percent: bool = False) -> FloatArray:
    """``weights @ Y`` with the NaN rules of a fit.

    Parameters
    ----------
    weights : (n, T) array
        Rows orthogonal to the constant.
    Y : (T, V) array
        Signal of any real dtype. A voxel that is constant or holds a value that is not finite gives NaN.
    percent : bool
        Of ``100 (y / mean - 1)`` in place of y; NaN where the mean is not positive.

    Returns
    -------
    (n, V) array
        Column v depends on Y[:, v] alone.
    """
    T, V = Y.shape
    sums = np.empty((len(weights), V))
    for voxels in sub_blocks(V, int(np.clip(BLOCK_BYTES // (8 * T), 16, SUB_BLOCK))):
        block = np.empty((voxels.stop - voxels.start, T))
        block[...] = Y[:, voxels].T
        centre_and_square(block, _WHOLE, True, percent)  # less to cancel; rows of weights do not see the mean
        np.matmul(weights, block.T, out=sums[:, voxels])
    return sums
