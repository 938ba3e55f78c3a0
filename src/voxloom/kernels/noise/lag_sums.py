"""Sufficient statistics of AR(1) fits: one pass over the data serves every rho, no residuals are kept.

`kernels.noise.lags` tells why these sums are enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.noise.lags import LagDesign

    FloatArray = NDArray[np.float64]

#: Sums may be re-associated into SIMD lanes (their order depends on the length alone); NaN keeps its meaning.
REASSOCIATE = {"reassoc", "contract"}
#: Bytes of the float64 copy of one sub-block. 2 to 7 MiB were equally fast, 13 MiB 20 % slower (L2 1, L3 32
#: MiB).
BLOCK_BYTES = 8 * 2**20
#: Where less than this share of the squares is left, y'y - g'g has lost six digits and more: the residuals
#: themselves are formed for that voxel, and summed. Real voxels keep 1e-3 and more.
THIN = 1e-6


class LagSums(NamedTuple):
    """What a fit needs to know of n voxels; R are their OLS residuals.

    Voxels come first here, so that the numbers of one voxel are adjacent.

    Attributes
    ----------
    gamma : (n, r) array
        OLS coefficients in the basis Q; NaN where the voxel cannot be fitted.
    cross : (n, r + m) array
        ``(NQ)'R`` and ``e = lift' U'R``; so ``Q'E_g R = Z_g'e_g``, and ``Q'R`` is zero.
    ss : (n, 2 + g) array
        ``R'R``, ``R'NR``, and for each kind of edge ``R'E_g R - e_g'e_g``; of a crowded design ``R'E_g R``.
    total : (n,) array
        Squares of the data about their mean.
    perfect : (n,) array of bool
        Where the residuals are nothing but rounding error (`NO_VARIANCE`).
    """

    gamma: FloatArray
    cross: FloatArray
    ss: FloatArray
    total: FloatArray
    perfect: NDArray[np.bool_]


def block_size(design: LagDesign, sums: int = 0) -> int:
    """Voxels per sub-block: a power of two up to 4096 whose float64 copy stays within `BLOCK_BYTES`.

    With many gaps the REML search holds more numbers per voxel than the signal: about 32 per row of ``ends``, or per
    column of a crowded design. Other noise models tell how many they hold, `sums`.
    """
    return block_voxels(max(design.segments.n_rows, 32 * min(len(design.ends), design.rank), sums))


def block_voxels(numbers: int) -> int:
    """Voxels of a sub-block that holds so many numbers of each."""
    return int(2 ** np.clip(np.floor(np.log2(BLOCK_BYTES / (8 * numbers))), 4, 12))


@np.errstate(over="ignore", invalid="ignore")  # voxels that are not finite, or beyond 1e154
def lag_sums(design: LagDesign, Y: NDArray[np.generic], *, percent: bool = False) -> LagSums:
    """Sufficient statistics of the columns of Y.

    Parameters
    ----------
    design : LagDesign
    Y : (T, n) array
        Signal of any real dtype. One sub-block: it is copied to float64.
    percent : bool
        Fit ``100 (y / mean - 1)`` in place of y; a mean that is not positive gives NaN.
    """
    block, mean, squares, total, whole = centred_block(design, Y, percent)
    gamma, cross, ss = _residual_sums(design, block, squares)
    if design.ones is not None and not percent:
        give_back(gamma, mean, design.ones)
    thin = np.flatnonzero(ss[:, 0] < THIN * squares[:, 0])
    if thin.size:
        rest = block[thin]
        rest -= (rest @ design.Q) @ design.Q.T
        more, cross[thin], ss[thin] = _residual_sums(design, rest, _squares(rest, design.segments.starts))
        gamma[thin] += more
    return LagSums(gamma, cross, ss, total, ss[:, 0] <= NO_VARIANCE**2 * whole)


def centred_block(
    design: LagDesign, Y: NDArray[np.generic], percent: bool
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
    """Copy the columns of Y to float64, voxels first and means taken away where the design can give them back.

    Returns the block (n, T), the means, `_squares` of the block, and the squared length of each voxel about its mean
    and with it.
    """
    T, V = Y.shape
    block = np.empty((V, T))
    block[...] = Y.T
    centred = percent or design.ones is not None
    mean, ss, total = centre_and_square(block, design.segments.starts, centred, percent)
    whole = total + T * (100.0 if percent else mean) ** 2 if centred else ss[:, 0]
    return block, mean, ss, total, np.asarray(whole)


def _residual_sums(
    design: LagDesign, block: FloatArray, squares: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return gamma (n, r), cross and ss of `LagSums` from the data and their `_squares`."""
    edges, r = design.segments.edges, design.rank
    products = block @ np.hstack([design.Q, design.NQ])
    (i, j), (a, b) = edges.rows, edges.weights
    at_edges = block[:, i] * a + block[:, j] * b - products[:, :r] @ edges.across(design.Q).T
    lifted = at_edges @ design.lift
    kinds = np.eye(edges.sign.size)
    at_kinds = at_edges**2 @ kinds[edges.kind]
    if not design.is_crowded:
        at_kinds -= lifted**2 @ kinds[design.kind]
    ss = np.hstack([squares, at_kinds])
    return *_split_products(products, lifted, ss, design.eigenvalues), ss


