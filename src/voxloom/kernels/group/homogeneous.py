"""The sandwich of clusters whose covariance is the same: what maps of two kinds (visits, conditions) have in common.

The sandwich of `kernels.group.sandwich` takes each cluster's own residuals for its covariance, and is noisy where there
are few clusters. Where clusters are alike (Guillaume et al. 2014, NeuroImage 94:287, the homogeneous or modified form),
the covariance of a map of kind a with one of kind b is that of all clusters that have both, ::

    V_ab = mean over clusters with a and b of (A_g e_g)_a (A_g e_g)_b,    A_g = (1 - H_gg)^(-1/2)
    cov b = (X'X)^- [sum over clusters of X_g' V_g X_g] (X'X)^-,    V_g the part of V of the cluster's kinds

with residuals made up as in CR2. Kinds of different groups of people (``patient-1``, ``control-1``) have covariances of
their own. Variances are linear in products of residuals, so that degrees of freedom follow as in CR2, from their first
two moments under independent errors; of a balanced design they are those of the Wishart distribution of V.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.group.sandwich import DETERMINED, ClusteredDesign, SandwichFit, degrees_by_pattern, match_wishart
from voxloom.kernels.linalg import NO_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


class Pair(NamedTuple):
    """Rows of the maps of two kinds in the clusters that have both; the kinds may be the same."""

    one: IntArray
    other: IntArray


class HomogeneousDesign(ClusteredDesign):
    """A design over maps of kinds in clusters; the maps of a cluster lie side by side.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    clusters, kinds : (n,) arrays of int
        No two maps of a cluster are of one kind.
    """

    def __init__(self, X: FloatArray, clusters: IntArray, kinds: IntArray) -> None:
        super().__init__(X, clusters, "CR2")
        self.kinds = kinds[self.order]

    @cached_property
    def blocks(self) -> list[FloatArray]:
        """A_g of every cluster."""
        return [_made_up(self.Q[s:t]) for s, t in self._spans()]

    @cached_property
    def pairs(self) -> list[Pair]:
        """Every pair of kinds that some cluster has."""
        found: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for s, t in self._spans():
            rows = s + np.argsort(self.kinds[s:t], kind="stable")
            for i, one in enumerate(rows):
                for other in rows[i:]:
                    found.setdefault((self.kinds[one], self.kinds[other]), []).append((one, other))
        return [Pair(*np.array(found[key], dtype=np.int64).T) for key in sorted(found)]

    @cached_property
    def weights(self) -> FloatArray:
        """What each pair's covariance adds to the covariance of gamma, (pairs, r, r)."""
        Q = self.Q
        sums = np.array([Q[pair.one].T @ Q[pair.other] for pair in self.pairs])
        same = np.array([pair.one[0] == pair.other[0] for pair in self.pairs])[:, None, None]
        return np.asarray(np.where(same, sums, sums + sums.transpose(0, 2, 1)))

    def covariances(self, e: FloatArray) -> FloatArray:
        """V of every pair (pairs, v) from residuals (n, v)."""
        made = np.concatenate([A @ e[s:t] for A, (s, t) in zip(self.blocks, self._spans())])
        return np.array([(made[pair.one] * made[pair.other]).mean(axis=0) for pair in self.pairs])

    def degrees(self, C: FloatArray) -> tuple[float, float]:
        """Degrees of freedom, and scale of F, of the contrast rows C (q, r) of gamma; as `ClusteredDesign.degrees`."""
        q = len(C)
        expected = np.array([[self._moments(_form(C, s, t))[0] for t in range(q)] for s in range(q)])
        root = np.linalg.inv(np.linalg.cholesky(expected)) @ C
        return match_wishart(q, sum(self._moments(_form(root, s, t))[1] for s in range(q) for t in range(q)))

    def _moments(self, form: FloatArray) -> tuple[float, float]:
        """Mean and variance of ``sum of form * cov(gamma)`` under independent errors of variance 1.

        It is ``e'Me`` of residuals, M of the blocks A_g F_g A_g; of e = R y the mean is tr(RM), the variance 2
        tr(RMRM), R = 1 - QQ'.
        """
        Q, mean, square = self.Q, 0.0, 0.0
        MQ = np.empty_like(Q)
        for A, entries, (s, t) in zip(self.blocks, self._entries(form), self._spans()):
            M = A @ entries @ A
            MQ[s:t] = M @ Q[s:t]
            mean += np.trace(M)
            square += (M * M).sum()
        inner = Q.T @ MQ
        return float(mean - np.trace(inner)), float(2 * (square - 2 * (MQ * MQ).sum() + (inner * inner).sum()))

    def _entries(self, form: FloatArray) -> list[FloatArray]:
        """F_g: what the product of two residuals of a cluster counts for."""
        found = [np.zeros((t - s, t - s)) for s, t in self._spans()]
        cluster = np.repeat(np.arange(self.n_clusters), np.diff(self.edges))
        for pair, weight in zip(self.pairs, self.weights):
            share = float((form * weight).sum()) / (2 * len(pair.one))
            for one, other in zip(pair.one, pair.other):
                g = cluster[one]
                i, j = one - self.edges[g], other - self.edges[g]
                found[g][i, j] += share
                found[g][j, i] += share
        return found


