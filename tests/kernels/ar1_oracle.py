"""AR(1) written down in full T x T matrices: the oracle of the first-level kernels."""

from __future__ import annotations

import numpy as np

from voxloom.kernels.noise.segments import FAR


def scans_of(starts, T):
    """Numbers of T scans in series that start at these rows and have nothing to do with each other."""
    scans = np.arange(T)
    for start in starts[1:]:
        scans[start:] += FAR
    return scans


def bounds(scans):
    """First row of each stretch without a gap, and the row after its last."""
    gaps = np.flatnonzero(np.diff(scans) > 1) + 1
    return list(zip([0, *gaps], [*gaps, len(scans)]))


def covariance(rho, scans):
    """Stationary AR(1) of unit innovation variance, observed at these scans."""
    return rho ** np.abs(np.subtract.outer(scans, scans)).astype(float) / (1 - rho**2)


def whitening_from_zero(rho, scans):
    """nilearn's whitening matrix: first rows of stretches as they are."""
    W = np.eye(len(scans))
    for a, b in bounds(scans):
        for t in range(a + 1, b):
            W[t, t - 1] = -rho
    return W


def log_reml(X, y, rho, scans):
    """Restricted log likelihood, sigma2 profiled out, up to a constant."""
    D = np.linalg.inv(covariance(rho, scans))
    W = X.T @ D @ X
    r = y - X @ np.linalg.solve(W, X.T @ D @ y)
    dof = len(y) - X.shape[1]
    return (np.linalg.slogdet(D)[1] - np.linalg.slogdet(W)[1] - dof * np.log(r @ D @ r)) / 2


def noise(rng, rho, T, V):
    """Stationary AR(1) noise (T, V); rho a number or (V,)."""
    e = np.empty((T, V))
    e[0] = rng.standard_normal(V) / np.sqrt(1 - np.square(rho))
    for t in range(1, T):
        e[t] = rho * e[t - 1] + rng.standard_normal(V)
    return e


def confounded_design(seed=0, T=150, walks=24):
    """Two block conditions, six cosines, random-walk confounds, and a constant."""
    rng = np.random.default_rng(seed)
    t = 2.0 * np.arange(T)
    response = (t / 5) ** 5 * np.exp(-t)
    blocks = [np.convolve((t + shift) % 60 < 15, response[:16])[:T] for shift in (0, 30)]
    cosines = np.cos(np.pi * np.outer(np.arange(T) + 0.5, np.arange(1, 7)) / T)
    return np.column_stack([*blocks, cosines, rng.standard_normal((T, walks)).cumsum(axis=0), np.ones(T)])
