"""What a page is made of: sections of text, facts, tables, pictures and maps. Plain data; `page` draws them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd

    from voxloom.report.volumes import Volume


@dataclass(frozen=True, kw_only=True)
class Text:
    """Paragraphs."""

    kind: ClassVar[str] = "text"
    paragraphs: Sequence[str]
    role: str = "prose"
    """`prose`, or `note` for what the reader must not miss."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Names and what they are; of a value that is a mapping, its entries."""

    kind: ClassVar[str] = "facts"
    rows: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table; numbers are shown with three digits, whatever they are kept with."""

    kind: ClassVar[str] = "table"
    frame: pd.DataFrame
    caption: str = ""
    links: Sequence[str] = ()
    """Where the first cell of each row leads."""
    places: Mapping[str, int] = field(default_factory=dict)
    """Digits behind the point, of columns that have the same in every row."""

    @property
    def numeric(self) -> list[bool]:
        """Whether each column holds numbers, which stand at its right."""
        return [kind.kind in "iufc" for kind in self.frame.dtypes]


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A drawing as an element of the page; wide ones scroll in their frame on a narrow screen."""

    kind: ClassVar[str] = "picture"
    markup: str
    caption: str
    wide: bool = False


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Drawings side by side where there is room."""

    kind: ClassVar[str] = "pictures"
    each: Sequence[Picture]


@dataclass(frozen=True, kw_only=True)
class Map:
    """One map of `Maps`.

    Parameters
    ----------
    name : str
    volume : Volume
    threshold : float, optional
        Where the slider begins; a map without one is drawn whole, in a scale from 0.
    unit : str
    marks : mapping of str to float
        Thresholds with a name, to jump to.
    tables : sequence of Table
        Columns ``x``, ``y``, ``z`` lead there on the page.
    is_z : bool
        Whether p can be told from its values.
    """

    name: str
    volume: Volume
    threshold: float | None = None
    unit: str = ""
    marks: Mapping[str, float] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    note: str = ""
    pictures: Sequence[Picture] = ()
    is_z: bool = False

    @property
    def facts(self) -> dict[str, Any]:
        """What the page's program needs to know."""
        told = {"name": self.name, "threshold": self.threshold, "unit": self.unit, "is_z": self.is_z}
        return {**self.volume.facts, **told, "marks": dict(self.marks)}


@dataclass(frozen=True, kw_only=True)
class Maps:
    """Maps to choose from, on one background: glass brain, slices, viewer."""

    kind: ClassVar[str] = "maps"
    each: Sequence[Map]
    background: Volume


@dataclass(frozen=True, kw_only=True)
class Code:
    """Text that is shown on request, as it is."""

    kind: ClassVar[str] = "code"
    summary: str
    text: str


Block = Text | Code | Facts | Table | Picture | Pictures | Maps


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a page with a heading."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole page.

    Parameters
    ----------
    title, subtitle : str
    figures : mapping of str to str
        The few numbers at its top, by name.
    sections : sequence of Section
    inputs : str
        Digest of what it is made of; whoever looks later finds it in the head.
    """

    title: str
    subtitle: str
    figures: Mapping[str, str]
    sections: Sequence[Section]
    inputs: str = ""

    @property
    def maps(self) -> list[Maps]:
        """Every block of maps, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Maps)]

    @property
    def volumes(self) -> list[Volume]:
        """Every volume once."""
        found = {one.id: one for maps in self.maps for one in (maps.background, *(m.volume for m in maps.each))}
        return list(found.values())
