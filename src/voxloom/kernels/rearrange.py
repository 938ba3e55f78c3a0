"""Rearrangements of observations: sign flips and permutations, drawn by address or enumerated.

A rearrangement is a row of 1-based signed indices r, as permutation tools save them: it takes the rows of a
matrix M to ``sign(r[i]) * M[|r[i]| - 1]``. Number 0 is the identity, number i a function of (seed, i) alone,
so any stretch of them can be made anywhere, in any order, and a test can be extended without redoing its
start.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, prod
from typing import TYPE_CHECKING, Literal

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    IndexArray = NDArray[np.int32]

Scheme = Literal["flip", "permute"]

_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
# Constants of Philox4x64-10 (Salmon et al. 2011, Parallel random numbers: as easy as 1, 2, 3).
_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)


@dataclass(frozen=True, eq=False)
class Rearrangements:
    """A finite list of rearrangements of n observations, made on demand.

    Attributes
    ----------
    scheme : "flip" or "permute"
    labels : (n,) array of int
        Observations with equal labels are interchangeable: swapping them changes no statistic. The identity
        has the labels as they stand.
    size : int
        Length of the list, the identity included.
    exhaustive : bool
        Whether the list holds every distinct rearrangement once; else all but number 0 are random draws.
    seed : int
    """

    scheme: Scheme
    labels: NDArray[np.int64]
    size: int
    exhaustive: bool
    seed: int

    @property
    def mirrored(self) -> bool:
        """Whether number size - 1 - i is number i with every sign flipped."""
        return self.exhaustive and self.scheme == "flip"

    def draw(self, start: int, stop: int) -> IndexArray:
        """Rearrangements number `start` to `stop` - 1, shape (stop - start, n)."""
        n = len(self.labels)
        if not self.exhaustive:
            random = _random_flips if self.scheme == "flip" else _random_permutations
            return np.asarray(random(np.uint64(self.seed), start, stop, n), dtype=np.int32)
        if self.scheme == "flip":
            return np.asarray(_all_flips(start, stop, n), dtype=np.int32)
        return np.asarray(
            _all_arrangements(self.labels, arrangement_rank(self.labels), self.size, start, stop),
            dtype=np.int32,
        )


def plan_rearrangements(labels: NDArray[np.int64], scheme: Scheme, n_perm: int, seed: int) -> Rearrangements:
    """Every distinct rearrangement where there are at most `n_perm`, else `n_perm` with the identity first.

    Parameters
    ----------
    labels : (n,) array of int
        Equal for interchangeable observations, 0 .. L - 1.
    scheme : "flip" or "permute"
    n_perm : int
        Upper bound of the number of rearrangements, the identity included.
    seed : int
        0 <= seed < 2**64.
    """
    distinct = count_distinct(labels, scheme)
    exhaustive = distinct <= n_perm
    size = distinct if exhaustive else n_perm
    return Rearrangements(scheme, np.asarray(labels, dtype=np.int64), size, exhaustive, seed)


def count_distinct(labels: NDArray[np.int64], scheme: Scheme) -> int:
    """Count distinct rearrangements: 2^n flips, or n! / prod(m_l!) arrangements of labels held m_l times."""
    if scheme == "flip":
        return int(2 ** len(labels))
    return factorial(len(labels)) // prod(factorial(int(m)) for m in np.bincount(labels))


def arrangement_rank(labels: NDArray[np.int64]) -> int:
    """Place of `labels` among the sorted distinct arrangements of its own values."""
    counts = np.bincount(labels).tolist()
    left, rank = count_distinct(labels, "permute"), 0
    for i, label in enumerate(labels.tolist()):
        rank += left * sum(counts[:label]) // (len(labels) - i)
        left = left * counts[label] // (len(labels) - i)
        counts[label] -= 1
    return rank


@nb.njit(nogil=True, cache=True)
def _multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
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
            h0, l0 = _multiply(_M0, c0)
            h1, l1 = _multiply(_M1, c2)
            c0, c1, c2, c3 = h1 ^ c1 ^ k0, l1, h0 ^ c3 ^ k1, l0
            k0, k1 = k0 + _W0, k1 + _W1
        words = (c0, c1, c2, c3)
        for w in range(min(4, out.size - 4 * block)):
            out[4 * block + w] = words[w]


@nb.njit(nogil=True, cache=True)
def _random_flips(seed: np.uint64, start: int, stop: int, n: int) -> IndexArray:
    """Flip observation j in number i where bit j of stream i is set."""
    out = np.empty((stop - start, n), np.int32)
    words = np.empty((n + 63) // 64, np.uint64)
    for i in range(start, stop):
        words[:] = 0
        if i > 0:
            random_words(seed, np.uint64(i), words)
        for j in range(n):
            bit = (words[j >> 6] >> np.uint64(j & 63)) & np.uint64(1)
            out[i - start, j] = -(j + 1) if bit else j + 1
    return out


@nb.njit(nogil=True, cache=True)
def _random_permutations(seed: np.uint64, start: int, stop: int, n: int) -> IndexArray:
    """Shuffle number i by Fisher and Yates with stream i (bias of a step below n / 2**64)."""
    out = np.empty((stop - start, n), np.int32)
    words = np.empty(n, np.uint64)
    for i in range(start, stop):
        row = out[i - start]
        for j in range(n):
            row[j] = j + 1
        if i == 0:
            continue
        random_words(seed, np.uint64(i), words)
        for j in range(n - 1, 0, -1):
            k = np.int64(_multiply(words[j], np.uint64(j + 1))[0])
            row[j], row[k] = row[k], row[j]
    return out


@nb.njit(nogil=True, cache=True)
def _all_flips(start: int, stop: int, n: int) -> IndexArray:
    """Flip observation j in number i where bit j of i is set; number 2^n - 1 - i is its mirror image."""
    out = np.empty((stop - start, n), np.int32)
    for i in range(start, stop):
        for j in range(n):
            out[i - start, j] = -(j + 1) if (i >> j) & 1 else j + 1
    return out


@nb.njit(nogil=True, cache=True)
def _all_arrangements(labels: NDArray[np.int64], identity: int, size: int, start: int, stop: int) -> IndexArray:
    """Make number i the sorted arrangement (identity + i) mod size; equal labels keep their order."""
    n, n_labels = labels.size, labels.max() + 1
    members = np.argsort(labels, kind="mergesort")
    counts = np.bincount(labels)
    first = np.cumsum(counts) - counts
    out = np.empty((stop - start, n), np.int32)
    for i in range(start, stop):
        left, used, rank = size, np.zeros(n_labels, np.int64), (identity + i) % size
        for j in range(n):
            for label in range(n_labels):
                share = left * (counts[label] - used[label]) // (n - j)
                if rank < share:
                    break
                rank -= share
            out[i - start, j] = members[first[label] + used[label]] + 1
            used[label] += 1
            left = share
    return out
