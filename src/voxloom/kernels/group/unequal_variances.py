"""Least squares over groups of maps that have a variance each: Welch's t and analysis of variance for any design.

``cov b = sum over groups g of s2_g (X'X)^- X_g'X_g (X'X)^-`` with ``s2_g = e_g'e_g / nu_g`` and nu_g the trace of the
residual-forming matrix over the group. Of a contrast with covariance ``V = sum V_g`` (q x q), Johansen (1980,
Biometrika 67:85) matches ``T^2 = (C b)' V^-1 (C b)`` by ``c F(q, q (q + 2) / (3 A))``, ``c = q + 2 A - 6 A / (q +
2)``, ::

    A = 1/2 sum over g of [tr((V_g V^-1)^2) + tr(V_g V^-1)^2] / nu_g

which for q = 1 is t with Satterthwaite's degrees of freedom, for two means Welch's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.contrast import ContrastTable
from voxloom.kernels.group.patterns import solve_by_pattern
from voxloom.kernels.linalg import NO_VARIANCE, Basis, is_estimable, reduce_design, sub_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.group.patterns import BoolArray, Solve

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Less than this share of a degree of freedom in a group is rounding: the design fits the group exactly.
NO_DOF = 1e-8


class UnequalVariancesFit(NamedTuple):
    """Least squares at every voxel.

    Attributes
    ----------
    beta : (K, V) array
    variance_of_group : (G, V) array
        Residual variance of each group, signal units squared; 0 where none of its maps is there.
    """

    beta: FloatArray
    variance_of_group: FloatArray


class _Groups(NamedTuple):
    basis: Basis
    member: FloatArray  # (G, n)
    dof: FloatArray  # (G,)
    usable: bool


def _groups(X: FloatArray, groups: IntArray, n_groups: int) -> _Groups:
    basis = reduce_design(X)
    member = np.equal.outer(np.arange(n_groups), groups).astype(np.float64)
    dof = member @ (1 - np.square(basis.Q).sum(axis=1))
    return _Groups(basis, member, dof, bool((dof[member.any(axis=1)] > NO_DOF).all()))


def fit_unequal_variances(
    X: FloatArray, Y: NDArray[np.floating], groups: IntArray, pattern: NDArray[np.int32], present: BoolArray
) -> UnequalVariancesFit:
    """Least squares with a residual variance of each group; NaN where the design fits one of them exactly.

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    groups : (n,) array of int
        0 .. G - 1: the variance group of each map.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """
    n_groups = int(groups.max()) + 1

    def prepare(rows: BoolArray) -> Solve | None:
        of = _groups(X[rows], groups[rows], n_groups)
        if not rows.any() or not of.usable:
            return None
        per_dof = of.member / np.where(of.dof > NO_DOF, of.dof, 1.0)[:, None]

        def solve(y: FloatArray) -> tuple[FloatArray, FloatArray]:
            gamma = of.basis.Q.T @ y
            e2 = np.square(y - of.basis.Q @ gamma)
            tested = e2.sum(axis=0) > NO_VARIANCE**2 * np.square(y).sum(axis=0)
            return np.where(tested, of.basis.back @ gamma, np.nan), np.where(tested, per_dof @ e2, np.nan)

        return solve

    return UnequalVariancesFit(*solve_by_pattern(prepare, [Y], pattern, present, [(X.shape[1],), (n_groups,)]))


def unequal_variances_table(
    X: FloatArray,
    groups: IntArray,
    present: BoolArray,
    C: FloatArray,
    variances: FloatArray,
    pattern: NDArray[np.integer],
) -> ContrastTable:
    """Covariance, degrees of freedom and scale of F of the contrast rows C (q, K), a case per voxel."""
    G, V, q = *variances.shape, len(C)
    table = ContrastTable(np.full((V, q, q), np.nan), np.full(V, np.nan), np.ones(V))
    for number in np.unique(pattern):
        rows = present[number]
        of = _groups(X[rows], groups[rows], G)
        if not of.usable or not is_estimable(C, of.basis).all():
            continue
        weights = of.basis.Q @ (C @ of.basis.back).T
        parts = np.einsum("gn,nq,np->gqp", of.member, weights, weights)
        voxels = np.flatnonzero((pattern == number) & np.isfinite(variances).all(axis=0))
        for block in sub_blocks(voxels.size):
            _fill(table, voxels[block], parts, variances[:, voxels[block]], of.dof)
    return table


def _fill(table: ContrastTable, voxels: IntArray, parts: FloatArray, variances: FloatArray, dof: FloatArray) -> None:
    """Write the cases of some voxels; `parts` (G, q, q) are V_g for variances of 1."""
    q = parts.shape[1]
    cov = np.einsum("gv,gqp->vqp", variances, parts)
    definite = np.linalg.eigvalsh(cov)[:, 0] > 0
    voxels, cov, variances = voxels[definite], cov[definite], variances[:, definite]
    inverse = np.linalg.inv(cov)
    A = np.zeros(len(voxels))
    for s2, part, nu in zip(variances, parts, dof):
        if nu > NO_DOF:
            share = s2[:, None, None] * (part @ inverse)
            A += (np.einsum("vqp,vpq->v", share, share) + np.trace(share, axis1=1, axis2=2) ** 2) / (2 * nu)
    table.cov[voxels] = cov
    table.dof[voxels] = q * (q + 2) / (3 * A)
    table.scale[voxels] = q / (q + 2 * A - 6 * A / (q + 2))
