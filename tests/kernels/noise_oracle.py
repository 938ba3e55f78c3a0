"""Stationary noise written down as full covariance matrices: the oracle of AR(p) and ARMA(1, 1)."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter


def weights_of(ar, ma, n=2000):
    """Moving-average form of the process: response to one innovation."""
    return lfilter([1.0, *ma], [1.0, *(-np.asarray(ar))], np.eye(1, n)[0])


def covariance(ar, ma, scans):
    """Covariance for innovations of variance 1, observed at these scans."""
    psi = weights_of(ar, ma)
    gamma = np.array([psi[: len(psi) - k] @ psi[k:] for k in range(400)] + [0.0])
    return gamma[np.minimum(np.abs(np.subtract.outer(scans, scans)), 400)]


def noise(rng, ar, ma, scans, n):
    """Stationary noise (T, n)."""
    return np.linalg.cholesky(covariance(ar, ma, scans)) @ rng.standard_normal((len(scans), n))


def log_reml(X, y, V):
    """Restricted log likelihood, sigma2 profiled out, up to a constant."""
    D = np.linalg.inv(V)
    W = X.T @ D @ X
    r = y - X @ np.linalg.solve(W, X.T @ D @ y)
    dof = len(y) - X.shape[1]
    return (np.linalg.slogdet(D)[1] - np.linalg.slogdet(W)[1] - dof * np.log(r @ D @ r)) / 2


def derivatives(Q, theta, V, h=1e-5):
    """W, A, B and traces of `kernels.first_level.dof.Derivatives` from V(theta), by central differences."""
    theta = np.asarray(theta, dtype=float)

    def D(at):
        return np.linalg.inv(V(at))

    slopes = [(D(theta + h * e) - D(theta - h * e)) / (2 * h) for e in np.eye(len(theta))]
    C = V(theta)
    return (
        Q.T @ D(theta) @ Q,
        np.array([Q.T @ S @ Q for S in slopes]),
        np.array([[Q.T @ S @ C @ U @ Q for U in slopes] for S in slopes]),
        np.array([np.trace(C @ S) for S in slopes]),
        np.array([[np.trace(C @ S @ C @ U) for U in slopes] for S in slopes]),
    )
