"""Contrasts of AR(p) fits: covariance of every voxel at its own phi, degrees of freedom from cells of phi.

Phi is continuous, so there is no table of all cases. ``C W(phi)^-1 C'`` is computed for every voxel. What Kenward and
Roger (`kernels.first_level.dof`) add, the degrees of freedom, F's scale and the share by which the covariance is
widened, costs p^2 T r^2 operations but changes slowly with phi: it is taken at the centre of the voxel's cell of a
lattice of partial autocorrelations, `WIDTHS` on Fisher's scale.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import solveh_banded

from voxloom.kernels.first_level.contrast_tables import empty_table
from voxloom.kernels.first_level.dof import Derivatives, SmallSample, kenward_roger, small_sample
from voxloom.kernels.first_level.pieces import Pieces
from voxloom.kernels.linalg import sub_blocks
from voxloom.kernels.noise.ar import (
    MAX_ORDER,
    MOST,
    ArDesign,
    ar_design,
    coefficients,
    couple,
    filters,
    from_partial,
    pairs,
    partial_autocorrelations,
)
from voxloom.kernels.noise.ar_solve import batch_size, precision
from voxloom.kernels.noise.segments import numbered

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.contrast import ContrastTable

    FloatArray = NDArray[np.float64]
    Cell = tuple[int, ...]

#: Width of a cell on Fisher's scale by lag: 0.1 is a standard error at 100 volumes. Twice that changes degrees of
#: freedom by 4 % (median), the share of false positives by less than can be measured.
WIDTHS = np.minimum(0.1 * 2.0 ** np.arange(MAX_ORDER), 0.4)


def ar_derivatives(design: ArDesign, phi: FloatArray) -> Derivatives:
    """`Derivatives` of stationary AR(p) at phi (p,), for the whole basis: scans that were left out are regressors."""
    of, p, series = pairs(design.order), design.order, design.series.starts.size
    c, first = coefficients(phi[None])[0], np.einsum("pwk,w->pk", of.first, filters(phi[None])[0])
    bands, basis = _bands(design, c), design.basis
    # by columns, as LAPACK takes it without a copy
    slopes = np.concatenate([_apply(_bands(design, first[:, k]), basis).T for k in range(p)]).T
    solved = solveh_banded(bands, slopes, lower=True)
    covariance = np.linalg.inv(np.tensordot(c, design.corner, 1))
    end = np.einsum("ab,pba->p", covariance, design.corner)
    end_slopes = covariance @ np.einsum("pk,pab->kab", first, design.corner)
    gamma = np.append(covariance[0], phi @ covariance[0][::-1])
    traces = (len(bands[0]) - series * (of.i + of.j)) * gamma[of.j - of.i] * np.where(of.i == of.j, 1, 2)
    curvature = np.einsum("pkl,p->kl", of.second, end) - np.einsum("kab,lba->kl", end_slopes, end_slopes)
    return Derivatives(
        W=basis.T @ _apply(bands, basis),
        A=(basis.T @ slopes).reshape(-1, p, design.size).swapaxes(0, 1),
        B=(slopes.T @ solved).reshape(p, design.size, p, design.size).swapaxes(1, 2),
        first=series * (first.T @ end),
        second=np.einsum("pkl,p->kl", of.second, traces) - series * curvature,
    )


def _bands(design: ArDesign, c: FloatArray) -> FloatArray:
    """Diagonals (p + 1, T) of ``sum c_ij S_ij``."""
    of = pairs(design.order)
    return np.array([c[of.j - of.i == k] @ design.weights[of.j - of.i == k] for k in range(design.order + 1)])


def _apply(bands: FloatArray, F: FloatArray) -> FloatArray:
    return np.asarray(sum(couple(F, band, k) for k, band in enumerate(bands)))


def ar_contrasts(X: FloatArray, C: FloatArray, phi: FloatArray, scans: ArrayLike | None = None) -> ContrastTable:
    """Covariance, degrees of freedom and scale of the contrast rows C (q, K) at every voxel's phi (p, V).

    Returns
    -------
    ContrastTable
        A case per voxel; NaN where phi is.
    """
    design, pieces = _ar_pieces(X.tobytes(), X.shape, len(phi), numbered(scans, len(X)).tobytes())
    weights = C @ design.base.back
    table = empty_table(phi.shape[1], len(C))
    known = np.flatnonzero(np.isfinite(phi).all(axis=0))
    table.cov[known] = _covariances(design, weights, phi[:, known].T)
    cells, cell = np.unique(_cells(phi[:, known].T), axis=0, return_inverse=True)
    at_cells = empty_table(len(cells), len(C))
    widen = np.empty((len(cells), len(C), len(C)))
    for i, centre in enumerate(cells.tolist()):
        piece = pieces.at(tuple(centre))
        at_cells.cov[i], at_cells.dof[i], at_cells.scale[i] = kenward_roger(piece, weights)
        inverse = np.linalg.inv(np.linalg.cholesky(weights @ piece.phi @ weights.T))
        widen[i] = inverse @ at_cells.cov[i] @ inverse.T
    L = np.linalg.cholesky(table.cov[known])
    table.cov[known] = L @ widen[cell] @ L.swapaxes(1, 2)
    table.dof[known], table.scale[known] = at_cells.dof[cell], at_cells.scale[cell]
    return table


def _covariances(design: ArDesign, weights: FloatArray, phi: FloatArray) -> FloatArray:
    """``C W^-1 C'`` (n, q, q) at phi (n, p)."""
    covariance = np.empty((len(phi), len(weights), len(weights)))
    for batch in sub_blocks(len(phi), batch_size(design)):
        covariance[batch] = weights @ precision(design, phi[batch]).inverse @ weights.T
    return covariance


def _cells(phi: FloatArray) -> NDArray[np.int64]:
    """Cells (n, p) of the lattice."""
    partial = np.clip(partial_autocorrelations(phi), -MOST, MOST)
    return np.asarray(np.rint(np.arctanh(partial) / WIDTHS[: phi.shape[1]]), dtype=np.int64)


@lru_cache(maxsize=1)
def _ar_pieces(X: bytes, shape: tuple[int, int], order: int, scans: bytes) -> tuple[ArDesign, Pieces[Cell]]:
    """The design with these values, and its pieces by cell."""
    design = ar_design(np.frombuffer(X).reshape(shape), order, np.frombuffer(scans, dtype=np.int64), shape[0])

    def make(cell: Cell) -> SmallSample:
        phi = from_partial(np.tanh(WIDTHS[:order] * np.array([cell], dtype=np.float64)))[0]
        return _of_rows(small_sample(ar_derivatives(design, phi), design.base.dof), design.base.rank)

    return design, Pieces(make)


def _of_rows(pieces: SmallSample, rank: int) -> SmallSample:
    """Pieces of the coefficients of Q alone, those of scans that were left out being eliminated."""
    # copies: parts of the whole would keep it, and these stay
    phi, adjusted = (np.ascontiguousarray(whole[:rank, :rank]) for whole in (pieces.phi, pieces.adjusted))
    back = pieces.phi[:, :rank] @ np.linalg.inv(phi)
    return SmallSample(phi, adjusted, back.T @ pieces.slopes @ back, pieces.theta)
