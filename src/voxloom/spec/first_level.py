"""Sections `first_level` and `subject_level`: the model of a run, and how a subject's runs are joined."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.confounds import AnyConfounds, Confounds
from voxloom.spec.contrasts import Contrast, Contrasts
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import Section
from voxloom.spec.values import Name, Words

HRFModel = Literal[
    "spm",
    "spm + derivative",
    "spm + derivative + dispersion",
    "glover",
    "glover + derivative",
    "glover + derivative + dispersion",
    "fir",
]

NoiseModel = Literal["ar1", "ar2", "ar3", "ar4", "ar5", "ar6", "ar7", "ar8", "arma11", "ols", "ar1-yule-walker"]

#: Keys younger than the first stores: at their defaults the digest leaves them out, so results keep their names.
YOUNGER = ("oversampling", "min_onset", "modulators", "noise_smoothing_fwhm")


class FirstLevel(Section):
    """The model of every run."""

    hrf_model: HRFModel | None = "spm"
    """Haemodynamic response; null for none (the bare boxcar)."""
    drift_model: Literal["cosine", "polynomial"] | None = "cosine"
    """Slow drift; null where the confounds hold it."""
    high_pass: float = Field(default=0.01, gt=0)
    """Cut-off of the cosine drift in Hz."""
    drift_order: int = Field(default=1, ge=0)
    """Order of the polynomial drift."""
    fir_delays: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    """Delays of the `fir` model in scans."""
    oversampling: int = Field(default=50, ge=1)
    """Points per volume of the grid on which events are placed and convolved."""
    min_onset: float = Field(default=-24.0, le=0)
    """Events that start earlier than this before the first volume (s) are dropped."""
    noise_model: NoiseModel = "ar1"
    """Serial correlation: AR(p) or ARMA(1, 1) by REML per voxel, none, or AR(1) by nilearn's rule."""
    noise_smoothing_fwhm: float | None = Field(default=None, ge=0)
    """Gaussian smoothing of the parameters of the noise over the voxels of a run, between two fits, mm; null: none."""
    signal_scaling: Literal[0] | None = None
    """0: percent of each voxel's mean over time; null: the data's own units."""
    smoothing_fwhm: float | None = Field(default=None, ge=0)
    """Gaussian smoothing of every volume at ingest, full width at half maximum in mm."""
    slice_time_ref: float = Field(default=0.0, ge=0, le=1)
    """Moment of a volume, as a part of its TR, to which slices were aligned."""
    modulation: Literal["separate", "amplitude"] = "separate"
    """A `modulation` column of the events: regressor of its own (`name*modulation`), or the amplitude."""
    modulators: Words | dict[Name, Words] = Field(default_factory=dict)
    """Further columns of the events, each a regressor of its own: of all conditions, or of those named."""
    confounds: AnyConfounds = Field(default_factory=Confounds)
    """Columns of the confounds table, the name of a preset, or a strategy with its parameters."""
    contrasts: Contrasts = Field(default_factory=dict)
    """Contrasts by name: an expression (t), a list (F), {expression, stat_type}, {weights} or {conjunction}."""

    @field_validator("high_pass")
    @classmethod
    def _in_hertz(cls, value: float) -> float:
        if value > 1:
            raise InputError("", f"is {value:g} Hz, faster than any scanner.", f"For a period write 1/{value:g} Hz.")
        return value

    @field_validator("smoothing_fwhm", "noise_smoothing_fwhm")
    @classmethod
    def _zero_is_none(cls, value: float | None) -> float | None:
        return value or None

    @field_validator("contrasts")
    @classmethod
    def _file_names(cls, value: dict[str, Contrast]) -> dict[str, Contrast]:
        require_distinct_labels(value, "")
        # sorted, for the digest does not know an order: analyses that share results must share their rows
        return dict(sorted(value.items()))

    @model_validator(mode="after")
    def _one_high_pass(self) -> Self:
        cosines = self.confounds.cosines
        if cosines and self.drift_model == "cosine":
            raise InputError(
                "confounds",
                f"{cosines!r} takes in fMRIPrep's cosines beside those of `drift_model: cosine`.",
                "Set `drift_model: null` or leave the cosines out.",
            )
        return self

    @model_validator(mode="after")
    def _noise_to_smooth(self) -> Self:
        if self.noise_smoothing_fwhm and self.noise_model == "ols":
            raise InputError(
                "noise_smoothing_fwhm",
                "has nothing to smooth: the noise model `ols` has no parameters.",
                "Take another noise_model, or leave it out.",
            )
        return self

    @property
    def fitted_with(self) -> dict[str, Any]:
        """What determines the fit of a run, for its digest."""
        dumped = self.model_dump(exclude={"contrasts", "smoothing_fwhm"})
        usual = FirstLevel()
        return {k: v for k, v in dumped.items() if k not in YOUNGER or getattr(self, k) != getattr(usual, k)}


class FixedEffects(Section):
    """How the runs and sessions of a subject become one map."""

    precision_weighted: bool = False
    """Weight runs by the inverse of their variance instead of equally."""


class SubjectLevel(Section):
    """The model over the runs of a subject."""

    fixed_effects: FixedEffects = Field(default_factory=FixedEffects)
    sessions: bool = False
    """Write maps of every session too, where a subject has several; those of the subject are over all runs."""

    @property
    def settings(self) -> dict[str, Any]:
        """What digests and sidecars of results say; nothing of sessions where there are no maps of them."""
        return self.model_dump(mode="json", exclude=None if self.sessions else {"sessions"})
