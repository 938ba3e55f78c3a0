"""What sums of a group model say of themselves: design, people, sites; and which sums go together."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from numpy.typing import NDArray

#: Version of what sums are, kept with them.
VERSION = 1
#: Name of the cell of all maps.
ALL = "maps"


@dataclass(frozen=True, kw_only=True)
class AboutSums:
    """All of sums but their numbers; JSON-able.

    Parameters
    ----------
    regressors : tuple of str
    terms, coding : mapping
        As `group_design` tells them.
    min_n : int
        Least number of maps of a cell, and of a voxel.
    cells : mapping of str to int
        Maps of each cell of the design that has any: all, and those of each level of a factor.
    gram : list of list of float
        X'X of all maps, missing ones included.
    sites : mapping of str to int
        Maps by site.
    maps : tuple of str
        Digests of the maps' values; none where they are not known.
    sums_version : int
    """

    regressors: tuple[str, ...]
    terms: Mapping[str, list[str]] = field(default_factory=dict)
    coding: Mapping[str, str] = field(default_factory=dict)
    min_n: int = 1
    cells: Mapping[str, int]
    gram: list[list[float]]
    sites: Mapping[str, int] = field(default_factory=dict)
    maps: tuple[str, ...] = ()
    sums_version: int = VERSION

    @classmethod
    def of(cls, design: pd.DataFrame, min_n: int, site: str = "", maps: tuple[str, ...] = ()) -> AboutSums:
        """Of the sums of maps with this design."""
        X = design.to_numpy(dtype=np.float64)
        return cls(
            regressors=tuple(map(str, design.columns)),
            terms=dict(design.attrs.get("terms", {})),
            coding=dict(design.attrs.get("coding", {})),
            min_n=min_n,
            cells={name: int(rows.sum()) for name, rows in cells_of(design).items()},
            gram=(X.T @ X).tolist(),
            sites={site: len(X)} if site else {},
            maps=maps,
        )

    @classmethod
    def from_attrs(cls, attrs: Mapping[str, Any], where: str = "sums") -> AboutSums:
        """Of attributes that `to_attrs` made.

        Raises
        ------
        InputError
            They are of another version.
        """
        found = attrs.get("sums_version")
        if found != VERSION:
            raise InputError(where, f"have the version {found}, but {VERSION} is wanted.", "Make them again.")
        known = {name: attrs[name] for name in cls.__dataclass_fields__ if name in attrs}
        return cls(**known | {name: tuple(known[name]) for name in ("regressors", "maps")})

    def to_attrs(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {"regressors": list(self.regressors), "maps": list(self.maps)}

    @property
    def n(self) -> int:
        """Number of maps."""
        return self.cells.get(ALL, 0)

    @property
    def width(self) -> int:
        """Number of regressors."""
        return len(self.regressors)

    def with_others(self, other: AboutSums, sign: int, where: str = "sums") -> AboutSums:
        """Of the sums of both, or with a sign of -1 of those without the others.

        Raises
        ------
        InputError
            Columns or codings differ; a map is in both (or is not there to be taken away).
        """
        self.require_alike(other, where)
        own, others = set(self.maps), set(other.maps)
        wrong = own & others if sign > 0 else others - own if own else set()
        if wrong:
            what = "are in both" if sign > 0 else "are not in them"
            raise InputError(where, f"{len(wrong)} of the maps {what}, by their values.", "Each map counts once.")
        kept = (*self.maps, *other.maps) if sign > 0 else tuple(one for one in self.maps if one not in others)
        return replace(
            self,
            min_n=min(self.min_n, other.min_n) if sign > 0 else self.min_n,
            cells=_added(self.cells, other.cells, sign),
            gram=(np.asarray(self.gram) + sign * np.asarray(other.gram)).tolist(),
            sites=_added(self.sites, other.sites, sign),
            maps=kept if own and others else (),
        )

    def require_alike(self, other: AboutSums, where: str = "sums") -> None:
        """Raise `InputError` unless both are of one design, coded alike."""
        if self.regressors != other.regressors:
            what = f"are of the designs {list(self.regressors)} and {list(other.regressors)}."
            raise InputError(where, what, "Use the same columns in one order.")
        if self.coding != other.coding:
            differ = sorted(n for n in {**self.coding, **other.coding} if self.coding.get(n) != other.coding.get(n))
            one, two = ({name: about.coding.get(name, "nothing") for name in differ} for about in (self, other))
            raise InputError(
                where,
                f"are coded as {one} and {two}.",
                "Code and centre covariates alike: C(x, levels=[...]) with all levels, and a fixed number as centre.",
            )

    def require_told(self) -> None:
        """Raise `InputError` where they tell of fewer than `min_n` maps."""
        small = {name: count for name, count in {ALL: 0, **self.cells}.items() if count < self.min_n}
        if small:
            listed = ", ".join(f"{name}: {count}" for name, count in small.items())
            raise InputError(
                "sums",
                f"would tell of fewer than {self.min_n} maps ({listed}).",
                "Leave these maps and columns out, or agree on a smaller min_n.",
            )


def _added(one: Mapping[str, int], other: Mapping[str, int], sign: int) -> dict[str, int]:
    """Counts of both; those of nothing are left out."""
    counts = {name: one.get(name, 0) + sign * other.get(name, 0) for name in {**one, **other}}
    return {name: count for name, count in counts.items() if count}


def cells_of(design: pd.DataFrame) -> dict[str, NDArray[np.bool_]]:
    """Which maps are in each cell, by its name: all of them; and of each term that codes a factor, those of a level.

    That of the reference is told too, for its sums are those of the others taken from those of all.
    """
    terms = design.attrs.get("terms") or {str(name): [name] for name in design.columns}
    found = {ALL: np.ones(len(design), dtype=bool)}
    for term, columns in terms.items():
        rows = design[columns].to_numpy(dtype=np.float64)
        levels, level = np.unique(rows, axis=0, return_inverse=True)
        if np.isin(levels, (-1, 0, 1)).all() and len(levels) <= rows.shape[1] + 1:
            found |= {_cell(term, columns, one): level.ravel() == i for i, one in enumerate(levels)}
    return found


def _cell(term: str, columns: list[str], level: NDArray[np.float64]) -> str:
    """Name of a level by its codes."""
    if not level.any():
        return f"without {term}"
    if np.count_nonzero(level) == 1 and level.max() == 1:
        return str(columns[int(level.argmax())])
    return f"{term} = {level.astype(int).tolist()}"
