"""Which maps are there at which voxel. Voxels with the same set of maps (a pattern) share one design.

So what a model needs of its design is made once for each pattern, and its voxels are fitted side by side.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from voxloom.kernels.linalg import sub_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    #: Fits voxels of one pattern: ``solve(*maps (n, v)) -> (..., v) arrays``.
    Solve = Callable[..., Sequence[FloatArray]]

#: Bytes of the maps of one sub-block, of which a fit holds three copies: 4096 voxels of up to 1,024 maps.
BLOCK_BYTES = 32 * 2**20


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


def solve_by_pattern(
    prepare: Callable[[BoolArray], Solve | None],
    maps: Sequence[NDArray[np.floating]],
    pattern: NDArray[np.int32],
    present: BoolArray,
    shapes: Sequence[tuple[int, ...]],
) -> tuple[FloatArray, ...]:
    """Fit every voxel with the maps that it has; voxel v of the results depends on voxel v alone.

    Parameters
    ----------
    prepare : callable
        Called once for each pattern that occurs, with the rows that are there (n,); None where they cannot tell
        anything.
    maps : sequence of (n, V) arrays
        Not finite where missing.
    pattern : (V,) array of int
    present : (patterns, n) array of bool
        From `group_patterns`.
    shapes : sequence of tuple of int
        Leading shapes of what `solve` returns.

    Returns
    -------
    tuple of (*shape, V) arrays
        NaN where nothing can be told.
    """
    n, n_voxels = maps[0].shape
    found = tuple(np.full((*shape, n_voxels), np.nan) for shape in shapes)
    order = np.argsort(pattern, kind="stable")
    numbers, first = np.unique(pattern[order], return_index=True)
    for number, columns in zip(numbers, np.split(order, first[1:])):
        rows = present[number]
        solve = prepare(rows)
        if solve is None:
            continue
        for block in sub_blocks(len(columns), block_size(n)):
            voxels = columns[block]
            there = (np.asarray(m[np.ix_(rows, voxels)], dtype=np.float64) for m in maps)
            for out, values in zip(found, solve(*there)):
                out[..., voxels] = values
    return found
