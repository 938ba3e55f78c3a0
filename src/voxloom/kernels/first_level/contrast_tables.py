"""Contrast tables of the noise models: covariance and degrees of freedom for every case of a voxel."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from voxloom.kernels.contrast import ContrastTable
from voxloom.kernels.first_level.dof import ar1_derivatives, kenward_roger, small_sample
from voxloom.kernels.first_level.pieces import Pieces
from voxloom.kernels.linalg import is_estimable, reduce_design
from voxloom.kernels.noise.lags import LagDesign, lag_design
from voxloom.kernels.noise.rho_grid import RHO_GRID, grid_inverse
from voxloom.kernels.noise.segments import numbered, segments_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]


def empty_table(cases: int, q: int) -> ContrastTable:
    """Table of cases none of which is known."""
    return ContrastTable(np.full((cases, q, q), np.nan), np.full(cases, np.nan), np.ones(cases))


def ols_table(X: FloatArray, C: FloatArray) -> ContrastTable:
    """Tabulate one case: ``C (X'X)^- C'`` on rows - rank degrees of freedom, for X (T, K) and C (q, K)."""
    return pattern_table(X, np.ones((1, len(X)), dtype=bool), C)


def pattern_table(X: FloatArray, present: NDArray[np.bool_], C: FloatArray) -> ContrastTable:
    """Tabulate OLS for every pattern of rows of X that are there, ``present`` (M, rows).

    NaN for a pattern where C is not estimable or no degrees of freedom are left.
    """
    table = empty_table(len(present), len(C))
    for case, rows in enumerate(present):
        basis = reduce_design(X[rows])
        dof = int(rows.sum()) - basis.rank
        if dof > 0 and is_estimable(C, basis).all():
            weights = C @ basis.back
            table.cov[case], table.dof[case] = weights @ weights.T, dof
    return table


def yule_walker_table(X: FloatArray, C: FloatArray, scans: ArrayLike | None = None) -> ContrastTable:
    """Tabulate ``C (X'DX)^- C'`` with nilearn's whitening on `RHO_GRID`; dof is rows - rank."""
    design = lag_design(X, segments_of(scans, len(X), stationary=False))
    inverse, weights = grid_inverse(design), C @ design.back
    half = np.einsum("gmr,qr->gqm", inverse.factor[:, :, : design.rank], weights)
    cov = np.einsum("qr,gr,pr->gqp", weights, inverse.diagonal, weights) + half @ half.swapaxes(1, 2)
    return ContrastTable(cov, np.full(RHO_GRID.size, float(design.dof)), np.ones(RHO_GRID.size))


def ar1_table(
    X: FloatArray,
    C: FloatArray,
    scans: ArrayLike | None = None,
    cases: Sequence[int] | NDArray[np.int64] | None = None,
) -> ContrastTable:
    """Tabulate Kenward and Roger's covariance, dof and scale (`kernels.first_level.dof`) for values of `RHO_GRID`.

    Parameters
    ----------
    X : (T, K) array
    C : (q, K) array
    scans : (T,) array_like of int, optional
        Number of each row's scan (`kernels.noise.segments`); by default none is left out.
    cases : sequence of int, optional
        Indices into `RHO_GRID` to tabulate; the others stay NaN. All by default.
    """
    design, pieces = _ar1_pieces(X.tobytes(), X.shape, numbered(scans, len(X)).tobytes())
    weights = C @ design.back
    table = empty_table(RHO_GRID.size, len(C))
    for case in range(RHO_GRID.size) if cases is None else cases:
        table.cov[case], table.dof[case], table.scale[case] = kenward_roger(pieces.at(int(case)), weights)
    return table


@lru_cache(maxsize=1)
def _ar1_pieces(X: bytes, shape: tuple[int, int], scans: bytes) -> tuple[LagDesign, Pieces[int]]:
    """The design with these values, and its pieces by index into `RHO_GRID`."""
    segments = segments_of(np.frombuffer(scans, dtype=np.int64), shape[0], stationary=True)
    design = lag_design(np.frombuffer(X).reshape(shape), segments)
    return design, Pieces(lambda case: small_sample(ar1_derivatives(design, float(RHO_GRID[case])), design.dof))
