"""Least squares whose covariance comes from the residuals of clusters of maps (sites, persons, single maps).

``cov b = (X'X)^- [sum over clusters g of X_g' A_g e_g e_g' A_g' X_g] (X'X)^-`` (Liang and Zeger 1986; White 1980 for
clusters of one map; the sandwich estimator of Guillaume et al. 2014, NeuroImage 94:287). Residuals are smaller than
errors; A_g makes up for that, with H = X (X'X)^- X':

- CR0 (HC0): A = 1;
- CR1 (HC1): the square root of ``G / (G - 1) (n - 1) / (n - rank)``, of ``n / (n - rank)`` where clusters are single
maps;
- CR2 (HC2): ``(1 - H_gg)^(-1/2)``, unbiased where errors are independent (Bell and McCaffrey 2002);
- CR3 (HC3): ``(1 - H_gg)^-1``, near the jackknife.

The variance of a contrast is then a quadratic form of the errors, with few degrees of freedom where few clusters tell
it. They are those of Bell and McCaffrey for t and of Pustejovsky and Tipton (2018, J Bus Econ Stat 36:672) for F,
both under independent errors: they depend on design, clusters and contrast, not on the data, so there is one for each
pattern.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, is_estimable, reduce_design

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

SmallSampleForm = Literal["CR0", "CR1", "CR2", "CR3"]
#: Eigenvalues of 1 - H_gg below this: the design alone determines a combination of the cluster's maps, which tells
#: nothing.
DETERMINED = 1e-9


class SandwichFit(NamedTuple):
    """Least squares at every voxel with the sandwich covariance.

    Attributes
    ----------
    beta : (K, V) array
    covariance : (K, K, V) array
        Of beta, signal units squared.
    """

    beta: FloatArray
    covariance: FloatArray


class ClusteredDesign:
    """A design over maps in clusters; the maps of a cluster lie side by side.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    clusters : (n,) array of int
        Label of each map's cluster.
    form : {"CR0", "CR1", "CR2", "CR3"}
    """

    def __init__(self, X: FloatArray, clusters: IntArray, form: SmallSampleForm) -> None:
        self.basis = reduce_design(X)
        self.n_maps = len(X)
        _, member, count = np.unique(clusters, return_inverse=True, return_counts=True)
        self.order = np.argsort(member, kind="stable")
        self.edges = np.append(0, np.cumsum(count))
        self.form = form

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return len(self.edges) - 1

    @property
    def is_told(self) -> bool:
        """Whether the maps tell a covariance: some degrees of freedom, and more than one cluster."""
        return self.n_maps > self.basis.rank and self.n_clusters > 1

    @property
    def Q(self) -> FloatArray:
        """Orthonormal design, maps in the order of their clusters."""
        return np.asarray(self.basis.Q[self.order])

    @cached_property
    def adjusted(self) -> FloatArray:
        """``A_g Q_g``, the maps in the order of their clusters, (n, r)."""
        n, r, G = self.n_maps, self.basis.rank, self.n_clusters
        if self.form == "CR0":
            return self.Q
        if self.form == "CR1":
            scale = n / (n - r) if n == G else G / (G - 1) * (n - 1) / (n - r)
            return np.asarray(self.Q * np.sqrt(scale))
        power = -0.5 if self.form == "CR2" else -1.0
        return np.concatenate([_made_up(Q, power) for Q in np.split(self.Q, self.edges[1:-1])])

    def degrees(self, C: FloatArray) -> tuple[float, float]:
        """Degrees of freedom, and scale of F, of the contrast rows C (q, r) of gamma.

        ``scale (C gamma)' cov^-1 (C gamma) / q`` is about F(q, dof); for q = 1 the scale is 1.
        """
        a = self.adjusted @ C.T
        Q = self.Q
        inner = np.array([a[s:t].T @ a[s:t] for s, t in self._spans()])  # a_g'a_g, (G, q, q)
        cross = np.array([Q[s:t].T @ a[s:t] for s, t in self._spans()])  # Q_g'a_g, (G, r, q)
        expected = inner.sum(axis=0) - np.einsum("grs,grt->st", cross, cross)
        root = np.linalg.inv(np.linalg.cholesky(expected))
        inner, cross = root @ inner @ root.T, cross @ root.T
        return match_wishart(len(C), _variance_of_covariance(inner, cross))

    def _spans(self) -> list[tuple[int, int]]:
        return list(zip(self.edges[:-1].tolist(), self.edges[1:].tolist()))


def _made_up(Q: FloatArray, power: float) -> FloatArray:
    """``(1 - Q Q')^power Q`` of one cluster: Q' Q has the same eigenvalues and is no larger than r."""
    U, s, Vt = np.linalg.svd(Q, full_matrices=False)
    left = 1 - s**2
    told = left > DETERMINED
    return np.asarray((U[:, told] * (s[told] * left[told] ** power)) @ Vt[told])


def _variance_of_covariance(inner: FloatArray, cross: FloatArray) -> float:
    """Sum of the variances of all entries of the sandwich of a contrast, scaled to the mean 1, for independent errors.

    Of rows s and t, ``sum_gh (p_sg'p_sh)(p_tg'p_th) + (p_sg'p_th)(p_tg'p_sh)`` with ``p_sg'p_th = [g = h] a_sg'a_tg -
    b_sg'b_th``, b = Q_g'a_g; sums over pairs of clusters become products of sums over one.
    """
    own = np.einsum("gst->st", np.einsum("gss,gtt->gst", inner, inner) + inner**2)
    b = np.einsum("grs,grt->gst", cross, cross)
    mixed = (
        np.einsum("gss,gtt->st", inner, b) + np.einsum("gss,gtt->st", b, inner) + 2 * np.einsum("gst,gst->st", inner, b)
    )
    moments = np.einsum("gis,gjt->stij", cross, cross)
    pairs = np.einsum("stij,stij->st", moments, moments) + np.einsum("stij,stji->st", moments, moments)
    return float((own - mixed + pairs).sum())


def match_wishart(q: int, variance: float) -> tuple[float, float]:
    """Hotelling's T squared with ``eta`` degrees of freedom, where a Wishart of that many has this variance, as F."""
    eta = q * (q + 1) / variance
    dof = eta - q + 1
    return (dof, dof / eta) if dof > 0 else (np.nan, np.nan)


def fit_sandwich(
    X: FloatArray,
    Y: NDArray[np.floating],
    clusters: IntArray,
    pattern: NDArray[np.int32],
    present: BoolArray,
    *,
    form: SmallSampleForm = "CR2",
) -> SandwichFit:
    """Least squares over the maps present at each voxel, with a covariance from the residuals of clusters.

    NaN where no degrees of freedom are left, one cluster alone is there, or the maps are fitted without error.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    clusters : (n,) array of int
        All different for heteroscedasticity alone.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    form : {"CR0", "CR1", "CR2", "CR3"}
    """

    def prepare(rows: BoolArray) -> Solve | None:
        design = ClusteredDesign(X[rows], clusters[rows], form)
        return _solver(design) if design.is_told else None

    K = X.shape[1]
    return SandwichFit(*solve_by_pattern(prepare, [Y], pattern, present, [(K,), (K, K)]))


def _solver(design: ClusteredDesign) -> Callable[[FloatArray], tuple[FloatArray, FloatArray]]:
    Q, back, adjusted = design.Q, design.basis.back, design.adjusted

    def solve(y: FloatArray) -> tuple[FloatArray, FloatArray]:
        y = y[design.order]
        gamma = Q.T @ y
        e = y - Q @ gamma
        tested = np.square(e).sum(axis=0) > NO_VARIANCE**2 * np.square(y).sum(axis=0)
        meat = _meat(np.ascontiguousarray(e.T), adjusted, design.edges)
        covariance = np.moveaxis(back @ meat @ back.T, 0, -1)
        return np.where(tested, back @ gamma, np.nan), np.where(tested, covariance, np.nan)

    return solve


@nb.njit(nogil=True, cache=True)
def _meat(e: FloatArray, adjusted: FloatArray, edges: IntArray) -> FloatArray:
    """Sum over clusters of u u', u the adjusted design times the residuals e (V, n) of a cluster; (V, r, r)."""
    r = adjusted.shape[1]
    out = np.zeros((len(e), r, r))
    u = np.empty(r)
    for v in range(len(e)):
        for g in range(edges.size - 1):
            u[:] = 0.0
            for i in range(edges[g], edges[g + 1]):
                for k in range(r):
                    u[k] += adjusted[i, k] * e[v, i]
            for k in range(r):
                for j in range(k + 1):
                    out[v, k, j] += u[k] * u[j]
        for k in range(r):
            for j in range(k):
                out[v, j, k] = out[v, k, j]
    return out


def sandwich_degrees(
    X: FloatArray, clusters: IntArray, present: BoolArray, C: FloatArray, form: SmallSampleForm
) -> tuple[FloatArray, FloatArray]:
    """Degrees of freedom and scale of F (`ClusteredDesign.degrees`) of the contrast rows C (q, K), by pattern.

    NaN for a pattern that cannot estimate the contrast.
    """
    return degrees_by_pattern(lambda rows: ClusteredDesign(X[rows], clusters[rows], form), present, C)


def degrees_by_pattern(
    design_of: Callable[[BoolArray], ClusteredDesign], present: BoolArray, C: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Degrees of freedom and scale of F of the contrast rows C (q, K), by pattern; NaN where one cannot estimate it."""
    dof, scale = np.full(len(present), np.nan), np.full(len(present), np.nan)
    for number, rows in enumerate(present):
        design = design_of(rows)
        if design.is_told and is_estimable(C, design.basis).all():
            dof[number], scale[number] = design.degrees(C @ design.basis.back)
    return dof, scale
