"""Bytes that a fit holds at its peak beside data and results, by noise model: what its kernel holds side by side."""

from __future__ import annotations

from typing import NamedTuple

from voxloom.kernels.ar_solve import batch_voxels
from voxloom.kernels.arma import ARMA_GRID
from voxloom.kernels.arma_reml import KEPT_BYTES, search_voxels
from voxloom.kernels.lag_sums import block_voxels

FLOAT64 = 8
#: Numbers a voxel that the search for rho holds beside its T values and 5 K sums.
RHO_NUMBERS = 200
#: The same of the search for a and b: neighbours of its best point, and their order.
ARMA_NUMBERS = 60


class Shape(NamedTuple):
    """What is fitted at once.

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
    basis = at.rows * r * (order + 2) + at.scans * (pairs + r)
    grams = pairs * (r * (r + m + 2 * order) + m * (order + 1))
    voxels = min(block_voxels(max(at.rows, pairs * size)), at.voxels)
    sums = at.rows + r + pairs * (size + 1)  # of a voxel, with its residuals
    summing = voxels * (at.rows + at.scans + 2 * size + 2 * m)
    matrices = max(2 * r * (r + m), r * (r + m) + pairs * size) + pairs * (size + order) + order**3
    newton = min(batch_voxels(r, m), voxels) * matrices + pairs * m * r
    return FLOAT64 * (basis + grams + voxels * sums + max(summing, newton))


def of_arma(at: Shape) -> int:
    """ARMA(1, 1): what the points of the grid share, if all are looked at; residuals, in three copies, and products."""
    points = len(ARMA_GRID) * at.columns**2
    products = min(KEPT_BYTES, FLOAT64 * len(ARMA_GRID) * at.rows * (at.columns + 3))
    voxels = min(search_voxels(at.rows), at.voxels)
    return products + FLOAT64 * (points + voxels * (3 * at.rows + 3 * at.columns + ARMA_NUMBERS))
