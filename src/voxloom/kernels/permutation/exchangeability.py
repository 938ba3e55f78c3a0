"""Blocks of exchangeable observations: a tree, and the moves and flips it allows.

After Winkler et al. 2015, Multi-level block permutation (NeuroImage 123:253).
Observations are the leaves. The parts of a block that is exchangeable may change places as wholes, and may change sign
as wholes; those of a block that is not stay where they are, though what is inside of them may move by the same rule.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    IntArray = NDArray[np.int64]


class Block(NamedTuple):
    """A block, or one observation.

    Attributes
    ----------
    exchangeable : bool
        Whether its parts may change places, or signs, as wholes.
    parts : tuple of Block
        In the order in which equal blocks are matched; empty for an observation.
    observation : int
        Index of the observation; -1 for a block.
    """

    exchangeable: bool
    parts: tuple[Block, ...]
    observation: int = -1


class Moves(NamedTuple):
    """What a tree allows, on places: observations in the order of its leaves, so that every block is an interval.

    Attributes
    ----------
    order : (n,) array of int
        Observation of each place.
    start, n_parts, width : (moves,) arrays of int
        The `n_parts` intervals of `width` places from `start` on may change places; inner moves before outer ones.
    units : (flips, 2) array of int
        Intervals of places whose signs may change together; each gives flips that the others do not.
    """

    order: IntArray
    start: IntArray
    n_parts: IntArray
    width: IntArray
    units: IntArray


def free_block(n: int) -> Block:
    """All observations exchangeable."""
    return Block(True, tuple(Block(False, (), i) for i in range(n)))


def block_tree(columns: IntArray) -> Block:
    """Tree of nested blocks in PALM's notation.

    Parameters
    ----------
    columns : (n, levels) array of int
        A row per observation; each column divides the blocks of the column to its left. The sign of a block's
        index tells whether its parts, the blocks of the next column (observations, after the last), may be exchanged
        as wholes (+) or not (-). Different values of the first column are never exchanged.

    Raises
    ------
    InputError
        An index is 0, or a block has both signs.
    """
    if not columns.all():
        raise InputError("blocks", "hold an index 0.", "Number blocks from 1; a minus sign keeps their parts in place.")
    return _tree(columns, np.arange(len(columns)), 0, exchangeable=False)


def _tree(columns: IntArray, members: IntArray, level: int, *, exchangeable: bool) -> Block:
    if level == columns.shape[1]:
        return Block(exchangeable, tuple(Block(False, (), int(i)) for i in members))
    index = columns[members, level]
    values = list(dict.fromkeys(index.tolist()))
    if both := [value for value in values if value > 0 and -value in values]:
        raise InputError(
            "blocks", f"column {level + 1}: block {both[0]} has both signs.", "Give all of its rows one sign."
        )
    parts = [_tree(columns, members[index == value], level + 1, exchangeable=value > 0) for value in values]
    # equal structures side by side, so that families listed in another order still match
    return Block(exchangeable, tuple(sorted(parts, key=shape)))


def shape(block: Block) -> tuple[Any, ...]:
    """Structure of a block without its observations; blocks of equal shape can change places."""
    return (block.exchangeable, tuple(map(shape, block.parts))) if block.parts else ()


def size(block: Block) -> int:
    """Number of observations."""
    return sum(map(size, block.parts)) if block.parts else 1


def require_equal_parts(block: Block) -> None:
    """Raise `InputError` where blocks that are to change places are not alike."""
    for part in block.parts:
        require_equal_parts(part)
    if block.exchangeable and len(set(map(shape, block.parts))) > 1:
        sizes = sorted(set(map(size, block.parts)))
        unlike = f"of {', '.join(map(str, sizes))} observations" if len(sizes) > 1 else "of unlike inner structure"
        raise InputError(
            "blocks",
            f"{len(block.parts)} blocks {unlike} are to be exchanged as wholes.",
            "Only blocks alike can change places: give those of each size a negative block of their own "
            "(a column to the left), or leave out incomplete ones.",
        )


def moves_of(block: Block) -> Moves:
    """Moves and flips of a tree; parts move among those that are alike."""
    order, moves, units = [], [], []
    for part, start in _inner_first(block, 0):
        if not part.parts:
            order.append(part.observation)
            continue
        if part.exchangeable:
            ends = start + np.cumsum([size(inner) for inner in part.parts])
            units += [(end - size(inner), end) for inner, end in zip(part.parts, ends) if not _tiled(inner)]
            moves += list(_among_alike(part, start))
    starts, n_parts, widths = np.array(moves, dtype=np.int64).reshape(-1, 3).T.copy()
    flips = np.array(units, dtype=np.int64).reshape(-1, 2)
    return Moves(np.array(order, dtype=np.int64), starts, n_parts, widths, flips)


def _among_alike(block: Block, start: int) -> Iterator[tuple[int, int, int]]:
    """Start, number and width of parts of equal shape, which stand side by side."""
    for _, alike in groupby(block.parts, key=shape):
        parts = list(alike)
        width = size(parts[0])
        if len(parts) > 1:
            yield start, len(parts), width
        start += len(parts) * width


def without_moves(moves: Moves) -> Moves:
    """Flips alone."""
    return moves._replace(start=moves.start[:0], n_parts=moves.n_parts[:0], width=moves.width[:0])


def _inner_first(block: Block, start: int) -> Iterator[tuple[Block, int]]:
    """Every block with its first place, parts before wholes."""
    place = start
    for part in block.parts:
        yield from _inner_first(part, place)
        place += size(part)
    yield block, start


def _tiled(block: Block) -> bool:
    """Whether a flip of the whole block is one of flips inside of it."""
    return block.exchangeable or bool(block.parts and all(map(_tiled, block.parts)))


def orbits(moves: Moves) -> IntArray:
    """Labels (n,) equal for observations that can come to each other's place."""
    label = np.arange(len(moves.order))
    for start, count, width in zip(moves.start, moves.n_parts, moves.width):
        for offset in range(start, start + width):
            places = np.arange(offset, start + count * width, width)
            label[np.isin(label, label[places])] = label[places].min()
    found = np.empty_like(label)
    found[moves.order] = label
    return np.unique(found, return_inverse=True)[1].reshape(-1)


def classes_of(block: Block, labels: IntArray) -> list[IntArray]:
    """For each move, which of its parts are alike up to moves inside of them: labels (n_parts,) 0 .. L - 1.

    Parameters
    ----------
    block : Block
        With parts that are alike where they can be exchanged.
    labels : (n,) array of int
        Equal for observations whose exchange changes nothing.
    """
    found: list[IntArray] = []
    _content(block, labels, found)
    return found


def _content(block: Block, labels: IntArray, found: list[IntArray]) -> Any:
    """Labels of a block in a form that moves inside of it leave alone."""
    if not block.parts:
        return int(labels[block.observation])
    contents = [_content(part, labels, found) for part in block.parts]
    if not block.exchangeable:
        return tuple(contents)
    distinct = {content: i for i, content in enumerate(sorted(set(contents)))}
    if len(contents) > 1:
        found.append(np.array([distinct[content] for content in contents], dtype=np.int64))
    return tuple(sorted(contents))
