"""Group model: ordinary least squares over maps, with any set of maps missing at a voxel.

Voxels with the same set of maps (a pattern) share one design, so each pattern is factorised once and fitted
by two matrix products.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from voxloom.kernels.linalg import NO_VARIANCE, reduce_design, sub_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]


#: Bytes of the maps of one sub-block, of which a fit holds three copies: 4096 voxels of up to 1,024 maps.
BLOCK_BYTES = 32 * 2**20


class GroupFit(NamedTuple):
    """Least squares at every voxel over the maps that are there.

    Attributes
    ----------
    beta : (K, V) array
        Signal units. Where the design of a pattern is rank deficient, one of its solutions.
    sigma2 : (V,) array
        Residual sum of squares over n - rank, signal units squared.
    n : (V,) array
        Number of maps.
    """

    beta: FloatArray
    sigma2: FloatArray
    n: FloatArray


def pattern_bits(Y: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Which of the maps Y (n, V) are there (finite) at each voxel, eight a byte, (ceil(n / 8), V)."""
    return np.packbits(np.isfinite(Y), axis=0)


def group_patterns(bits: NDArray[np.uint8], n_maps: int) -> tuple[NDArray[np.int32], BoolArray]:
    """Give numbers to the patterns of `pattern_bits`; the fullest in map order comes first.

    Parameters
    ----------
    bits : (ceil(n / 8), V) array of uint8
    n_maps : int

    Returns
    -------
    pattern : (V,) array of int32
        Row of `present`.
    present : (patterns, n) array of bool
    """
    if not len(bits):
        return np.zeros(bits.shape[1], dtype=np.int32), np.zeros((1, 0), dtype=bool)
    # one void scalar a voxel sorts by bytes, 20 times faster than np.unique(axis=1)
    keys = np.ascontiguousarray(~bits.T).view(np.dtype((np.void, len(bits))))[:, 0]
    unique, pattern = np.unique(keys, return_inverse=True)
    rows = ~unique.view(np.uint8).reshape(len(unique), len(bits))
    present = np.unpackbits(rows, axis=1, count=n_maps).astype(bool)
    return pattern.astype(np.int32), present


def block_size(n_maps: int) -> int:
    """Voxels fitted at once: a power of two up to 4096 whose maps stay within `BLOCK_BYTES`."""
    return int(2 ** np.clip(np.floor(np.log2(BLOCK_BYTES / (8 * max(1, n_maps)))), 4, 12))


def fit_group(X: FloatArray, Y: NDArray[np.floating], pattern: NDArray[np.int32], present: BoolArray) -> GroupFit:
    """Minimise ``||Y_v - X b||^2`` over the maps present at voxel v, for every column of Y.

    Column v of the result depends on ``Y[:, v]`` alone. NaN where no degrees of freedom are left or the maps
    are fitted without error (constant maps of a mean, say).

    Parameters
    ----------
    X : (n, K) array
        May be rank deficient.
    Y : (n, V) array
        Not finite where missing.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    """
    n_voxels = Y.shape[1]
    fit = GroupFit(
        np.full((X.shape[1], n_voxels), np.nan),
        np.full(n_voxels, np.nan),
        present.sum(axis=1)[pattern].astype(float),
    )
    order = np.argsort(pattern, kind="stable")
    numbers, first = np.unique(pattern[order], return_index=True)
    for number, columns in zip(numbers, np.split(order, first[1:])):
        rows = present[number]
        basis = reduce_design(X[rows])
        dof = int(rows.sum()) - basis.rank
        if dof < 1:
            continue
        for block in sub_blocks(len(columns), block_size(len(X))):
            voxels = columns[block]
            y = np.asarray(Y[np.ix_(rows, voxels)], dtype=np.float64)
            gamma = basis.Q.T @ y
            with np.errstate(over="ignore", invalid="ignore"):  # beyond 1e154: infinite, so not tested
                error = np.square(y - basis.Q @ gamma).sum(axis=0)
                tested = error > NO_VARIANCE**2 * np.square(y).sum(axis=0)
            fit.beta[:, voxels] = np.where(tested, basis.back @ gamma, np.nan)
            fit.sigma2[voxels] = np.where(tested, error / dof, np.nan)
    return fit