def _form(C: FloatArray, s: int, t: int) -> FloatArray:
    """Symmetric weights of the entries of cov(gamma) that make the covariance of rows s and t of C."""
    outer = np.outer(C[s], C[t])
    return (outer + outer.T) / 2


def _made_up(Q: FloatArray) -> FloatArray:
    """``(1 - Q Q')^(-1/2)`` of one cluster, 0 in directions that the design determines."""
    U, s, _ = np.linalg.svd(Q, full_matrices=False)
    left = 1 - s**2
    told = left > DETERMINED
    stretch = np.where(told, np.maximum(left, DETERMINED) ** -0.5, 0.0)
    return np.asarray(np.eye(len(Q)) + (U * (stretch - 1)) @ U.T)


def fit_homogeneous(
    X: FloatArray,
    Y: NDArray[np.floating],
    clusters: IntArray,
    kinds: IntArray,
    pattern: NDArray[np.int32],
    present: BoolArray,
) -> SandwichFit:
    """Least squares over the maps present at each voxel, with a covariance that clusters have in common.

    NaN where no degrees of freedom are left, one cluster alone is there, or the maps are fitted without error.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    clusters, kinds : (n,) arrays of int
        No two maps of a cluster are of one kind.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """

    def prepare(rows: BoolArray) -> Solve | None:
        design = HomogeneousDesign(X[rows], clusters[rows], kinds[rows])
        return _solver(design) if design.is_told else None

    K = X.shape[1]
    return SandwichFit(*solve_by_pattern(prepare, [Y], pattern, present, [(K,), (K, K)]))


def _solver(design: HomogeneousDesign) -> Solve:
    Q, back = design.Q, design.basis.back
    weights = back @ design.weights @ back.T

    def solve(y: FloatArray) -> tuple[FloatArray, FloatArray]:
        y = y[design.order]
        gamma = Q.T @ y
        e = y - Q @ gamma
        tested = np.square(e).sum(axis=0) > NO_VARIANCE**2 * np.square(y).sum(axis=0)
        covariance = np.tensordot(weights, design.covariances(e), (0, 0))
        return np.where(tested, back @ gamma, np.nan), np.where(tested, covariance, np.nan)

    return solve


def homogeneous_degrees(
    X: FloatArray, clusters: IntArray, kinds: IntArray, present: BoolArray, C: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Degrees of freedom and scale of F (`HomogeneousDesign.degrees`) of the contrast rows C (q, K), by pattern.

    NaN for a pattern that cannot estimate the contrast.
    """
    return degrees_by_pattern(lambda rows: HomogeneousDesign(X[rows], clusters[rows], kinds[rows]), present, C)
