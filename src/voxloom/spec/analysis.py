"""A whole analysis, the digests that name its results, and its JSON Schema."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, model_validator

from voxloom.errors import InputError
from voxloom.spec.data import Data
from voxloom.spec.digests import NOISE_GENERATIONS, digest, name_of
from voxloom.spec.first_level import FirstLevel, SubjectLevel
from voxloom.spec.group_analysis import GroupAnalysis
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence


class Analysis(GroupAnalysis):
    """A whole analysis; `load_analysis` reads it from a file."""

    version: Literal[1] = 1
    """Version of this format."""
    data: Data
    first_level: FirstLevel = Field(default_factory=FirstLevel)
    subject_level: SubjectLevel = Field(default_factory=SubjectLevel)

    @model_validator(mode="after")
    def _group_contrasts_exist(self) -> Self:
        for name, model in self.group.items():
            where = f"group.{name}.first_level_contrasts"
            if not self.group_contrasts(name):
                raise InputError(where, "has no t contrast to work on.", "Add one to first_level.contrasts.")
            for contrast in model.first_level_contrasts if model.first_level_contrasts != "all" else ():
                known = self.first_level.contrasts
                if contrast not in known:
                    raise InputError(where, f"{contrast!r} is no first-level contrast.", did_you_mean(contrast, known))
                if known[contrast].stat_type != "t":
                    raise InputError(where, f"{contrast!r} is no t contrast.", "A group model needs t contrasts.")
        return self

    @model_validator(mode="after")
    def _group_models_differ(self) -> Self:
        """Refuse a model given twice: results lie under the digest of what makes them, one place for both."""
        first: dict[str, str] = {}
        for name in self.group:
            other = first.setdefault(self.group_digest(name), name)
            if other != name:
                what = f"is the model `{other}` again, inference apart."
                raise InputError(f"group.{name}", what, "Give one of them all the methods, or change the other.")
        return self

    def group_contrasts(self, model: str) -> tuple[str, ...]:
        """First-level contrasts that a group model is fitted to."""
        wanted = self.group[model].first_level_contrasts
        if wanted != "all":
            return wanted
        return tuple(name for name, c in self.first_level.contrasts.items() if c.stat_type == "t")

    def expression_of(self, contrast: str) -> str | Sequence[str]:
        """What a first-level contrast says."""
        return self.first_level.contrasts[contrast].said

    @property
    def rounding(self) -> dict[str, float]:
        """As `data.rounding`."""
        return self.data.rounding

    @property
    def ingest_digest(self) -> str:
        """Digest of what determines the stored data of a run, its files apart."""
        data = self.data
        return digest(
            {
                "version": self.version,
                "data": [data.preprocessed, data.space, data.voxels, data.t_r],
                "smoothing_fwhm": self.first_level.smoothing_fwhm,
            }
            | data.rounding
        )

    @property
    def fit_digest(self) -> str:
        """Digest of what determines the fit of a run; contrasts do not."""
        return self._fit_digest(self.first_level)

    @property
    def noise_digest(self) -> str:
        """Digest of what determines the noise of each voxel by itself: that of a fit which does not smooth it."""
        return self._fit_digest(self.first_level.model_copy(update={"noise_smoothing_fwhm": None}))

    def _fit_digest(self, level: FirstLevel) -> str:
        generation = NOISE_GENERATIONS.get(level.noise_model, 1)
        changed = [{"noise_generation": generation}] if generation > 1 else []
        return name_of("fit", self.ingest_digest, level.fitted_with, *changed)

    @property
    def contrast_digest(self) -> str:
        """Digest of what determines the contrasts of a run."""
        return name_of("contrast", self.fit_digest, self.first_level.model_dump(include={"contrasts"}))

    @property
    def combine_digest(self) -> str:
        """Digest of what determines the maps of a subject: contrasts, the choice of runs, fixed effects."""
        return name_of("combine", self.contrast_digest, self.data.chosen, self.subject_level.settings)


def json_schema() -> dict[str, Any]:
    """JSON Schema of the analysis file, as editors use it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Analysis.model_json_schema()}


def schema_text() -> str:
    """Text of the published `analysis.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"
