"""Statistics of a permutation test: what is taken of the whole map in every rearrangement, as frozen objects."""

from __future__ import annotations

import math
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from voxloom.errors import InputError
from voxloom.spec.section import Section, did_you_mean, first_complaint

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pydantic import SerializerFunctionWrapHandler

Connectivity = Literal[6, 18, 26]
Map = Literal["z", "stat"]


class Statistic(Section):
    """What is taken of a map; its greatest value over voxels makes the null. In JSON under its name.

    Raises
    ------
    InputError
        A parameter is unknown or out of range.
    """

    name: ClassVar[str] = ""
    spatial: ClassVar[bool] = True
    """Whether it is made of the whole map at once."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            where, what, remedy = first_complaint(error)
            raise InputError(".".join([self.name, *where]), what, remedy) from None

    @model_validator(mode="before")
    @classmethod
    def _without_its_name(cls, raw: Any) -> Any:
        return raw[cls.name] if isinstance(raw, dict) and set(raw) == {cls.name} else raw

    @model_serializer(mode="wrap")
    def _under_its_name(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {self.name: fields(self)}


class MaxStat(Statistic):
    """The statistic of every voxel itself."""

    name: ClassVar[str] = "max_stat"
    spatial: ClassVar[bool] = False


class Cluster(Statistic):
    """Clusters of neighbouring voxels beyond a threshold."""

    threshold: float = Field(default=0.001, gt=0, lt=1)
    """Cluster-forming p: one tail of the map that the clusters are formed on."""
    connectivity: Connectivity = 26
    """Neighbours of a voxel: 6 by faces, 18 by edges too, 26 by corners too."""
    on: Map = "z"
    """`z`: the map turned into normal deviates; `stat`: t or F as they are."""

    @field_validator("threshold", mode="before")
    @classmethod
    def _no_z(cls, value: Any) -> Any:
        if isinstance(value, (int, float)) and value >= 1:
            p = math.erfc(value / math.sqrt(2)) / 2
            raise InputError(
                "", f"is {value:g}, no p in (0, 1).", f"Give the p of the threshold: z = {value:g} is p = {p:.3g}."
            )
        return value


class ClusterSize(Cluster):
    """Voxels of each cluster."""

    name: ClassVar[str] = "cluster_size"


class ClusterMass(Cluster):
    """Sum of the map over the voxels of each cluster; the threshold is not taken away."""

    name: ClassVar[str] = "cluster_mass"


class TFCE(Statistic):
    """Threshold-free cluster enhancement (Smith and Nichols 2009): extent^E height^H over all heights of a voxel."""

    name: ClassVar[str] = "tfce"

    E: float = Field(default=0.5, ge=0)
    """Exponent of the extent of the cluster that holds the voxel."""
    H: float = Field(default=2.0, ge=0)
    """Exponent of the height."""
    connectivity: Connectivity = 6
    """Neighbours of a voxel: 6 by faces, 18 by edges too, 26 by corners too."""
    steps: int | None = Field(default=None, ge=1)
    """Heights of a sum, as FSL and PALM take 100 of them; null for the exact integral."""
    on: Map = "z"
    """`z`: the map turned into normal deviates; `stat`: t or F as they are."""


#: Statistics by name.
STATISTICS: dict[str, type[Statistic]] = {kind.name: kind for kind in (MaxStat, ClusterSize, ClusterMass, TFCE)}


class StatisticByName(Section):
    """One statistic with its parameters, such as `{cluster_size: {threshold: 0.01}}`."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1, "maxProperties": 1})

    max_stat: MaxStat | None = None
    cluster_size: ClusterSize | None = None
    cluster_mass: ClusterMass | None = None
    tfce: TFCE | None = None


def _listed(raw: Any) -> Any:
    """Make a list of a single statistic, however it is written."""
    return [raw] if isinstance(raw, (str, dict, Statistic)) else raw


def _statistic(raw: Any) -> Any:
    """Statistic of a name (with defaults) or of {name: parameters}."""
    if isinstance(raw, Statistic):
        return raw
    named = {raw: None} if isinstance(raw, str) else raw
    if not isinstance(named, dict) or len(named) != 1:
        raise InputError("", f"is {raw!r}.", f"A name ({', '.join(STATISTICS)}) or {{name: parameters}} is wanted.")
    ((name, parameters),) = named.items()
    if name not in STATISTICS:
        raise InputError("", f"{name!r} is no statistic.", did_you_mean(str(name), STATISTICS))
    if not isinstance(parameters, (dict, NoneType)):
        raise InputError(name, f"is {parameters!r}.", "Its parameters by name are wanted.")
    return STATISTICS[name](**(parameters or {}))


def _as_a_set(statistics: Iterable[Statistic]) -> tuple[Statistic, ...]:
    """Each once, in an order that does not depend on how they were written."""
    return tuple(sorted(set(statistics), key=lambda one: one.model_dump_json()))


Statistics = Annotated[
    tuple[
        Annotated[
            MaxStat | ClusterSize | ClusterMass | TFCE,
            BeforeValidator(
                _statistic,
                json_schema_input_type=Literal["max_stat", "cluster_size", "cluster_mass", "tfce"] | StatisticByName,
            ),
        ],
        ...,
    ],
    BeforeValidator(_listed),
    AfterValidator(_as_a_set),
]


def as_statistics(given: str | Statistic | Mapping[str, Any] | Iterable[Any]) -> tuple[Statistic, ...]:
    """Make statistics of what an analysis file or a caller writes.

    Parameters
    ----------
    given : str, Statistic, {name: parameters}, or a sequence of these

    Returns
    -------
    tuple of Statistic
        Each once, in an order of their own.

    Raises
    ------
    InputError
        Something is no statistic, or a parameter is wrong.
    """
    try:
        return _as_a_set(_statistic(one) for one in _listed(given))
    except InputError as error:
        raise InputError(error.where or "statistics", error.what, error.remedy) from None


def as_made(statistics: Iterable[Statistic], *, has_z: bool) -> tuple[Statistic, ...]:
    """Statistics as they can be made: of a statistic without a z they are made of itself."""
    return tuple(one.model_copy(update={"on": "stat"}) if one.spatial and not has_z else one for one in statistics)


def by_result_name(statistics: Iterable[Statistic]) -> dict[str, Statistic]:
    """Statistics by the names of their results: `cluster_size`, or `cluster_size_0.01` beside one at another threshold.

    Several of one kind take the values that tell them apart.
    """
    statistics = list(statistics)
    return {"_".join([one.name, *_apart(one, statistics)]): one for one in statistics}


def _apart(one: Statistic, statistics: list[Statistic]) -> list[str]:
    """Values of the parameters in which a statistic differs from others of its kind."""
    kin = [vars(other) for other in statistics if other.name == one.name]
    return [_short(value) for key, value in vars(one).items() if any(other[key] != value for other in kin)]


def _short(value: Any) -> str:
    return "exact" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
