"""Connected components of a map above every height at once, as a tree made in one descending sweep.

Voxels enter in descending order; each joins the components around it, and is the node of what they are then. A
node is alive from its own height down to that of its parent, with a fixed extent. So whatever is summed over
heights is one pass from the roots down, in which nothing cancels; among equal heights only the last voxel's node
is alive over any height at all, and results do not depend on the order of voxels to the last bit.

The other way, a union-find that keeps each voxel's offset from its root, needs no tree, but offsets are differences of
large sums: on a map of 260,000 voxels it took 1.3 times as long, and the least scores of TFCE were off by 0.8%.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numba as nb
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int32]

#: Digits of the radix sort: 6 of 11 bits for the 64 of a float.
DIGITS, BITS = 6, 11
#: A cell where no voxel has entered.
EMPTY = np.int32(-(2**31))
#: Parent of a root.
NONE = np.int32(-1)


class Tree(NamedTuple):
    """Nodes in the order in which their voxels enter.

    Attributes
    ----------
    voxel : (N,) array of int32
        In descending order of the map.
    parent : (N,) array of int32
        Node, a later one, that a component becomes next; `NONE` at the end.
    extent : (N,) array of int32
        Voxels of the component.
    """

    voxel: IntArray
    parent: IntArray
    extent: IntArray


class Scratch(NamedTuple):
    """Room for the trees of one map after the other."""

    keys: NDArray[np.uint64]  # (2, V)
    voxels: IntArray  # (2, V)
    parent: IntArray  # (V,)
    extent: IntArray  # (V,)
    link: IntArray  # (cells,) towards the root of the component; at a root minus its extent
    node: IntArray  # (cells,) latest node of the component, at its root


@nb.njit(nogil=True, cache=True)
def make_scratch(n_voxels: int, n_cells: int) -> Scratch:
    """Room for maps of V voxels: 32 bytes a voxel and 8 a cell."""
    return Scratch(
        np.empty((2, n_voxels), np.uint64),
        np.empty((2, n_voxels), np.int32),
        np.empty(n_voxels, np.int32),
        np.empty(n_voxels, np.int32),
        np.empty(n_cells, np.int32),
        np.empty(n_cells, np.int32),
    )


@nb.njit(nogil=True, cache=True)
def grow(values: FloatArray, floor: float, cell: IntArray, steps: IntArray, scratch: Scratch) -> Tree:
    """Tree of the voxels with values (V,) of at least `floor`; NaN take no part. It lasts until the next one.

    `link` is a union-find forest by extent with path halving; the first neighbour's component takes the voxel in.
    """
    voxels = _descending(values, floor, scratch)
    parent, extent, link, node = scratch.parent, scratch.extent, scratch.link, scratch.node
    link[:] = EMPTY
    for k in range(len(voxels)):
        here = cell[voxels[k]]
        root, members = EMPTY, np.int32(1)
        for step in steps:
            there = np.int32(here + step)
            up = link[there]
            if up in (EMPTY, root):
                continue
            while up >= 0:
                further = link[up]
                if further >= 0:
                    link[there] = further
                there, up = up, further
            if there == root:
                continue
            parent[node[there]] = k
            if root == EMPTY:
                root = there
            elif -up >= members:
                link[root] = there
                root = there
            else:
                link[there] = root
            members -= up
        if root == EMPTY:
            root = here
        else:
            link[here] = root
        link[root] = -members
        node[root] = k
        parent[k] = NONE
        extent[k] = members
    return Tree(voxels, parent[: len(voxels)], extent[: len(voxels)])


@nb.njit(nogil=True, cache=True)
def _descending(values: FloatArray, floor: float, scratch: Scratch) -> IntArray:
    """Voxels of at least `floor` from the greatest down, by a radix sort of the bits of their values."""
    n = _encode(values, floor, scratch)
    keys, other_keys = scratch.keys[0], scratch.keys[1]
    voxels, other_voxels = scratch.voxels[0], scratch.voxels[1]
    starts = _starts(keys[:n])
    mask = np.uint64(2**BITS - 1)
    for digit in range(DIGITS):
        if starts[digit, 0] < 0:
            continue
        shift = np.uint64(BITS * digit)
        for i in range(n):
            d = (keys[i] >> shift) & mask
            at = starts[digit, d]
            starts[digit, d] = at + 1
            other_keys[at], other_voxels[at] = keys[i], voxels[i]
        keys, other_keys = other_keys, keys
        voxels, other_voxels = other_voxels, voxels
    entered: IntArray = voxels[:n]
    return entered


@nb.njit(nogil=True, cache=True)
def _encode(values: FloatArray, floor: float, scratch: Scratch) -> int:
    """Write voxels of at least `floor` and unsigned keys that ascend as their values descend; return how many."""
    keys, voxels = scratch.keys[0], scratch.voxels[0]
    bits = values.view(np.int64)
    n = 0
    for v in range(len(values)):
        if values[v] >= floor:
            b = bits[v]
            keys[n] = np.uint64(~b & 0x7FFFFFFFFFFFFFFF if b >= 0 else b)
            voxels[n] = v
            n += 1
    return n


@nb.njit(nogil=True, cache=True)
def _starts(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Places (digit, value) where keys with this value of the digit begin; -1 where all keys share the digit."""
    counts = np.zeros((DIGITS, 2**BITS), np.int64)
    mask = np.uint64(2**BITS - 1)
    for key in keys:
        for digit in range(DIGITS):
            counts[digit, (key >> np.uint64(BITS * digit)) & mask] += 1
    for digit in range(DIGITS):
        total = 0
        for value in range(2**BITS):
            count = counts[digit, value]
            if count == len(keys):
                counts[digit, 0] = -1
                break
            counts[digit, value] = total
            total += count
    return counts
