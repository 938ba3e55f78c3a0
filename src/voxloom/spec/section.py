"""Base of every section of the analysis file: frozen, and no key passes that it does not know."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, model_validator

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`Did you mean ...?` with the nearest known name, or the list of the first dozen."""
    names = list(known)
    lowered = {n.lower(): n for n in names}
    near = get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return (
        f"Did you mean `{lowered[near[0]]}`?"
        if near
        else f"Known: {', '.join(names[:12])}{', ...' if len(names) > 12 else ''}."
    )


class Section(BaseModel):
    """A frozen part of an analysis, made from keywords alone."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, validate_default=True
    )

    @model_validator(mode="before")
    @classmethod
    def _known_keys(cls, raw: Any) -> Any:
        """Refuse an unknown key before anything else, for it may be the misspelled form of a missing one."""
        for key in raw if isinstance(raw, dict) else ():
            if key not in cls.model_fields:
                raise InputError(str(key), "is not a known key.", did_you_mean(str(key), cls.model_fields))
        return raw


def first_complaint(error: ValidationError) -> tuple[tuple[str, ...], str, str]:
    """Keys to the place of pydantic's first complaint, what was found there, and what was wanted."""
    details = error.errors()[0]
    own = details.get("ctx", {}).get("error")
    keys = tuple(map(str, details["loc"]))
    if isinstance(own, InputError):
        return (*keys, own.where) if own.where else keys, own.what, own.remedy
    if details["type"] == "missing":
        return keys, "is missing.", "Add it."
    wanted = details["msg"].replace("Input should be", "It should be")
    return keys, f"is {details['input']!r}.", f"{wanted}."
