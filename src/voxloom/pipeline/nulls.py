"""The nulls of a group model: which there are, where they lie, and the batches in which they are made.

Rearrangement i of a test depends on its seed and i alone, and batches begin at the same numbers for any length, so a
longer test begins with the batches of a shorter one: their records stay valid, and their arrays are made longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from voxloom.models.exchangeability import Exchangeability
from voxloom.models.permutation import prepare_test
from voxloom.spec import digest

if TYPE_CHECKING:
    from voxloom.models.permutation import PreparedTest
    from voxloom.pipeline.group import GroupTest
    from voxloom.spec import Inference

#: Permutations of one task; large enough that reading the maps again for each batch costs nothing.
BATCH = 2_500
#: The first batch is shorter: a test of 1,000, which many begin with, is a whole one.
FIRST = 1_000
#: Permutations of one chunk of a null; a batch is made of whole ones.
CHUNK = 500


@dataclass(frozen=True, kw_only=True)
class Null:
    """What is made of all rearrangements for one first-level and one group contrast.

    Parameters
    ----------
    row, column : int
        The two contrasts.
    setup : PreparedTest
    path : str
        Where its arrays lie in the store.
    """

    row: int
    column: int
    setup: PreparedTest
    path: str

    @property
    def key(self) -> str:
        """Beginning of the keys of its tasks."""
        return self.path.removeprefix("nulls/")

    @property
    def batches(self) -> list[slice]:
        """Stretches of its rearrangements, one a task."""
        return batches(self.setup.n_perm)


def batches(n_perm: int) -> list[slice]:
    """Cut so many rearrangements: the first `FIRST`, then at multiples of `BATCH`; only the last batch may be short."""
    edges = [0, *(edge for edge in (FIRST, *range(BATCH, n_perm, BATCH)) if edge < n_perm), n_perm]
    return [slice(start, stop) for start, stop in pairwise(edges)]


def nulls_of(test: GroupTest, wanted: Inference, seed: int) -> list[Null]:
    """The nulls of a group model, in the order of its contrasts; none where nothing is permuted."""
    if "permutation" not in wanted.method:
        return []
    setups = prepared_all(test, wanted, seed)
    return [
        Null(row=row, column=column, setup=setup, path=null_path(test, wanted, seed, row, column, setup))
        for column, setup in enumerate(setups)
        for row in range(len(test.first_level))
    ]


def null_path(test: GroupTest, wanted: Inference, seed: int, row: int, column: int, setup: PreparedTest) -> str:
    """Where a null lies: the length is no part of its name, but the list of all rearrangements has an order of its own.

    A list of all is another null than the random one of the same test.
    """
    name = digest([test.results, wanted.scheme, wanted.two_sided, seed])
    return f"nulls/{name}/{row}-{column}{'-all' if setup.rearrangements.exhaustive else ''}"


def prepared_all(test: GroupTest, wanted: Inference, seed: int) -> list[PreparedTest]:
    """The permutation test of every group contrast: partition, scheme and number of rearrangements."""
    return [prepared(test, wanted, seed, column) for column in range(len(test.contrasts))]


def prepared(test: GroupTest, wanted: Inference, seed: int, column: int) -> PreparedTest:
    """The permutation test of one group contrast."""
    return prepare_test(
        test.design,
        list(test.contrasts.values())[column],
        n_perm=wanted.n_perm,
        exchangeability=Exchangeability(scheme=wanted.scheme),
        two_sided=wanted.two_sided,
        seed=seed,
    )
