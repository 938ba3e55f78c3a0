"""Section `group`: models over subjects, and how their maps are thresholded."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import Section
from voxloom.spec.values import AbsolutePath, Name, Words, one_or_many

Correction = Literal["bonferroni", "fdr", "permutation"]


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
    scheme: Literal["auto", "flip", "permute"] = "auto"
    """Sign flips (errors symmetric), permutations (errors exchangeable), or what the design asks for."""

    @field_validator("method")
    @classmethod
    def _as_a_set(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(sorted(set(value)))


class GroupModel(Section):
    """A model over subjects; without formula and covariates, their mean."""

    formula: Name | None = None
    """Right-hand side over columns of the table, such as `age + C(sex)`."""
    covariates: Words | None = None
    """Columns of the table beside the intercept; instead of a formula."""
    table: AbsolutePath | None = None
    """Table of subjects with a `participant_id` column; by default `participants.tsv` of the dataset."""
    contrasts: dict[Name, Name] = Field(default_factory=dict)
    """Contrasts of the design's columns by name; by default `mean: intercept` unless there is a formula."""
    first_level_contrasts: Literal["all"] | tuple[Name, ...] = "all"
    """First-level t contrasts this model is fitted to."""
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
    def _file_names(cls, value: dict[str, str]) -> dict[str, str]:
        require_distinct_labels(value, "")
        return {name: " ".join(expression.split()) for name, expression in sorted(value.items())}

    @field_validator("first_level_contrasts")
    @classmethod
    def _in_order(cls, value: Literal["all"] | tuple[str, ...]) -> Literal["all"] | tuple[str, ...]:
        return "all" if value == "all" else tuple(sorted(set(value)))

    @model_validator(mode="after")
    def _one_design(self) -> Self:
        if self.formula is not None and self.covariates is not None:
            raise InputError("covariates", "is given beside a formula.", "Put the covariates into the formula.")
        if not self.contrasts:
            raise InputError("contrasts", "is missing, but a formula needs them.", "Name columns of its design.")
        return self
