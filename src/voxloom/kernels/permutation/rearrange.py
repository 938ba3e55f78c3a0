"""Rearrangements of observations: sign flips and permutations, drawn by address or enumerated.

A rearrangement is a row of 1-based signed indices r, as permutation tools save them: it takes the rows of a
matrix M to ``sign(r[i]) * M[|r[i]| - 1]``. Number 0 is the identity, number i a function of (seed, i) alone,
so any stretch of them can be made anywhere, in any order, and a test can be extended without redoing its
start.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, prod
from typing import TYPE_CHECKING

import numba as nb
import numpy as np

from voxloom.kernels.permutation.exchangeability import (
    Moves,
    classes_of,
    free_block,
    moves_of,
    require_equal_parts,
    without_moves,
)
from voxloom.kernels.philox import multiply, random_words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from voxloom.kernels.permutation.exchangeability import Block

    IndexArray = NDArray[np.int32]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rearrangements:
    """A finite list of rearrangements of n observations, made on demand.

    Attributes
    ----------
    scheme : "flip", "permute" or "both"
    moves : Moves
        What may change places or sign.
    classes : list of (n_parts,) arrays of int
        For each move, which of its parts are alike: swapping these changes no statistic.
    size : int
        Length of the list, the identity included.
    n_distinct : int
        Number of distinct rearrangements there are.
    seed : int
    """

    scheme: str
    moves: Moves
    classes: list[IntArray]
    size: int
    n_distinct: int
    seed: int

    @property
    def exhaustive(self) -> bool:
        """Whether the list holds every distinct rearrangement once; else all but number 0 are random draws."""
        return self.size == self.n_distinct

    @property
    def mirrored(self) -> bool:
        """Whether number size - 1 - i is number i with every sign flipped."""
        widths = np.diff(self.moves.units).sum()
        covered = np.zeros(len(self.moves.order), dtype=np.int64)
        for start, stop in self.moves.units:
            covered[start:stop] += 1
        return self.exhaustive and self.scheme == "flip" and widths == len(covered) and bool(covered.all())

    def draw(self, start: int, stop: int) -> IndexArray:
        """Rearrangements number `start` to `stop` - 1, shape (stop - start, n)."""
        flip = self.scheme != "permute"
        out = np.empty((stop - start, len(self.moves.order)), np.int32)
        if not self.exhaustive:
            _random(np.uint64(self.seed), start, self.moves, flip, out)
            return out
        sizes = np.array([n_arrangements(one) for one in self.classes], dtype=np.int64)
        ranks = np.array([arrangement_rank(one) for one in self.classes], dtype=np.int64)
        flat = np.concatenate([np.empty(0, np.int64), *self.classes])
        _all(start, self.moves, flat, sizes, ranks, flip, out)
        return out


@dataclass(frozen=True, eq=False)
class GivenRearrangements:
    """Rearrangements that were made elsewhere, number 0 the identity.

    Attributes
    ----------
    indices : (size, n) array of int32
    """

    indices: IndexArray
    scheme: str = "given"
    exhaustive: bool = False
    mirrored: bool = False
    n_distinct: None = None
    seed: int = 0

    @property
    def size(self) -> int:
        """Length of the list."""
        return len(self.indices)

    def draw(self, start: int, stop: int) -> IndexArray:
        """Rearrangements number `start` to `stop` - 1, shape (stop - start, n)."""
        return self.indices[start:stop]


def plan_rearrangements(
    labels: IntArray, scheme: str, n_perm: int, seed: int, block: Block | None = None
) -> Rearrangements:
    """Every distinct rearrangement where there are at most `n_perm`, else `n_perm` with the identity first.

    Parameters
    ----------
    labels : (n,) array of int
        Equal for interchangeable observations, 0 .. L - 1.
    scheme : "flip", "permute" or "both"
    n_perm : int
        Upper bound of the number of rearrangements, the identity included.
    seed : int
        0 <= seed < 2**64.
    block : Block, optional
        What may be exchanged: everything when not given.

    Raises
    ------
    InputError
        Blocks that are to change places are not alike.
    """
    block = free_block(len(labels)) if block is None else block
    moves, classes = moves_of(block), []
    if scheme == "flip":
        moves = without_moves(moves)
    else:
        require_equal_parts(block)
        classes = classes_of(block, np.asarray(labels))
    distinct = prod(map(n_arrangements, classes)) * (1 if scheme == "permute" else 2 ** len(moves.units))
    return Rearrangements(scheme, moves, classes, min(distinct, n_perm), distinct, seed)


def n_arrangements(labels: IntArray) -> int:
    """Distinct arrangements n! / prod(m_l!) of labels held m_l times."""
    return factorial(len(labels)) // prod(factorial(int(m)) for m in np.bincount(labels))


def arrangement_rank(labels: IntArray) -> int:
    """Place of `labels` among the sorted distinct arrangements of its own values."""
    counts = np.bincount(labels).tolist()
    left, rank = n_arrangements(labels), 0
    for i, label in enumerate(labels.tolist()):
        rank += left * sum(counts[:label]) // (len(labels) - i)
        left = left * counts[label] // (len(labels) - i)
        counts[label] -= 1
    return rank


@nb.njit(nogil=True, cache=True)
def _random(seed: np.uint64, first: int, moves: Moves, flip: bool, out: IndexArray) -> None:
    """Write rearrangements from number `first` on: shuffled with stream i, then flipped by the bits that follow."""
    n_shuffled = moves.n_parts.sum()
    n_signs = (len(moves.units) + 63) // 64 if flip else 0
    words = np.zeros(n_shuffled + n_signs, np.uint64)
    places, signs, parts = _work(moves)
    for i in range(len(out)):
        if first + i > 0:
            random_words(seed, np.uint64(first + i), words)
        places[:], signs[:], used = np.arange(len(places)), 1, 0
        if first + i > 0:
            for m in range(len(moves.start)):
                _shuffle(words[used : used + moves.n_parts[m]], parts)
                _move(moves, m, parts, places)
                used += moves.n_parts[m]
        if flip:
            for k in range(len(moves.units)):
                _flip(moves, k, words[n_shuffled + (k >> 6)] >> np.uint64(k & 63), signs)
        _write(moves.order, places, signs, out[i])


@nb.njit(nogil=True, cache=True)
def _all(
    first: int, moves: Moves, classes: IntArray, sizes: IntArray, ranks: IntArray, flip: bool, out: IndexArray
) -> None:
    """Write enumerated rearrangements from number `first` on: the low bits flip, the rest has a digit per move.

    Digit d stands for the sorted arrangement (identity + d) mod size of a move's parts.
    """
    places, signs, parts = _work(moves)
    for i in range(len(out)):
        places[:], signs[:], number, used = np.arange(len(places)), 1, first + i, 0
        if flip:
            for k in range(len(moves.units)):
                _flip(moves, k, np.uint64(number & 1), signs)
                number >>= 1
        for m in range(len(moves.start)):
            stop = used + moves.n_parts[m]
            _arrange(classes[used:stop], (ranks[m] + number) % sizes[m], sizes[m], parts)
            _move(moves, m, parts, places)
            number, used = number // sizes[m], stop
        _write(moves.order, places, signs, out[i])


@nb.njit(nogil=True, cache=True)
def _work(moves: Moves) -> tuple[IntArray, IntArray, IntArray]:
    """Room for places, signs and the parts of a move."""
    n = len(moves.order)
    return np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)


@nb.njit(nogil=True, cache=True)
def _shuffle(words: NDArray[np.uint64], parts: IntArray) -> None:
    """Shuffle numbers 0 .. len(words) - 1 by Fisher and Yates (bias of a step below n / 2**64)."""
    for j in range(words.size):
        parts[j] = j
    for j in range(words.size - 1, 0, -1):
        k = np.int64(multiply(words[j], np.uint64(j + 1))[0])
        parts[j], parts[k] = parts[k], parts[j]


@nb.njit(nogil=True, cache=True)
def _arrange(labels: IntArray, rank: int, left: int, parts: IntArray) -> None:
    """Write the sorted arrangement number `rank` of all `left` of the labels; equal labels keep their order."""
    n, counts = labels.size, np.bincount(labels)
    members = np.argsort(labels, kind="mergesort")
    first, used = np.cumsum(counts) - counts, np.zeros(counts.size, np.int64)
    for j in range(n):
        for label in range(counts.size):
            share = left * (counts[label] - used[label]) // (n - j)
            if rank < share:
                break
            rank -= share
        parts[j] = members[first[label] + used[label]]
        used[label] += 1
        left = share


@nb.njit(nogil=True, cache=True)
def _move(moves: Moves, m: int, parts: IntArray, places: IntArray) -> None:
    """Put part parts[j] of move m in the place of part j."""
    start, count, width = moves.start[m], moves.n_parts[m], moves.width[m]
    old = places[start : start + count * width].copy()
    for j in range(count):
        for w in range(width):
            places[start + j * width + w] = old[parts[j] * width + w]


@nb.njit(nogil=True, cache=True)
def _flip(moves: Moves, k: int, bit: np.uint64, signs: IntArray) -> None:
    """Flip unit k where the lowest bit is set."""
    if bit & np.uint64(1):
        for place in range(moves.units[k, 0], moves.units[k, 1]):
            signs[place] = -signs[place]


@nb.njit(nogil=True, cache=True)
def _write(order: IntArray, places: IntArray, signs: IntArray, out: IndexArray) -> None:
    for place in range(order.size):
        out[order[place]] = signs[place] * (order[places[place]] + 1)
