"""Bytes that a fit, and contrasts of it, hold at their peak beside data and results, by noise model."""

from __future__ import annotations

from typing import NamedTuple

from voxloom.kernels.first_level.pieces import PIECES_BYTES
from voxloom.kernels.noise.ar_solve import batch_voxels
from voxloom.kernels.noise.arma import ARMA_GRID
from voxloom.kernels.noise.arma_reml import KEPT_BYTES, search_voxels
from voxloom.kernels.noise.lag_sums import block_voxels

FLOAT64 = 8
#: Numbers a voxel that the search for rho holds beside its T values and 5 K sums.
RHO_NUMBERS = 200
#: The same of the search for a and b: neighbours of its best point, and their order.
ARMA_NUMBERS = 60
#: Cells of phi that are met, over p^3: 65,536 voxels of 100 scans, rho from 0 to 0.8, are in 90, 240, 520 and 3,800 for
#: p = 2, 3, 4 and 8, those of longer runs in fewer.
CELLS = 9


class Shape(NamedTuple):
    """What is fitted, or asked for contrasts, at once.

    Parameters
    ----------
    rows : int
        Scans that are kept.
    scans : int
        The same with those that are left out between them.
    columns : int
        Of the design.
    voxels : int
    """

    rows: int
    scans: int
    columns: int
    voxels: int

    @property
    def missing(self) -> int:
        """Scans that are left out."""
        return self.scans - self.rows


def of_lags(at: Shape) -> int:
    """Least squares and AR(1): a sub-block in float64 and its sums."""
    voxels = min(block_voxels(at.rows), at.voxels)
    return FLOAT64 * voxels * (at.rows + 5 * at.columns + RHO_NUMBERS)


def of_ar(order: int, at: Shape) -> int:
    """AR(p): products of the design for each pair of lags; a sub-block and its sums; matrices of a batch."""
    pairs, r, m = (order + 1) * (order + 2) // 2, at.columns, at.missing
    size = r + m
    voxels = min(block_voxels(max(at.rows, pairs * size)), at.voxels)
    sums = at.rows + r + pairs * (size + 1)  # of a voxel, with its residuals
    summing = voxels * (at.rows + at.scans + 2 * size + 2 * m)
    matrices = max(2 * r * (r + m), r * (r + m) + pairs * size) + pairs * (size + order) + order**3
    newton = min(batch_voxels(r, m), voxels) * matrices + pairs * m * r
    return _of_ar_design(order, at) + FLOAT64 * (voxels * sums + max(summing, newton))


def _of_ar_design(order: int, at: Shape) -> int:
    """What AR(p) fits of a design share: its basis, whole and lagged, and the products for each pair of lags."""
    pairs, r, m = (order + 1) * (order + 2) // 2, at.columns, at.missing
    basis = at.rows * r * (order + 2) + at.scans * (pairs + r)
    return FLOAT64 * (basis + pairs * (r * (r + m + 2 * order) + m * (order + 1)))


def of_arma(at: Shape) -> int:
    """ARMA(1, 1): what the points of the grid share, if all are looked at; residuals, in three copies, and products."""
    points = len(ARMA_GRID) * at.columns**2
    products = min(KEPT_BYTES, FLOAT64 * len(ARMA_GRID) * at.rows * (at.columns + 3))
    voxels = min(search_voxels(at.rows), at.voxels)
    return products + FLOAT64 * (points + voxels * (3 * at.rows + 3 * at.columns + ARMA_NUMBERS))


class Tables(NamedTuple):
    """What contrasts of a run hold.

    Attributes
    ----------
    kept : int
        For the next contrast (`kernels.first_level.pieces`).
    making : int
        Beside that, while one is made.
    """

    kept: int
    making: int = 0


def of_cases(cases: int, parameters: int, at: Shape) -> Tables:
    """Contrasts by cases of the noise, of which there are so many at most, and not more than voxels."""
    of_case = FLOAT64 * (2 + max(1, parameters)) * at.columns**2
    return Tables(min(PIECES_BYTES, min(cases, at.voxels) * of_case))


def of_cells(order: int, at: Shape) -> Tables:
    """Contrasts of AR(p): every voxel's covariance, cells of phi; derivatives of one, with scans that were left out."""
    r, m = at.columns, at.missing
    basis, size = at.scans * (r + m), r + m
    derivatives = (order * size) ** 2 + 2 * order * basis + order * size**2 + 2 * basis + 4 * size**2
    inverting = min(batch_voxels(r, m), at.voxels) * (3 * r**2 + 3 * r * m + m * (order + 1))
    finding = 4 * order * at.voxels
    making = max(derivatives, inverting, finding) + 2 * (order + 2) * at.voxels
    return Tables(of_cases(CELLS * order**3, order, at).kept + _of_ar_design(order, at), FLOAT64 * making)
