"""An analysis of given maps, from what a command or a function was told."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxloom.io.maps.files import list_maps
from voxloom.spec import parse_maps_analysis

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from os import PathLike

    from voxloom.spec import MapsAnalysis

#: Name of a group model where it is given none.
MODEL = "maps"
#: Endings of tables that list maps and may hold covariates too.
TABLES = (".tsv", ".csv")


def maps_analysis(
    maps: Sequence[str | PathLike[str]],
    *,
    model: Mapping[str, Any],
    output: str | PathLike[str],
    variances: Sequence[str | PathLike[str]] = (),
    mask: str | PathLike[str] | None = None,
    tables: Sequence[str | PathLike[str]] = (),
    store: str | PathLike[str] | None = None,
    name: str = MODEL,
    **others: Any,
) -> MapsAnalysis:
    """Make the analysis of one group model of given maps.

    Parameters
    ----------
    maps, variances : sequence of path
        As `list_maps` takes them.
    model : mapping
        Keys of `GroupModel`, the table apart.
    output : path
    mask : path, optional
    tables : sequence of path
        Of covariates. Without a formula, contrasts name columns of the first, which is the design. Without any, with a
        formula: the table that lists the maps, where one does.
    store : path, optional
        By default beside the output.
    name : str
        Of the model.
    **others
        Keys of `GroupAnalysis`; None stands for the default.

    Raises
    ------
    InputError
        As `list_maps` and `parse_maps_analysis`.
    """
    given = [Path(path) for path in maps]
    listed = list_maps(given)
    if not tables and model.get("formula") and len(given) == 1 and given[0].suffix.lower() in TABLES:
        tables = given
    n_design = 1 if model.get("formula") or model.get("contrasts") else 0  # the mean has no table
    table, more = ([str(path) for path in found] for found in (tables[:n_design], tables[n_design:]))
    apart = list_maps([Path(path) for path in variances]).effects
    raw = {
        "maps": {
            "files": [str(path) for path in listed.effects],
            "variances": [str(path) for path in apart or listed.variances],
            "mask": None if mask is None else str(mask),
            "tables": more,
        },
        "group": {name: {"table": table[0] if table else None, **model}},
        "output": {"dir": str(output)},
        "store": {"path": str(store or f"{output}.zarr")},
    }
    return parse_maps_analysis(raw | others)
