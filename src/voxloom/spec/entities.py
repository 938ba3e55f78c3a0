"""Names of BIDS entities: `subject` in an analysis file is `sub` in a file name."""

from __future__ import annotations

#: Long name -> key in file names, in the order in which BIDS puts them there.
ENTITIES = {
    "subject": "sub",
    "session": "ses",
    "sample": "sample",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "echo": "echo",
    "part": "part",
    "space": "space",
    "cohort": "cohort",
    "resolution": "res",
    "density": "den",
    "label": "label",
    "description": "desc",
}
_KEYS = frozenset(ENTITIES.values())
#: Entities whose value is a number: `run-1` and `run-01` are the same run.
INDICES = frozenset({"run", "echo"})


def short_name(name: str) -> str | None:
    """Key in file names of an entity given by either name; None for an unknown one."""
    return ENTITIES.get(name, name if name in _KEYS else None)


def meaning(key: str, value: str) -> str:
    """Value of the entity `key` without what means nothing: the leading zeros of an index."""
    return str(int(value)) if key in INDICES and value.isdecimal() else value


def same_value(key: str, one: str, other: str) -> bool:
    """Whether two values of the entity `key` mean the same."""
    return meaning(key, one) == meaning(key, other)
