"""An analysis of maps that are there already: what `voxloom infer` is told."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from pydantic import ValidationError, model_validator

from voxloom.errors import InputError
from voxloom.spec.digests import digest
from voxloom.spec.group_analysis import GroupAnalysis
from voxloom.spec.section import Section, first_complaint
from voxloom.spec.values import AbsolutePath, Paths

#: Name of the one kind of maps, where a study has contrasts of its first level.
MAPS = "maps"


class GivenMaps(Section):
    """Maps of one kind, a map a subject, on one grid."""

    files: Paths
    """One 4-D image or several 3-D images."""
    variances: Paths = ()
    """Their variances, as the maps are given; none where they are not known."""
    mask: AbsolutePath | None = None
    """Mask image; null: voxels that are finite in every map and not 0 in all of them."""
    tables: Paths = ()
    """Tables with a row per map, whose columns say who may be exchanged."""


class MapsAnalysis(GroupAnalysis):
    """Group models on given maps; `parse_maps_analysis` makes one."""

    maps: GivenMaps

    def group_contrasts(self, model: str) -> tuple[str, ...]:
        """The one kind of maps."""
        return (MAPS,)

    def expression_of(self, contrast: str) -> str:
        """How they were made is not known."""
        return contrast

    @property
    def combine_digest(self) -> str:
        """Digest of the files' names."""
        unknown = set() if self.maps.variances else {"variances"}
        return digest(self.maps.model_dump(exclude={"tables", *unknown}))


class GivenSums(Section):
    """Sums of sites, instead of their maps."""

    files: Paths
    """As `voxloom group --export-sums` writes them."""
    checksums: tuple[str, ...]
    """Of the files."""


class SumsAnalysis(GroupAnalysis):
    """A group model of the sums of sites, whose design is theirs; `parse_sums_analysis` makes one."""

    sums: GivenSums

    @model_validator(mode="after")
    def _least_squares(self) -> Self:
        for name, model in self.group.items():
            where = f"group.{name}"
            if model.estimator != "ols" or model.groups is not None:
                raise InputError(f"{where}.estimator", "is not ols.", "Sums tell of the pooled least squares alone.")
            if "permutation" in model.inference.method:
                raise InputError(f"{where}.inference", "has permutations.", "Sums have no maps to rearrange.")
        return self

    def group_contrasts(self, model: str) -> tuple[str, ...]:
        """The one kind of maps."""
        return (MAPS,)

    def expression_of(self, contrast: str) -> str:
        """How they were made is not known."""
        return contrast

    @property
    def combine_digest(self) -> str:
        """Digest of what is in the files."""
        return digest({"sums": self.sums.checksums})


A = TypeVar("A", bound=GroupAnalysis)


def parse_maps_analysis(raw: dict[str, Any], *, name: str = "maps") -> MapsAnalysis:
    """Make an analysis of given maps.

    Parameters
    ----------
    raw : mapping
    name : str
        Store and output take their names from it where they have none.

    Raises
    ------
    InputError
        Something is not as wanted.
    """
    return _parsed(MapsAnalysis, raw, name)


def parse_sums_analysis(raw: dict[str, Any], *, name: str = "sums") -> SumsAnalysis:
    """Make an analysis of given sums; as `parse_maps_analysis`."""
    return _parsed(SumsAnalysis, raw, name)


def _parsed(kind: type[A], raw: dict[str, Any], name: str) -> A:
    try:
        return kind.model_validate(raw, context={"name": name})
    except ValidationError as error:
        keys, what, remedy = first_complaint(error)
        raise InputError(".".join(keys), what, remedy) from None
