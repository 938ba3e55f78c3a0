"""Section `group`: models over subjects, and how their maps are thresholded."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.group_contrasts import GroupContrast, GroupContrasts
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import Section
from voxloom.spec.statistics import MaxStat, Statistic, Statistics, as_made, by_result_name
from voxloom.spec.values import AbsolutePath, Name, Words, one_or_many

Correction = Literal["bonferroni", "fdr", "permutation"]
Estimator = Literal[
    "ols",
    "unequal-variances",
    "sandwich",
    "sandwich-cr0",
    "sandwich-cr1",
    "sandwich-cr2",
    "sandwich-cr3",
    "sandwich-homogeneous",
    "random-intercept",
    "fixed",
    "reml",
    "paule-mandel",
]
AUTO = "auto"
#: Keys that came after results were first named by the others, and those that say what a null is made of.
_LATER = (
    "statistics",
    "nuisance",
    "blocks",
    "variance_groups",
    "rearrangements",
    "tail",
    "joint",
    "variance_smoothing_fwhm",
    "stop_at",
)
_OF_NULLS = (
    "scheme",
    "two_sided",
    "nuisance",
    "blocks",
    "variance_groups",
    "rearrangements",
    "variance_smoothing_fwhm",
)


def _table_for_true(value: Any) -> Any:
    return {True: "table", False: None}.get(value, value) if isinstance(value, bool) else value


class Blocks(Section):
    """Exchangeability blocks by columns of the table."""

    within: Name | None = None
    """Subjects with the same value may be exchanged."""
    whole: Name | None = None
    """Subjects with the same value are exchanged together, as one block."""

    @property
    def kinds(self) -> dict[str, str]:
        """Column by kind of block."""
        return {kind: name for kind, name in (("within", self.within), ("whole", self.whole)) if name is not None}

    @model_validator(mode="after")
    def _one_at_least(self) -> Self:
        if not self.kinds:
            raise InputError("", "names no column.", "Give `within`, `whole` or both.")
        return self


class Inference(Section):
    """How group maps are thresholded."""

    method: Annotated[
        tuple[Correction, ...],
        BeforeValidator(one_or_many, json_schema_input_type=Correction | tuple[Correction, ...]),
    ] = ("bonferroni", "fdr", "permutation")
    """Corrections for multiple comparisons."""
    alpha: float = Field(default=0.05, gt=0, lt=1)
    two_sided: bool = True
    n_perm: int = Field(default=10_000, ge=1)
    """Rearrangements of the maximum statistic, the observed one included."""
    scheme: Literal["auto", "flip", "permute", "both"] = "auto"
    """Sign flips (errors symmetric), permutations (errors exchangeable), both, or what the design asks for."""
    statistics: Statistics = (MaxStat(),)
    """What is taken of the whole map in every rearrangement: `max_stat`, `cluster_size`, `cluster_mass`, `tfce`, each
    alone or with its parameters, such as `{cluster_size: {threshold: 0.01}}`."""
    nuisance: Literal["freedman-lane", "dekker", "ter-braak", "manly", "huh-jhun"] = "freedman-lane"
    """What is done with the columns of the design that are not tested."""
    blocks: Name | Blocks | tuple[Name, ...] | None = None
    """Who may be exchanged with whom: a column of the table, or `site`, within whose values subjects are exchanged;
    `{within: site, whole: family}`; or a list of columns of nested blocks in PALM's notation."""
    variance_groups: Name | None = None
    """Column of the table whose values say which subjects share a variance, or `site`; `auto`: as the blocks say."""
    rearrangements: AbsolutePath | None = None
    """Table of rearrangements to take in place of drawn ones, the observed order first: 1-based indices, negative for a
    flipped sign, as PALM saves them."""
    tail: Literal["gpd", "gamma"] | None = None
    """Distribution fitted to the null for p below what the rearrangements resolve."""
    joint: Literal["contrasts", "modalities", "all"] | None = None
    """Correct p also over the `contrasts` of the model, over the `modalities` (the kinds of maps that it is fitted to:
    first-level contrasts, or lists of maps), or over `all` of both."""
    variance_smoothing_fwhm: float | None = Field(default=None, gt=0)
    """Test pseudo-t: the variance is smoothed over voxels by a Gaussian of this width, mm. For few subjects."""
    stop_at: int | None = Field(default=None, ge=1)
    """Stop counting for the uncorrected p of a voxel after so many random rearrangements that reach its statistic."""

    @field_validator("method")
    @classmethod
    def _as_a_set(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _voxel_by_voxel(self) -> Self:
        if self.stop_at is not None and self.variance_smoothing_fwhm is not None:
            what = "stops voxel by voxel, but a smoothed variance needs all voxels."
            raise InputError("stop_at", what, "Leave one of the two out.")
        return self

    @property
    def named(self) -> dict[str, Statistic]:
        """Statistics by the names of their results, as they can be made."""
        return by_result_name(as_made(self.statistics, has_z=self.variance_smoothing_fwhm is None))

    @property
    def exchange_columns(self) -> tuple[str, ...]:
        """Columns of the table that say who may be exchanged."""
        groups = (self.variance_groups,) if self.variance_groups not in (None, AUTO) else ()
        if isinstance(self.blocks, Blocks):
            return (*self.blocks.kinds.values(), *groups)
        return ((self.blocks,) if isinstance(self.blocks, str) else self.blocks or ()) + groups

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-able, for digests; without the keys that came later and are not used: results keep their names."""
        unused = {name for name in _LATER if getattr(self, name) == type(self).model_fields[name].default}
        named = {} if self.rearrangements is None else {"rearrangements": self.rearrangements.name}
        return self.model_dump(mode="json", exclude=unused) | named

    @property
    def null_settings(self) -> dict[str, Any]:
        """Those of the settings that say which rearrangements are made, and of what, their number apart."""
        return {key: value for key, value in self.settings.items() if key in _OF_NULLS}


class Harmonise(Section):
    """Maps whose sites are made alike before a model is fitted to them."""

    method: Literal["combat"] = "combat"
    """Location and scale of each site, shrunken over voxels."""
    site: Name = "site"
    """Column of the table."""
    keep: Name | None = None
    """Right-hand side over columns of the table: effects that are not to be taken for differences of sites."""
    fit_to: Name | None = None
    """Column of 0 and 1: whose maps the sites' differences are learned from; null: those of all."""


def _named_method(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


class GroupModel(Section):
    """A model over subjects; without formula and covariates, their mean."""

    formula: Name | None = None
    """Right-hand side over columns of the table, such as `age + C(sex)`."""
    covariates: Words | None = None
    """Columns of the table beside the intercept; instead of a formula."""
    table: AbsolutePath | None = None
    """Table of subjects with a `participant_id` column; by default `participants.tsv` of the dataset."""
    missing: Literal["raise", "drop"] = "raise"
    """What becomes of a subject without a row in the table, or without a finite covariate of the model: the model is
    refused, or fitted without the subject."""
    min_n: int = Field(default=1, ge=1)
    """Voxels with fewer maps are not fitted."""
    contrasts: GroupContrasts = Field(default_factory=dict)
    """Contrasts by name: an expression of the design's columns (t), a term of the formula or a list (F), `weights`, or
    `contrasts` of this model together (F); by default `mean: intercept` unless there is a formula."""
    first_level_contrasts: Literal["all"] | tuple[Name, ...] = "all"
    """First-level t contrasts this model is fitted to."""
    estimator: Estimator = "ols"
    """How it is fitted; docs/explanation/group.md says what each supposes. Only `ols` has a permutation test."""
    groups: Name | None = None
    """Column of the table, or `site`: subjects who share a variance, a random intercept or a cluster."""
    visits: Name | None = None
    """Column of the table that tells the maps of a group apart, for `sandwich-homogeneous`."""
    harmonise: Annotated[Harmonise | None, BeforeValidator(_named_method)] = None
    """Sites are made alike first: `combat`, or with its parameters."""
    influence: Annotated[Literal["table", "maps"] | None, BeforeValidator(_table_for_true)] = None
    """Which subjects matter most (Cook's distance, DFBETAS, leverage): true or `table` for a table, `maps` for these of
    every subject in the store too."""
    inference: Inference = Field(default_factory=Inference)

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, raw: Any) -> Any:
        raw = {} if raw is None else raw
        if isinstance(raw, dict) and not raw.get("contrasts") and not raw.get("formula"):
            raw = raw | {"contrasts": {"mean": "intercept"}}
        return raw

    @field_validator("contrasts")
    @classmethod
    def _file_names(cls, value: dict[str, GroupContrast]) -> dict[str, GroupContrast]:
        require_distinct_labels(value, "")
        return dict(sorted(value.items()))

    @field_validator("first_level_contrasts")
    @classmethod
    def _in_order(cls, value: Literal["all"] | tuple[str, ...]) -> Literal["all"] | tuple[str, ...]:
        return "all" if value == "all" else tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _harmonised_without_variances(self) -> Self:
        if self.harmonise is not None and self.estimator in ("fixed", "reml", "paule-mandel"):
            what = f"changes the maps, whose variances {self.estimator} takes for known."
            raise InputError("harmonise", what, "Use another estimator.")
        return self

    @model_validator(mode="after")
    def _influence_of_least_squares(self) -> Self:
        if self.influence is not None and self.estimator != "ols":
            raise InputError("influence", f"is told of ols, not of {self.estimator}.", "Leave one of the two out.")
        return self

    @model_validator(mode="after")
    def _one_that_can_be_permuted(self) -> Self:
        if self.estimator == "ols" or "permutation" not in self.inference.method:
            return self
        if "method" in self.inference.model_fields_set:
            what = f"has a permutation test, but the estimator is {self.estimator!r}."
            raise InputError("inference.method", what, "Leave `permutation` out, or use `ols` with variance_groups.")
        rest = tuple(name for name in self.inference.method if name != "permutation")
        inference = self.inference.model_copy(update={"method": rest})
        return self.model_copy(update={"inference": inference})

    @property
    def settings(self) -> dict[str, Any]:
        """JSON-able, for digests, inference apart; without the keys that came later and are not used."""
        later = ("estimator", "groups", "missing", "min_n", "visits", "harmonise")
        unused = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(mode="json", exclude={"inference", "influence", *unused})

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        if self.formula is not None and self.covariates is not None:
            raise InputError("covariates", "is given beside a formula.", "Put the covariates into the formula.")
        if not self.contrasts:
            raise InputError("contrasts", "is missing, but a formula needs them.", "Name columns of its design.")
        return self
