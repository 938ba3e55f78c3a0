"""What may be rearranged under the null hypothesis: sign flips, permutations, blocks, or given rearrangements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from voxloom.errors import InputError
from voxloom.kernels.permutation.exchangeability import block_tree, free_block, moves_of, orbits
from voxloom.kernels.permutation.partition import concerns_a_mean
from voxloom.kernels.permutation.rearrange import GivenRearrangements, Rearrangements, plan_rearrangements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from voxloom.kernels.permutation.exchangeability import Block

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    Labels = Sequence[Any] | pd.Series | NDArray[Any]

SCHEMES = ("auto", "flip", "permute", "both")
KINDS = ("within", "whole")


@dataclass(frozen=True, kw_only=True, eq=False)
class Exchangeability:
    """What may be rearranged under the null hypothesis.

    Parameters
    ----------
    scheme : "auto", "flip", "permute" or "both"
        Signs of the errors are flipped (they are symmetric about 0), the errors are permuted (they are exchangeable),
        or both. "auto" flips for tests of a mean, where permuting would change nothing, and permutes else.
    blocks : labels, mapping or (n, levels) array of int, optional
        Which maps may take each other's place, in the order of the maps (a Series or DataFrame with their labels is
        matched by them). Labels, one per map, restrict exchange to maps with the same label: subjects of a repeated
        design, or sites. ``{"whole": labels}`` exchanges (or flips) maps with the same label together, as blocks;
        ``{"within": sites, "whole": subjects}`` does so within each site. A matrix holds nested blocks in PALM's
        notation (`kernels.permutation.exchangeability.block_tree`).
    variance_groups : labels or "auto", optional
        Maps that have the same variance; the statistic is then Aspin-Welch v, or G of several contrast rows. "auto"
        puts those into one group that the blocks allow to take each other's place.
    rearrangements : (P, n) array of int, optional
        These, in place of drawn ones: 1-based indices, negative for a flipped sign, the observed order first.
    """

    scheme: Literal["auto", "flip", "permute", "both"] = "auto"
    blocks: Labels | Mapping[str, Labels] | None = None
    variance_groups: Labels | Literal["auto"] | None = None
    rearrangements: ArrayLike | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise InputError("exchangeability", f"scheme {self.scheme!r} is unknown.", f"One of {SCHEMES} is wanted.")
        if isinstance(self.blocks, Mapping) and not (self.blocks and set(self.blocks) <= set(KINDS)):
            raise InputError("blocks", f"has the keys {list(self.blocks)}.", f"Labels under {KINDS} are wanted.")
        if isinstance(self.variance_groups, str) and self.variance_groups != "auto":
            raise InputError("variance_groups", f"is {self.variance_groups!r}.", '"auto" or a label per map is wanted.')


BY_DESIGN = Exchangeability()


class Exchange(NamedTuple):
    """What `Exchangeability` comes to for one design and contrast.

    Attributes
    ----------
    scheme : str
        As the design decided, or "given".
    block : Block
        Of the n maps.
    orbits : array of int
        Equal for data that permutations bring to each other's place.
    given : array of int32 or None
    groups : (n,) array of int or None
        Variance groups that are asked for.
    """

    scheme: str
    block: Block
    orbits: IntArray
    given: NDArray[np.int32] | None
    groups: IntArray | None

    @property
    def flips(self) -> bool:
        """Whether signs change."""
        return self.scheme != "permute" if self.given is None else bool((self.given < 0).any())

    def plan(self, labels: IntArray, n_perm: int, seed: int) -> Rearrangements | GivenRearrangements:
        """Rearrangements of data with these labels, equal where exchanging them changes nothing.

        Raises
        ------
        InputError
            There is but one, blocks that are to change places are not alike, or given ones are of other length.
        """
        if self.given is None:
            return _more_than_one(plan_rearrangements(labels, self.scheme, n_perm, seed, self.block), self.scheme)
        if self.given.shape[1] != len(labels):
            what = f"rows hold {self.given.shape[1]} indices, but there are {len(labels)} data to rearrange."
            raise InputError("rearrangements", what, f"Rows of the indices 1 to {len(labels)} are wanted.")
        return GivenRearrangements(self.given)


def exchange(wanted: Exchangeability, M: FloatArray, C: FloatArray, maps: pd.Index[Any]) -> Exchange:
    """Choose the scheme by the design where it is open, and read blocks and given rearrangements.

    Parameters
    ----------
    wanted : Exchangeability
    M : (n, K) array
        Design.
    C : (r, K) array
        Contrast rows.
    maps : Index
        Labels of the design's rows.
    """
    block = free_block(len(M)) if wanted.blocks is None else block_tree(_columns(wanted.blocks, maps))
    if wanted.rearrangements is not None:
        given = _indices(wanted.rearrangements)
        places = _orbits_of(given)
        return Exchange("given", block, places, given, _groups(wanted, places, maps))
    scheme: str = wanted.scheme
    if scheme == "auto":
        scheme = "flip" if concerns_a_mean(M, C) else "permute"
    places = orbits(moves_of(block))
    return Exchange(scheme, block, places, None, _groups(wanted, places, maps))


def _groups(wanted: Exchangeability, places: IntArray, maps: pd.Index[Any]) -> IntArray | None:
    if wanted.variance_groups is None:
        return None
    if isinstance(wanted.variance_groups, str):
        return places
    return labels_of(wanted.variance_groups, maps, "variance_groups")


def _more_than_one(plan: Rearrangements, scheme: str) -> Rearrangements:
    if plan.n_distinct > 1:
        return plan
    raise InputError(
        "exchangeability",
        f"scheme {scheme!r} and the blocks leave 1 distinct rearrangement, the observed order: "
        "permuting changes nothing, and the smallest possible p is 1.",
        'An effect that differs between whole blocks needs blocks={"whole": ...}; a mean needs scheme="flip".',
    )


def labels_of(labels: Labels, maps: pd.Index[Any], where: str) -> IntArray:
    """Number labels, one per map, in the order they appear.

    Raises
    ------
    InputError
        Another number of them, or one is missing.
    """
    values = pd.Series(list(_in_order(labels, maps, where)), dtype=object)
    codes = np.asarray(pd.factorize(values)[0], dtype=np.int64)
    if len(codes) != len(maps):
        what = f"hold {len(codes)} labels, but there are {len(maps)} maps."
        raise InputError(where, what, "Give one per map, in order.")
    if (codes < 0).any():
        raise InputError(where, f"no label for map {int(np.argmin(codes)) + 1}.", "Give one per map.")
    return codes


def _in_order(values: Any, maps: pd.Index[Any], where: str) -> Any:
    """Rows of a labelled Series or DataFrame by the labels of the maps; what has none, as it stands."""
    index = getattr(values, "index", None)
    if not isinstance(index, pd.Index) or pd.RangeIndex in (type(index), type(maps)) or index.equals(maps):
        return values
    lost = maps.difference(index)
    if len(lost) or not (index.is_unique and maps.is_unique):
        raise InputError(
            where,
            f"no row for {', '.join(map(str, lost[:5]))}." if len(lost) else "repeat labels of their index.",
            "Index them as the design, or reset the index to take rows in order.",
        )
    return values.loc[maps]


def _columns(blocks: Labels | Mapping[str, Labels], maps: pd.Index[Any]) -> IntArray:
    """Blocks in PALM's notation, (n, levels)."""
    if isinstance(blocks, Mapping):
        return _nested({kind: labels_of(blocks[kind], maps, f"blocks.{kind}") for kind in KINDS if kind in blocks})
    if np.ndim(blocks) != 2:
        return _nested({"within": labels_of(blocks, maps, "blocks")})
    columns, n = np.asarray(_in_order(blocks, maps, "blocks")), len(maps)
    whole = np.issubdtype(columns.dtype, np.number) and bool((columns == np.round(columns)).all())
    if len(columns) != n or not whole:
        raise InputError("blocks", f"is a matrix {columns.shape}.", f"A row of whole numbers for each of {n} maps.")
    return columns.astype(np.int64)


