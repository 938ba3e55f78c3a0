"""Section `data`: where the data are and which of them are analysed; sections `store` and `output`."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, ValidationInfo, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.entities import ENTITIES, short_name
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import Section, did_you_mean
from voxloom.spec.values import AbsolutePath, Location, Name, Paths, Words, absolute, one_or_many


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


Filters = Annotated[
    dict[str, tuple[str, ...]],
    BeforeValidator(_filters, json_schema_input_type=dict[str, str | int | list[str | int]]),
]
#: Ways to make the study's voxels of the masks of its runs.
MASK_RULES = ("union", "intersection")
#: Folders that lie beside those of the sites in the output.
_TAKEN = frozenset({"group"})


class Dataset(Section):
    """One BIDS dataset; in a study of several, a site."""

    bids_dir: AbsolutePath
    """Raw BIDS dataset; events, sidecars and participants.tsv come from here."""
    derivatives: Paths | None = None
    """As `data.derivatives`."""
    filters: Filters = Field(default_factory=dict)
    """As `data.filters`, which hold where the site does not say otherwise."""
    t_r: float | None = Field(default=None, gt=0, le=100)
    """As `data.t_r`, which holds where the site does not say otherwise."""


class Template(Section):
    """A mask on another grid of the same space."""

    template: AbsolutePath
    """Mask image; each voxel of the study takes the value of the voxel of this image that its centre lies in."""

    def __str__(self) -> str:
        return f"template {self.template}"


def _kind_of_mask(value: Any) -> str:
    return "template" if isinstance(value, (dict, Template)) else "rule"


class Data(Section):
    """Where the data are, and which of them are analysed."""

    bids_dir: AbsolutePath | None = None
    """Raw BIDS dataset; events, sidecars and participants.tsv come from here. Of several datasets: `sites`."""
    derivatives: Paths | None = None
    """Folders of preprocessed data; of several, the first that has a file wins. null: `derivatives/fmriprep`
    in `bids_dir` where it exists, else the raw images. An empty list: the raw images."""
    task: Name | None = None
    """Task; null where the dataset has only one."""
    space: Name | None = None
    """Space of the images; `native` for images without a space entity; null where there is only one."""
    filters: Filters = Field(default_factory=dict)
    """Values wanted of other BIDS entities (subject, session, run, desc, ...)."""
    sites: dict[Name, Dataset] = Field(default_factory=dict)
    """Several datasets in one study, by the name of the site, instead of `bids_dir` and `derivatives`."""
    exclude: Words = ()
    """Runs left out, by their ids, such as `sub-02_task-rest_run-1`."""
    mask: Annotated[
        Annotated[Name, Tag("rule")] | Annotated[Template, Tag("template")], Discriminator(_kind_of_mask)
    ] = "union"
    """Voxels of the study: `union` or `intersection` of the masks of the runs, a mask image on their grid, or
    `{template: <mask image>}` on any grid of the same space."""
    t_r: float | None = Field(default=None, gt=0, le=100)
    """Repetition time in s, when sidecars and headers are missing or wrong."""
    max_error_sd: float | None = Field(default=None, gt=0, le=0.25)
    """Keep images rounded: no value changes by more than this part of its voxel's temporal SD; null: as they are."""
    changed_sources: Literal["reingest", "refuse"] = "reingest"
    """What becomes of a run whose files were changed after they were ingested: it is ingested again, or set aside."""

    @field_validator("mask", mode="before")
    @classmethod
    def _union_unless_given(cls, value: Any) -> Any:
        return "union" if value is None else value

    @field_validator("mask")
    @classmethod
    def _mask_path(cls, value: str | Template, info: ValidationInfo) -> str | Template:
        if isinstance(value, Template) or value in MASK_RULES:
            return value
        return str(absolute(Path(value), info))

    @field_validator("sites")
    @classmethod
    def _file_names(cls, value: dict[str, Dataset]) -> dict[str, Dataset]:
        for name in value:
            if not re.fullmatch("[A-Za-z0-9]+", name) or name in _TAKEN:
                raise InputError(name, "cannot name a site.", "Use letters and digits only, and not `group`.")
        require_distinct_labels(value, "")
        return dict(sorted(value.items()))

    @field_validator("exclude")
    @classmethod
    def _as_a_set(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _one_dataset_or_sites(self) -> Self:
        if not self.sites and self.bids_dir is None:
            raise InputError("bids_dir", "is missing.", "Give the dataset, or several of them under `sites`.")
        for name in ("bids_dir", "derivatives") if self.sites else ():
            if getattr(self, name) is not None:
                raise InputError(name, "is given beside `sites`.", "Give it to each site.")
        return self

    @cached_property
    def datasets(self) -> dict[str, Dataset]:
        """The datasets by site, with the filters and the TR that hold there; the only one has no name."""
        if self.bids_dir is not None:
            only = Dataset.model_construct(
                bids_dir=self.bids_dir, derivatives=self.derivatives, filters=self.filters, t_r=self.t_r
            )
            return {"": only}
        return {
            name: site.model_copy(update={"filters": self.filters | site.filters, "t_r": site.t_r or self.t_r})
            for name, site in self.sites.items()
        }

    @property
    def voxels(self) -> Any:
        """What says which voxels a study has, for digests."""
        return self.mask.model_dump() if isinstance(self.mask, Template) else Path(self.mask)

    @property
    def preprocessed(self) -> tuple[str, ...]:
        """Names of the folders of preprocessed data, the default one spelled out; of several sites none."""
        if self.sites:  # a site that is added later renames nothing; what a run is made of, its own task tells
            return ()
        return ("fmriprep",) if self.derivatives is None else tuple(path.name for path in self.derivatives)

    @property
    def rounding(self) -> dict[str, float]:
        """What digests and sidecars of results say of rounded images; nothing where images are as they were."""
        return {} if self.max_error_sd is None else {"max_error_sd": self.max_error_sd}

    @property
    def chosen(self) -> dict[str, Any]:
        """What says which runs are analysed, where their files lie apart."""
        sites = {name: site.filters for name, site in self.sites.items()}
        more = {"sites": sites, "exclude": self.exclude}
        return {"task": self.task, "filters": self.filters} | {key: value for key, value in more.items() if value}


def _named_after_the_file(suffix: str) -> BeforeValidator:
    """Fill null with the name of the analysis file and a suffix."""

    def fill(value: Any, info: ValidationInfo) -> Any:
        return f"{(info.context or {}).get('name', 'analysis')}{suffix}" if value is None else value

    return BeforeValidator(fill, json_schema_input_type=str | None)


class Store(Section):
    """Where the study is kept while it is worked on."""

    path: Annotated[Location, _named_after_the_file(".zarr")] = Field(default=None, validate_default=True)
    """Folder of the Zarr store, or `s3://bucket/prefix`; by default beside the analysis file, `<name>.zarr`."""


class Output(Section):
    """Where the maps go."""

    dir: Annotated[AbsolutePath, _named_after_the_file("-results")] = Field(default=None, validate_default=True)
    """Folder of the results, a BIDS derivative; by default beside the analysis file, `<name>-results`."""
