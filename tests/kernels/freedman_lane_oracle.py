"""Permutation tests the slow way: every rearrangement refitted in full, one after the other."""

from __future__ import annotations

import numpy as np

#: Far from both the rounding and the units of the designs under test.
RCOND = 1e-10


def t_of(M: np.ndarray, C: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """T of the contrast row C at every column of Y, by the pseudo-inverse."""
    inverse = np.linalg.pinv(M, rcond=RCOND)
    beta = inverse @ Y
    dof = len(M) - np.linalg.matrix_rank(M, rtol=RCOND)
    sigma2 = ((Y - M @ beta) ** 2).sum(axis=0) / dof
    return (C @ beta)[0] / np.sqrt(sigma2 * ((C @ inverse) ** 2).sum())


def nuisance(M: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Hat matrix of the columns M spans under C b = 0."""
    _, s, Vt = np.linalg.svd(C)
    Z = M @ Vt[int((s > 1e-12).sum()) :].T
    return Z @ np.linalg.pinv(Z, rcond=RCOND)


def refitted(M: np.ndarray, C: np.ndarray, Y: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """T (P, V) for ``Y* = P' Rz Y + Hz Y``, with P of each row of indices."""
    H = nuisance(M, C)
    fitted, residual = H @ Y, Y - H @ Y
    rows = []
    for r in indices:
        shuffled = np.empty_like(residual)
        shuffled[np.abs(r) - 1] = np.sign(r)[:, None] * residual
        rows.append(t_of(M, C, shuffled + fitted))
    return np.stack(rows)
