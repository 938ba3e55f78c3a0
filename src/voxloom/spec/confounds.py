"""Which confounds go into the model of a run: columns by name, or a strategy with nilearn's names."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from voxloom.errors import InputError
from voxloom.spec.section import Section
from voxloom.spec.values import Name, Words, one_or_many

Component = Literal[
    "non_steady_state", "high_pass", "motion", "wm_csf", "global_signal", "compcor", "ica_aroma", "scrub"
]
Expansion = Literal["basic", "power2", "derivatives", "full"]
CompCor = Literal["anat_combined", "anat_separated", "temporal", "temporal_anat_combined", "temporal_anat_separated"]
Preset = Literal["simple", "scrubbing", "compcor", "ica_aroma"]

#: `load_confounds_strategy` of nilearn 0.14.
PRESETS: dict[str, dict[str, Any]] = {
    "simple": {"strategy": ["high_pass", "motion", "wm_csf"], "motion": "full", "wm_csf": "basic"},
    "scrubbing": {
        "strategy": ["high_pass", "motion", "wm_csf", "scrub"],
        "motion": "full",
        "wm_csf": "full",
        "scrub": 5,
        "fd_threshold": 0.5,
        "std_dvars_threshold": 1.5,
    },
    "compcor": {
        "strategy": ["high_pass", "motion", "compcor"],
        "motion": "full",
        "compcor": "anat_combined",
        "n_compcor": "all",
    },
    "ica_aroma": {"strategy": ["high_pass", "wm_csf", "ica_aroma"], "wm_csf": "basic", "ica_aroma": "full"},
}
#: Parameters that say how a component is made; the others have none.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "motion": ("motion",),
    "wm_csf": ("wm_csf",),
    "global_signal": ("global_signal",),
    "compcor": ("compcor", "n_compcor"),
    "ica_aroma": ("ica_aroma",),
    "scrub": ("scrub", "fd_threshold", "std_dvars_threshold"),
}
ALWAYS: Component = "non_steady_state"


def _listed(raw: Any) -> Any:
    if not isinstance(raw, (list, tuple)):
        raise InputError("", f"is {raw!r}.", f"A list is wanted, of: {', '.join(get_args(Component))}.")
    if "tedana" in raw:
        raise InputError(
            "",
            "tedana keeps its components in files of its own, which are not read.",
            "Add the rejected ones to the confounds table and name them under `columns`.",
        )
    return raw


def _in_order(components: tuple[Component, ...]) -> tuple[Component, ...]:
    """One order, so that equal strategies have one digest; non_steady_state is implied by any other."""
    return tuple(name for name in get_args(Component) if name in components or (components and name == ALWAYS))


class Confounds(Section):
    """Confounds of a run. Parameters of components that are not in the strategy are refused."""

    columns: Words = ()
    """Columns of the confounds table; globs such as `cosine*` or `trans_?` are allowed."""
    strategy: Annotated[
        tuple[Component, ...],
        BeforeValidator(_listed, json_schema_input_type=Preset | tuple[Component, ...]),
        AfterValidator(_in_order),
    ] = ()
    """Noise components as in nilearn's `load_confounds`, or the name of a preset."""
    motion: Expansion = "full"
    """Six head motion parameters; with squares, derivatives, or both (24)."""
    wm_csf: Expansion = "basic"
    """Mean signals of white matter and CSF."""
    global_signal: Expansion = "basic"
    """Mean signal of the brain."""
    compcor: CompCor = "anat_combined"
    """Masks of the CompCor components."""
    n_compcor: Annotated[int, Field(ge=1)] | Literal["all"] = "all"
    """Components of each mask."""
    ica_aroma: Literal["full", "basic"] = "full"
    """`full`: the images are denoised already (`desc-smoothAROMAnonaggr`); `basic`: noise components as regressors."""
    scrub: int = Field(default=5, ge=0)
    """Segments between scrubbed volumes that are shorter than this many volumes are left out too."""
    fd_threshold: float = Field(default=0.5, ge=0)
    """Framewise displacement in mm above which a volume is left out."""
    std_dvars_threshold: float = Field(default=1.5, ge=0)
    """Standardised DVARS above which a volume is left out."""
    demean: bool = True
    """Centre every confound over the volumes that are kept."""

    @model_validator(mode="before")
    @classmethod
    def _from_any_spelling(cls, raw: Any) -> Any:
        if isinstance(raw, str) and raw in PRESETS:
            raw = {"strategy": raw}
        if not isinstance(raw, dict):
            return {"columns": one_or_many(raw)}
        given = {key: value for key, value in raw.items() if value is not None}
        name = given.get("strategy")
        if not isinstance(name, str):
            return given
        if name not in PRESETS:
            raise InputError(
                "strategy",
                f"{name!r} is no preset.",
                f"Presets: {', '.join(PRESETS)}. Components are given as a list: [{name}].",
            )
        preset = PRESETS[name]
        # nilearn's rule: a preset takes in the global signal when its parameter is given
        more = ["global_signal"] if "global_signal" in given else []
        return preset | given | {"strategy": [*preset["strategy"], *more]}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        idle = sorted(self.model_fields_set - {"columns", "strategy"} - self._in_use)
        if idle:
            owner = next((name for name, keys in PARAMETERS.items() if idle[0] in keys), None)
            missing = f"the strategy does not have `{owner}`" if owner else "there is no strategy"
            raise InputError(idle[0], f"has no effect: {missing}.", "Add it, or leave the key out.")
        if "compcor" in self.strategy and "high_pass" not in self.strategy:
            raise InputError(
                "strategy",
                "has compcor without high_pass.",
                "fMRIPrep's components are of filtered data: add `high_pass`.",
            )
        return self

    @property
    def _in_use(self) -> set[str]:
        used = {key for name in self.strategy for key in PARAMETERS.get(name, ())}
        return used | {"demean"} if self.strategy else used

    @model_serializer(mode="wrap")
    def _as_spelled(self, handler: SerializerFunctionWrapHandler) -> Any:
        """Columns alone are a list, as they are written; of a strategy, what takes part in it."""
        if not self.strategy:
            return list(self.columns)
        kept = {"columns", "strategy"} | self._in_use
        return {key: value for key, value in handler(self).items() if key in kept}

    @property
    def empty(self) -> bool:
        """Whether nothing is asked for."""
        return not (self.columns or self.strategy)

    @property
    def cosines(self) -> str | None:
        """What takes in fMRIPrep's cosines, if anything does."""
        if "high_pass" in self.strategy:
            return "high_pass"
        return next((pattern for pattern in self.columns if fnmatchcase("cosine00", pattern)), None)


ConfoundsSpelling = Preset | Name | tuple[Name, ...] | Confounds
AnyConfounds = Annotated[
    Confounds, BeforeValidator(lambda raw: [] if raw is None else raw, json_schema_input_type=ConfoundsSpelling)
]
