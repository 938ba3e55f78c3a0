"""Permutation tests the slow way: every rearrangement refitted in full, one after the other."""

from __future__ import annotations

import numpy as np

from voxloom.kernels.permutation.nuisance import NUISANCE, Projections
from voxloom.kernels.permutation.partition import split

#: Far from both the rounding and the units of the designs under test.
RCOND = 1e-10


def projections(M: np.ndarray, C: np.ndarray, scheme: str, nuisance: str = "freedman-lane") -> Projections:
    """Projections of a test whose maps are all exchangeable or flipped one by one."""
    return NUISANCE[nuisance](split(M, C, np.zeros(len(M), dtype=int) if scheme == "permute" else None))


def stat_of(M: np.ndarray, C: np.ndarray, Y: np.ndarray, expected: np.ndarray | float = 0.0) -> np.ndarray:
    """Test C b = expected at every column of Y: t of one row of C, F of several, by the pseudo-inverse."""
    inverse = np.linalg.pinv(M, rcond=RCOND)
    beta = inverse @ Y
    dof = len(M) - np.linalg.matrix_rank(M, rtol=RCOND)
    sigma2 = ((Y - M @ beta) ** 2).sum(axis=0) / dof
    effect, cov = C @ beta - expected, C @ inverse @ inverse.T @ C.T
    if len(C) == 1:
        return effect[0] / np.sqrt(sigma2 * cov[0, 0])
    return (effect * np.linalg.solve(cov, effect)).sum(axis=0) / len(C) / sigma2


def hat(X: np.ndarray) -> np.ndarray:
    return X @ np.linalg.pinv(X, rcond=RCOND)


def nuisance(M: np.ndarray, C: np.ndarray) -> np.ndarray:
    """Columns that M spans under C b = 0."""
    _, s, Vt = np.linalg.svd(C)
    return M @ Vt[int((s > 1e-12).sum()) :].T


def moved(r: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """P' Y: value i goes to |r[i]|, with its sign."""
    out = np.empty_like(Y)
    out[np.abs(r) - 1] = np.sign(r)[:, None] * Y
    return out


def rearranged(r: np.ndarray, X: np.ndarray) -> np.ndarray:
    """P X, the other way round."""
    return np.sign(r)[:, None] * X[np.abs(r) - 1]


def _freedman_lane(M, C, Y, r):
    H = hat(nuisance(M, C))
    return stat_of(M, C, moved(r, Y - H @ Y) + H @ Y)


def _ter_braak(M, C, Y, r):
    H = hat(M)
    return stat_of(M, C, moved(r, Y - H @ Y) + H @ Y, C @ np.linalg.pinv(M, rcond=RCOND) @ Y)


def _manly(M, C, Y, r):
    return stat_of(M, C, moved(r, Y))


def _dekker(M, C, Y, r):
    X, Z = M @ np.linalg.pinv(C), nuisance(M, C)
    XZ = np.c_[rearranged(r, X - hat(Z) @ X), Z]
    return stat_of(XZ, np.eye(XZ.shape[1])[: len(C)], Y)


def _huh_jhun(M, C, Y, r):
    Z = nuisance(M, C)
    Q = projections(M, C, "flip", "huh-jhun").basis
    np.testing.assert_allclose(Q @ Q.T, np.eye(len(M)) - hat(Z), atol=1e-9)
    np.testing.assert_allclose(Q.T @ Q, np.eye(Q.shape[1]), atol=1e-9)
    X = rearranged(r, Q.T @ M @ np.linalg.pinv(C))
    return stat_of(X, np.eye(len(C)), Q.T @ Y)


def welch_of(M, C, Y, group) -> tuple[np.ndarray, np.ndarray]:
    """v of one row of C or G of several, and its degrees of freedom, voxel by voxel with W written out."""
    R, r, found = np.eye(len(M)) - hat(M), len(C), []
    for y in Y.T:
        b, e = np.linalg.pinv(M, rcond=RCOND) @ y, R @ y
        W = np.diag([np.diag(R)[group == g].sum() / (e[group == g] @ e[group == g]) for g in group])
        effect, cov = C @ b, C @ np.linalg.pinv(M.T @ W @ M, rcond=RCOND) @ C.T
        A = sum(
            (1 - np.trace(W[group == g][:, group == g]) / np.trace(W)) ** 2 / np.diag(R)[group == g].sum()
            for g in np.unique(group)
        )
        G = effect @ np.linalg.solve(cov, effect) / r / (1 + 2 * (r - 1) / (r * (r + 2)) * A)
        found.append((np.sign(effect[0]) * np.sqrt(G) if r == 1 else G, r * (r + 2) / (3 * A)))
    stat, dof = np.array(found).T
    return stat, dof


def refitted_welch(M, C, Y, indices, method, group) -> tuple[np.ndarray, np.ndarray]:
    """The same (P, V) under each row of indices, groups staying with the rows of the design."""
    H = {"freedman-lane": hat(nuisance(M, C)), "ter-braak": hat(M), "manly": np.zeros((len(M), len(M)))}[method]
    found = []
    for p, r in enumerate(indices):
        if method == "ter-braak" and p:
            shuffled = moved(r, Y - H @ Y)  # C b* - C b: the fit added back gives C b
            found.append(welch_of(M, C, shuffled, group))
        else:
            found.append(welch_of(M, C, moved(r, Y - H @ Y) + H @ Y if p else Y, group))
    stat, dof = np.array(found).transpose(1, 0, 2)
    return stat, dof


METHODS = {
    "freedman-lane": _freedman_lane,
    "ter-braak": _ter_braak,
    "manly": _manly,
    "dekker": _dekker,
    "huh-jhun": _huh_jhun,
}


def refitted(M: np.ndarray, C: np.ndarray, Y: np.ndarray, indices: np.ndarray, method="freedman-lane") -> np.ndarray:
    """t or F (P, V) of every voxel, refitted under each row of indices.

    Number 0 is the data as they are. To ter Braak that is a case of its own: as a random draw, the same order moves
    nothing away from the fit, and C b* - C b is 0.
    """
    found = np.stack([METHODS[method](M, C, Y, r) for r in indices])
    if method == "ter-braak":
        found[0] = stat_of(M, C, Y)
    return found


def refitted_partial(M, C, Y, indices, method="freedman-lane") -> tuple[np.ndarray, np.ndarray]:
    """t or F (P, V) and its degrees of freedom of every voxel alone, of the maps that it has.

    Map i comes to row |r[i]| of the design, whoever that is; NaN where the rows that have come do not tell C b.
    """
    Z, X = nuisance(M, C), M @ np.linalg.pinv(C)
    effect = X - hat(Z) @ X
    stat, dof = np.full((2, len(indices), Y.shape[1]), np.nan)
    for v, y in enumerate(Y.T):
        there = np.isfinite(y)
        y = y[there]
        without = {"freedman-lane": Z, "dekker": Z, "ter-braak": M, "manly": Z[:, :0]}[method][there]
        for p, r in enumerate(indices):
            e = y if method == "ter-braak" and p == 0 else y - hat(without) @ y
            D, K = rearranged(r, M)[there], C
            if method == "dekker":
                D = np.c_[rearranged(r, effect)[there], Z[there]]
                K = np.eye(len(C), D.shape[1])
            told = np.linalg.matrix_rank(np.r_[D, K], rtol=RCOND) == np.linalg.matrix_rank(D, rtol=RCOND)
            left = len(D) - np.linalg.matrix_rank(D, rtol=RCOND)
            if told and left > 0:
                stat[p, v], dof[p, v] = stat_of(D, K, e[:, None])[0], left
    return stat, dof
