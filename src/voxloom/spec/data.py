"""Section `data`: where the data are and which of them are analysed; sections `store` and `output`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from voxloom.errors import InputError
from voxloom.spec.entities import ENTITIES, short_name
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import AbsolutePath, Location, Name, Paths, absolute, one_or_many


def _labels_of(key: str, value: Any) -> tuple[str, ...]:
    """Values of a filter as labels: text, without the entity's own prefix."""
    values = one_or_many(value)
    if not isinstance(values, (list, tuple)) or not values:
        raise InputError(key, f"is {value!r}.", "A value or a list of values is wanted.")
    return tuple(str(v).removeprefix(f"{key}-") for v in values)


def _filters(raw: Any) -> Any:
    if not isinstance(raw, dict):
        return raw
    found: dict[str, tuple[str, ...]] = {}
    for name, value in raw.items():
        key = short_name(str(name))
        if key is None:
            raise InputError(
                str(name),
                "is not a BIDS entity.",
                did_you_mean(str(name), ENTITIES),
            )
        if key in ("task", "space"):
            raise InputError(str(name), "cannot be a filter.", f"Write `data.{key}:` instead.")
        if key in found:
            raise InputError(str(name), "is given twice, by its long and its short name.", "Keep one of them.")
        found[key] = _labels_of(key, value)
    return dict(sorted(found.items()))


class Data(Section):
    """Where the data are, and which of them are analysed."""

    bids_dir: AbsolutePath
    """Raw BIDS dataset; events, sidecars and participants.tsv come from here."""
    derivatives: Paths | None = None
    """Folders of preprocessed data; of several, the first that has a file wins. null: `derivatives/fmriprep`
    in `bids_dir` where it exists, else the raw images. An empty list: the raw images."""
    task: Name | None = None
    """Task; null where the dataset has only one."""
    space: Name | None = None
    """Space of the images; `native` for images without a space entity; null where there is only one."""
    filters: Annotated[
        dict[str, tuple[str, ...]],
        BeforeValidator(_filters, json_schema_input_type=dict[str, str | int | list[str | int]]),
    ] = Field(default_factory=dict)
    """Values wanted of other BIDS entities (subject, session, run, desc, ...)."""
    mask: Name = "union"
    """Voxels of the study: `union` or `intersection` of the masks of the runs, or a mask image."""
    t_r: float | None = Field(default=None, gt=0, le=100)
    """Repetition time in s, when sidecars and headers are missing or wrong."""

    @field_validator("mask", mode="before")
    @classmethod
    def _union_unless_given(cls, value: Any) -> Any:
        return "union" if value is None else value

    @field_validator("mask")
    @classmethod
    def _mask_path(cls, value: str, info: ValidationInfo) -> str:
        return value if value in ("union", "intersection") else str(absolute(Path(value), info))

    @property
    def preprocessed(self) -> tuple[str, ...]:
        """Names of the folders of preprocessed data, the default one spelled out."""
        return ("fmriprep",) if self.derivatives is None else tuple(path.name for path in self.derivatives)


def _named_after_the_file(suffix: str) -> BeforeValidator:
    """Fill null with the name of the analysis file and a suffix."""

    def fill(value: Any, info: ValidationInfo) -> Any:
        return f"{(info.context or {}).get('name', 'analysis')}{suffix}" if value is None else value

    return BeforeValidator(fill, json_schema_input_type=str | None)


class Store(Section):
    """Where the study is kept while it is worked on."""

    path: Annotated[Location, _named_after_the_file(".zarr")] = Field(default=None, validate_default=True)
    """Folder or URL of the Zarr store; by default beside the analysis file, `<name>.zarr`."""


class Output(Section):
    """Where the maps go."""

    dir: Annotated[AbsolutePath, _named_after_the_file("-results")] = Field(default=None, validate_default=True)
    """Folder of the results, a BIDS derivative; by default beside the analysis file, `<name>-results`."""
