"""What every analysis has that ends in group models: the models, where to work, and with what."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator, model_validator

from voxloom.errors import InputError
from voxloom.spec.data import Output, Store
from voxloom.spec.digests import digest, name_of
from voxloom.spec.group import GroupModel
from voxloom.spec.labels import require_distinct_labels
from voxloom.spec.section import Section
from voxloom.spec.values import Memory, Name

if TYPE_CHECKING:
    from collections.abc import Sequence


class GroupAnalysis(Section):
    """Group models on maps, wherever these come from."""

    store: Store = Field(default_factory=Store)
    output: Output = Field(default_factory=Output)
    group: dict[Name, GroupModel] = Field(default_factory=dict)
    """Group models by name."""
    cluster: Name = "local"
    """`local` (processes on this machine), `threads` (this process), or the address of a Dask scheduler."""
    workers: int | None = Field(default=None, ge=1)
    """Worker processes; null: one per core as far as memory allows."""
    memory_budget: Memory = 512 * 2**20
    """Memory of one worker, such as `512MiB`."""
    scratch_budget: Memory = 8 * 2**30
    """Disk that maps of clusters and TFCE may take in the store at any time while they wait to be used; the more, the
    more workers can be busy with them."""
    seed: int = Field(default=0, ge=0)
    """Seed of the permutations."""

    @model_validator(mode="before")
    @classmethod
    def _absent_sections(cls, raw: Any) -> Any:
        """Read `key:` with nothing after it as absent; store and output take their names from the file."""
        if not isinstance(raw, dict):
            return raw
        return {"store": {}, "output": {}} | {key: value for key, value in raw.items() if value is not None}

    @field_validator("cluster")
    @classmethod
    def _local_or_address(cls, value: str) -> str:
        if value not in ("local", "threads") and not re.match(r"[a-z]+://.", value):
            raise InputError("", f"is {value!r}.", "Wanted: local, threads, or an address such as tcp://host:8786.")
        return value

    @field_validator("group")
    @classmethod
    def _file_names(cls, value: dict[str, GroupModel]) -> dict[str, GroupModel]:
        require_distinct_labels(value, "")
        return dict(sorted(value.items()))

    def group_contrasts(self, model: str) -> tuple[str, ...]:
        """Kinds of maps that a group model is fitted to."""
        raise NotImplementedError

    def expression_of(self, contrast: str) -> str | Sequence[str]:
        """How the maps of one kind were made."""
        raise NotImplementedError

    @property
    def combine_digest(self) -> str:
        """Digest of what determines the maps."""
        raise NotImplementedError

    @property
    def rounding(self) -> dict[str, float]:
        """What the sidecars of results say of rounded images."""
        return {}

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; parsing it gives an equal analysis."""
        return self.model_dump(mode="json")

    def group_digest(self, model: str) -> str:
        """Digest of what determines the fit and the contrasts of a group model; inference does not."""
        return name_of("group", self.combine_digest, self.group[model].settings)

    def infer_digest(self, model: str) -> str:
        """Digest of what determines the inference of a group model."""
        return name_of("infer", self.group_digest(model), self.group[model].inference.settings, self.seed)

    def digest(self) -> str:
        """Digest of all that determines results; not where they are kept, nor who computes them."""
        return digest([self.combine_digest, {name: self.infer_digest(name) for name in self.group}])