@nb.njit(cache=True, fastmath=REASSOCIATE)
def centre_and_square(
    block: FloatArray, starts: NDArray[np.int64], centre: bool, percent: bool
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Take means away in place (and scale); constant rows become NaN.

    Returns the means, `_squares` of what is left, and the squares about the mean (n,), which are among these where it
    was taken away.
    """
    n, T = block.shape
    means, ss, total = np.empty(n), np.empty((n, 2)), np.empty(n)
    for v in range(n):
        y = block[v]
        changes, mean = 0, 0.0
        for t in range(T):
            mean += y[t]
            changes += y[t] != y[0]
        mean /= T
        scale = 1.0
        if percent:
            scale = 100.0 / mean if mean > 0 else np.nan
        if changes == 0:
            scale = np.nan
        shift = mean if centre or percent else 0.0
        for t in range(T):
            y[t] = (y[t] - shift) * scale
        means[v] = mean
        ss[v, 0], ss[v, 1] = _squares_of_row(y, starts)
        total[v] = ss[v, 0] if centre or percent else _squares_about(y, mean)
    return means, ss, total


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _squares_about(y: FloatArray, mean: float) -> float:
    """Squares about the mean: ``y'y - T mean^2`` has six digits less where the mean is 1000 standard deviations."""
    square = 0.0
    for t in range(len(y)):
        square += (y[t] - mean) * (y[t] - mean)
    return square


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _squares_of_row(y: FloatArray, starts: NDArray[np.int64]) -> tuple[float, float]:
    """``y'y`` and ``y'Ny``: twice the sum of products of neighbours, none of which crosses a gap."""
    square, product = y[0] * y[0], 0.0
    for t in range(1, len(y)):
        square += y[t] * y[t]
        product += y[t] * y[t - 1]
    for start in starts[1:]:
        product -= y[start] * y[start - 1]
    return square, 2.0 * product


@nb.njit(cache=True)
def give_back(gamma: FloatArray, mean: FloatArray, ones: FloatArray) -> None:
    """Add to gamma, in place, the coefficients of the mean that was taken away."""
    for v in range(len(gamma)):
        for k in range(len(ones)):
            gamma[v, k] += mean[v] * ones[k]


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _squares(block: FloatArray, starts: NDArray[np.int64]) -> FloatArray:
    """``y'y`` and ``y'Ny`` (n, 2) of the rows of a block (n, T)."""
    ss = np.empty((len(block), 2))
    for v in range(len(block)):
        ss[v, 0], ss[v, 1] = _squares_of_row(block[v], starts)
    return ss


@nb.njit(cache=True, fastmath=REASSOCIATE)
def _split_products(
    products: FloatArray, edge: FloatArray, ss: FloatArray, eigenvalues: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Turn the products ``[Q'y, (NQ)'y]`` into gamma and cross, and squares of y into those of the residuals.

    Sums have loops of their own: one that also stores is compiled twice, in lanes and in order, and where the
    arrays lie in memory would choose between them.
    """
    n, r = len(products), len(eigenvalues)
    gamma, cross = np.empty((n, r)), np.empty((n, r + edge.shape[1]))
    for v in range(n):
        square, product = 0.0, 0.0
        for k in range(r):
            square += products[v, k] * products[v, k]
            product += products[v, k] * (eigenvalues[k] * products[v, k] - 2.0 * products[v, r + k])
        for k in range(r):
            cross[v, k] = products[v, r + k] - eigenvalues[k] * products[v, k]
            gamma[v, k] = products[v, k]
        cross[v, r:] = edge[v]
        if np.isfinite(ss[v, 0]):
            ss[v, 0] = max(ss[v, 0] - square, 0.0)
            ss[v, 1] += product
        else:
            gamma[v], ss[v] = np.nan, np.nan
    return gamma, cross
