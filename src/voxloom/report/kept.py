"""The analysis that a store was last reported with, kept there: a store alone can be reported on again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from voxloom.errors import StoreError
from voxloom.io.store.objects import Objects
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from voxloom.spec import Analysis

KEY = "analysis.json"


def keep_analysis(objects: Objects, analysis: Analysis) -> None:
    """Write the analysis into its store."""
    objects.put(KEY, json.dumps(analysis.to_dict(), sort_keys=True).encode())


def kept_analysis(url: str) -> Analysis:
    """The analysis that was kept, for the store as it lies now.

    Raises
    ------
    StoreError
        None was kept.
    """
    content = Objects(url).get(KEY)
    if content is None:
        raise StoreError(url, "does not say which analysis it is of.", "Give the analysis file in its place.")
    return parse_analysis(json.loads(content) | {"store": {"path": url}}, where=f"{url}/{KEY}")
