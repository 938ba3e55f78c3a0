"""Addressed random numbers: Philox4x64-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@nb.njit(nogil=True, cache=True)
def multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """High and low 64 bits of a * b."""
    a0, a1, b0, b1 = a & _LOW, a >> _HALF, b & _LOW, b >> _HALF
    middle = a1 * b0 + (a0 * b0 >> _HALF)
    cross = a0 * b1 + (middle & _LOW)
    return a1 * b1 + (middle >> _HALF) + (cross >> _HALF), a * b


@nb.njit(nogil=True, cache=True)
def random_words(seed: np.uint64, i: np.uint64, out: NDArray[np.uint64]) -> None:
    """Fill `out` with stream i of this seed: Philox4x64-10, key (seed, 0), counter (block + 1, i, 0, 0)."""
    zero = np.uint64(0)
    for block in range((out.size + 3) // 4):
        c0, c1, c2, c3 = np.uint64(block + 1), i, zero, zero
        k0, k1 = seed, zero
        for _ in range(10):
            h0, l0 = multiply(_M0, c0)
            h1, l1 = multiply(_M1, c2)
            c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
            k0, k1 = k0 + _W0, k1 + _W1
        words = (c0, c1, c2, c3)
        for w in range(min(4, out.size - 4 * block)):
            out[4 * block + w] = words[w]