def _nested(codes: dict[str, IntArray]) -> IntArray:
    """Columns of whole blocks within blocks."""
    n = len(next(iter(codes.values())))
    within = codes.get("within", np.zeros(n, dtype=np.int64))
    if "whole" not in codes:
        return within[:, np.newaxis] + 1
    pairs = {*zip(codes["whole"].tolist(), within.tolist())}
    if len(pairs) > codes["whole"].max() + 1:
        raise InputError(
            "blocks", "a whole block lies in several blocks of `within`.", "Whole blocks are to lie within one of them."
        )
    return np.column_stack([within + 1, -codes["whole"] - 1])


def _indices(rearrangements: ArrayLike) -> NDArray[np.int32]:
    """Check given rearrangements."""
    given = np.asarray(rearrangements)
    if given.ndim != 2 or not given.size:
        raise InputError("rearrangements", f"has shape {given.shape}.", "A row of indices for each is wanted.")
    n = given.shape[1]
    expected = np.arange(1, n + 1)
    wrong = np.flatnonzero((np.sort(np.abs(given), axis=1) != expected).any(axis=1))
    if wrong.size:
        raise InputError(
            "rearrangements",
            f"row {wrong[0] + 1} is no permutation of 1 to {n}.",
            "Each index once is wanted, from 1 on, negative for a flipped sign.",
        )
    if (given[0] != expected).any():
        raise InputError("rearrangements", "the first is not the observed order.", "Put 1, 2, 3, ... first.")
    return given.astype(np.int32)


def _orbits_of(given: NDArray[np.int32]) -> IntArray:
    """Labels equal for maps that given rearrangements bring to each other's place."""
    label = np.arange(given.shape[1])
    for place, sources in enumerate(np.abs(given).T - 1):
        joined = np.unique(label[sources])
        if len(joined) > 1 or joined[0] != label[place]:
            joined = np.union1d(joined, label[place])
            label[np.isin(label, joined)] = joined.min()
    return label
