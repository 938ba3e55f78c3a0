"""Degrees of freedom and small-sample covariance of contrasts where the noise has been estimated.

Take AR(1), whose rho is estimated, so t = effect / sqrt(variance) has neither T - r degrees of freedom nor, quite, that
variance. Satterthwaite (1946) matches the first two moments of the variance to a scaled chi-square, through
the expected REML information I of theta = (sigma2, rho); Kenward and Roger (1997, Biometrics 53:983) also
widen the covariance of beta for what the plug-in of rho loses, and extend the match to F with several rows.
Both depend on the design, the contrast and rho, not on the data: a table over the grid of rho, looked up per
voxel.

Their covariance is taken to first order: without R_ij, the second derivatives of the covariance, which alone
depend on how theta is parametrised and which explode as rho nears 1. False positives at p < .001 over nominal
in the null simulation of docs/explanation/statistics.md (K 33, T 150) at rho 0.2 / 0.6 / 0.8: 0.8 / 1.0 / 1.1 without
R_ij, 1.0 / 1.2 / 1.4 with it, 0.9 / 1.1 / 1.4 by the degrees of freedom alone, 1.4 / 2.0 / 2.7 with neither, 6 / 17 /
37 by nilearn's rule (300,000 voxels, three contrasts, standard error 0.03).

With ``V = D^-1``, sigma2 = 1 and ``dD = dD/drho = 2 rho I - N - sum_g (rho^2 f_g)' E_g`` (`kernels.noise.segments`):
``A = Q'dD Q``, ``B = Q'dD V dD Q``, ``Phi = W^-1``; no T x T matrix is formed. Other noise models have several
parameters in place of rho (`kernels.noise.ar_table`, `kernels.noise.arma_table`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solveh_banded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign
    from voxloom.kernels.noise.segments import Segments

    FloatArray = NDArray[np.float64]


class SmallSample(NamedTuple):
    """What contrasts of a design need to know at one value of the m noise parameters, in the basis Q, for sigma2 = 1.

    Attributes
    ----------
    phi : (r, r) array
        Covariance of gamma with the parameters known.
    adjusted : (r, r) array
        Kenward and Roger's covariance of gamma, to first order; never below `phi`.
    slopes : (m, r, r) array
        Derivatives of W.
    theta : (m + 1, m + 1) array
        Asymptotic covariance of the REML estimates (sigma2, parameters).
    """

    phi: FloatArray
    adjusted: FloatArray
    slopes: FloatArray
    theta: FloatArray


class Derivatives(NamedTuple):
    """The precision D of the noise and its derivatives dD_i, as the design sees them.

    Attributes
    ----------
    W : (r, r) array
        ``Q'DQ``.
    A : (m, r, r) array
        ``Q'dD_i Q``.
    B : (m, m, r, r) array
        ``Q'dD_i V dD_j Q``.
    first : (m,) array
        ``tr(V dD_i)``.
    second : (m, m) array
        ``tr(V dD_i V dD_j)``.
    """

    W: FloatArray
    A: FloatArray
    B: FloatArray
    first: FloatArray
    second: FloatArray


def small_sample(of: Derivatives, dof: int, prior: float = 0.0) -> SmallSample:
    """Covariances of gamma and of the parameters, from the expected REML information.

    Parameters
    ----------
    of : Derivatives
    dof : int
        Rows minus rank.
    prior : float
        Added to the information of each noise parameter, for models that cannot tell theirs apart everywhere.
    """
    m = len(of.A)
    phi = cho_solve(cho_factor(of.W), np.eye(len(of.W)))
    phi_A = phi @ of.A
    information = np.empty((m + 1, m + 1))
    information[0, 0] = dof / 2
    information[0, 1:] = information[1:, 0] = (np.trace(phi_A, axis1=1, axis2=2) - of.first) / 2
    both = np.einsum("iab,jba->ij", phi_A, phi_A)
    information[1:, 1:] = (of.second - 2 * np.einsum("ab,ijba->ij", phi, of.B) + both) / 2 + prior * np.eye(m)
    theta = np.asarray(np.linalg.inv(information), dtype=np.float64)
    # sum_ij theta_ij (Q_ij - P_i Phi P_j) of Kenward and Roger: all terms with sigma2 cancel
    weighed = np.einsum("ij,iab->jab", theta[1:, 1:], of.A)
    lost = np.einsum("ij,ijab->ab", theta[1:, 1:], of.B) - np.matmul(weighed, phi_A).sum(axis=0)
    return SmallSample(phi, phi + phi @ (lost + lost.T) @ phi, of.A, theta)


def ar1_derivatives(design: LagDesign, rho: float) -> Derivatives:
    """`Derivatives` of stationary AR(1) at rho."""
    eye, lag, segments = np.eye(design.rank), np.diag(design.eigenvalues), design.segments
    b, db, _ = segments.edges.slopes(rho)
    Z, kind = design.ends, design.kind
    at_edges = db[segments.edges.kind, None] * segments.edges.across(design.Q)
    dD_Q = 2 * rho * design.Q - design.NQ - segments.edges.back(at_edges, segments.n_rows)
    first, second = _traces(segments, rho)
    return Derivatives(
        W=(1 + rho**2) * eye - rho * lag - Z.T * b[kind] @ Z,
        A=(2 * rho * eye - lag - Z.T * db[kind] @ Z)[None],
        B=(dD_Q.T @ solve_precision(segments, rho, dD_Q))[None, None],
        first=np.array([first]),
        second=np.array([[second]]),
    )


def _traces(segments: Segments, rho: float) -> tuple[float, float]:
    """``tr(V dD)`` and ``tr(V dD V dD)``, the derivatives of ``log|D|``: of the second, ``tr(V d2D)`` is the rest."""
    S, rest, edges, d = segments.starts.size, 1 - rho**2, segments.edges, segments.distances
    x = rho ** (2 * d)
    first = -2 * rho * S / rest + np.sum(2 * d * rho ** (2 * d - 1) / (1 - x))
    curvature = -2 * S * (1 + rho**2) / rest**2 + np.sum(2 * d * rho ** (2 * d - 2) * (2 * d - 1 + x) / (1 - x) ** 2)
    # rows have variance 1 / (1 - rho^2), an edge (1 + s rho^d) times that
    of_kind = edges.slopes(rho)[2] * (1 + edges.sign * rho**edges.distance)
    at_edges = np.sum(edges.weights**2, axis=0) @ of_kind[edges.kind]
    return float(first), float((2 * segments.n_rows - at_edges) / rest - curvature)


def solve_precision(segments: Segments, rho: float, F: FloatArray) -> FloatArray:
    """``D(rho)^-1 F`` for F (T, n), by a banded Cholesky factorisation."""
    edges = segments.edges
    (i, j), (at_i, at_j) = edges.rows, edges.weights
    b = edges.slopes(rho)[0][edges.kind]
    bands = np.empty((2, segments.n_rows))
    bands[0], bands[1] = 1 + rho**2, -rho
    bands[1, segments.starts[1:] - 1] = 0.0
    np.subtract.at(bands[0], i, b * at_i**2)
    np.subtract.at(bands[0], j, b * at_j**2)
    np.subtract.at(bands[1], i, b * at_i * at_j)
    return np.asarray(solveh_banded(bands, F, lower=True))


def kenward_roger(pieces: SmallSample, C: FloatArray) -> tuple[FloatArray, float, float]:
    """Covariance, denominator degrees of freedom and scale of F for the contrast rows C (q, r) of gamma.

    ``scale * (C gamma)' cov^-1 (C gamma) / (q sigma2)`` is about F(q, dof). For q = 1 the scale is 1 and dof
    is Satterthwaite's ``2 h^2 / (g' I^-1 g)`` with ``h = C Phi C'`` and g its gradient.
    """
    q = len(C)
    h = C @ pieces.phi @ C.T
    # h^-1 dh_i for theta = (sigma2, parameters), where dh/dsigma2 = h
    K = np.empty((len(pieces.theta), q, q))
    K[0] = np.eye(q)
    half = C @ pieces.phi
    K[1:] = np.linalg.solve(h, -half @ pieces.slopes @ half.T)
    first, second = np.trace(K, axis1=1, axis2=2), np.einsum("iab,jba->ij", K, K)
    dof, scale = _match_moments(q, float(first @ pieces.theta @ first), float(np.sum(pieces.theta * second)))
    return C @ pieces.adjusted @ C.T, dof, scale


def _match_moments(q: int, A1: float, A2: float) -> tuple[float, float]:
    """Degrees of freedom m and scale of Kenward and Roger's F from their A1 and A2.

    Where so few degrees of freedom are left that the approximate F has no variance, ``2 q / A2`` and scale 1:
    what both reduce to for q = 1, and what is exact when sigma2 alone is unknown.
    """
    if q == 1:
        return 2 / A2, 1.0
    B = (A1 + 6 * A2) / (2 * q)
    g = ((q + 1) * A1 - (q + 4) * A2) / ((q + 2) * A2)
    c = np.array([g, q - g, q + 2 - g]) / (3 * q + 2 * (1 - g))
    if q <= A2 or c[2] * B >= 1:
        return 2 * q / A2, 1.0
    mean = 1 / (1 - A2 / q)
    variance = 2 / q * (1 + c[0] * B) / ((1 - c[1] * B) ** 2 * (1 - c[2] * B))
    m = 4 + (q + 2) / (q * variance / (2 * mean**2) - 1)
    return m, m / (mean * (m - 2))
