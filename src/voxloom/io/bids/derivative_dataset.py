"""A folder of results as a BIDS derivative: what describes it, and which of its files BIDS has no names for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom._version import __version__
from voxloom.io.bids.derivatives import json_text, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence

BIDS_VERSION = "1.10.0"
DESCRIPTION, IGNORED = "dataset_description.json", ".bidsignore"
#: Names that BIDS has no rule for yet, in the validator's (git's) patterns.
UNRULED = ("/group", "/reports", "*_statmap.*", "*_design.*", "*_clusters.*", "*_null.*", "*.html")
BY_US = {"Name": "voxloom", "Version": __version__, "Description": "First-level and group GLM on Dask"}


def dataset_description(name: str) -> dict[str, Any]:
    """Content of `dataset_description.json` of the results."""
    return {"Name": name, "BIDSVersion": BIDS_VERSION, "DatasetType": "derivative", "GeneratedBy": [BY_US]}


def write_dataset(folder: str | Path, *, name: str, ignore: Sequence[str] = ()) -> Path:
    """Write what makes a folder a BIDS derivative; of a data set of others that is there, add to theirs.

    Parameters
    ----------
    folder : path-like
    name : str
        Of the data set.
    ignore : sequence of str
        Patterns of further files that the validator is to leave out.

    Returns
    -------
    Path
        Of `dataset_description.json`.
    """
    folder = Path(folder)
    written = write_text(folder / DESCRIPTION, json_text(_with_others(folder / DESCRIPTION, name)))
    patterns = dict.fromkeys((*_lines(folder / IGNORED), *UNRULED, *ignore))
    write_text(folder / IGNORED, "\n".join(patterns) + "\n")
    return written


def _with_others(path: Path, name: str) -> dict[str, Any]:
    """The description, beside what others said of the data set they made."""
    ours = dataset_description(name)
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
        others = [one for one in there["GeneratedBy"] if one["Name"] != BY_US["Name"]]
    except (OSError, ValueError, TypeError, KeyError):
        return ours
    return {**there, "GeneratedBy": [*others, BY_US]} if others else ours


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
