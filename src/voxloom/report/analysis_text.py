"""The analysis as a reader can run it again: the settings that are not the usual ones, without anybody's paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from voxloom.spec import Analysis

#: Where it ran and where files lie is nobody else's business.
LOCAL = {"store", "output", "cluster", "workers", "memory_budget"}
PATHS = {"bids_dir", "derivatives", "sites"}


def analysis_text(analysis: Analysis) -> str:
    """YAML of an analysis; `data` lacks the folders, of other files the names are told.

    The text is the same wherever it ran.
    """
    import yaml  # 20 ms

    told = analysis.model_dump(mode="json", exclude=LOCAL | {"data"}, exclude_defaults=True)
    data = analysis.data.model_dump(mode="json", exclude=PATHS, exclude_defaults=True)
    told |= {"version": analysis.version, "data": data}
    return str(yaml.safe_dump(names_only(told), sort_keys=True, allow_unicode=True, width=100))


def names_only(value: Any) -> Any:
    """The same with the last part of each absolute path."""
    if isinstance(value, dict):
        return {key: names_only(one) for key, one in value.items()}
    if isinstance(value, list):
        return [names_only(one) for one in value]
    return value.rpartition("/")[2] if isinstance(value, str) and value.startswith("/") else value
