"""Runs named by hand: paths, rows of a table, or what `index_runs` found, made into `RunFile`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from functools import singledispatch
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd

from voxloom.errors import InputError
from voxloom.io.bids.run_table import RunFile, at_site
from voxloom.io.bids.tree import BIDSFile, parse_name
from voxloom.spec.entities import ENTITIES, short_name
from voxloom.spec.section import did_you_mean

FILES = ("bold", "mask", "events", "confounds")
ENDINGS = re.compile(r"(\.nii|\.hdr|\.img)?(\.gz)?$", re.IGNORECASE)


def run_files(images: Any) -> list[RunFile]:
    """Runs of what a user gave.

    Parameters
    ----------
    images : path, RunFile, DataFrame, or sequence of paths, RunFile or mappings
        A table has a row per run: ``bold`` (path), optional ``mask``, ``events``, ``confounds`` (paths), ``t_r`` (s,
        as a sidecar has it) and ``id``; every other column is a BIDS entity by its long or short name, or ``site``.
        Missing values mean that there is none. A path says its entities where its name is a BIDS name.

    Returns
    -------
    list of RunFile
        With absolute paths. An id that is not given is made of the entities, else of the file's name.

    Raises
    ------
    InputError
        No image, an unknown column, or two runs of one id.
    """
    runs = [run_file(row) for row in _rows(images)]
    if not runs:
        raise InputError("images", "names no image.", "Pass a path, a list of paths, or a table with a column bold.")
    twice = [run_id for run_id, n in Counter(run.id for run in runs).items() if n > 1]
    if twice:
        names = ", ".join(str(run.bold) for run in runs if run.id == twice[0])
        raise InputError("images", f"{names} would all be run {twice[0]}.", "Pass a table with a column id.")
    return runs


@singledispatch
def _rows(images: Any) -> list[Any]:
    """Split what was given into runs; what is no list is one."""
    return [images]


@_rows.register
def _several(images: Iterable) -> list[Any]:  # type: ignore[type-arg]  # singledispatch takes classes only
    return list(images)


@_rows.register(str)
@_rows.register(PathLike)
@_rows.register(RunFile)
def _one(images: Any) -> list[Any]:
    return [images]


@_rows.register
def _table(images: pd.DataFrame) -> list[Any]:
    return images.to_dict("records")


@singledispatch
def run_file(row: Any) -> RunFile:
    """The run of one row."""
    raise InputError("images", f"holds a {type(row).__name__}.", "Wanted: paths of files, RunFile, or rows of a table.")


@run_file.register
def _found(row: RunFile) -> RunFile:
    return row


@run_file.register(str)
@run_file.register(PathLike)
def _from_path(row: str | PathLike[str]) -> RunFile:
    file = parse_name(Path(row).absolute())
    if "sub" in file.entities:
        return RunFile(id=file.run_id, entities=dict(file.entities), bold=file.path)
    return RunFile(id=_plain_id(file.path), entities={}, bold=file.path)


@run_file.register
def _from_row(row: dict) -> RunFile:  # type: ignore[type-arg]  # singledispatch takes classes only
    known = {str(name): value for name, value in row.items() if not pd.isna(value)}
    if "bold" not in known:
        raise InputError("images", "has a row without bold.", "A column bold with the path of the image is wanted.")
    paths = {name: Path(known.pop(name)).absolute() for name in FILES if name in known}
    t_r, run_id = known.pop("t_r", None), known.pop("id", None)
    entities = dict(_entity(name, value) for name, value in known.items())
    if run_id is None:
        run_id = _from_path(paths["bold"]).id if set(entities) <= {"site"} else _run_id(paths["bold"], entities)
    return RunFile(id=str(run_id), entities=entities, t_r=None if t_r is None else float(t_r), **paths)


def _run_id(path: Path, entities: dict[str, str]) -> str:
    file = BIDSFile(path, {key: value for key, value in entities.items() if key != "site"}, "", "")
    return at_site(entities.get("site", ""), file.run_id)


def _entity(name: str, value: Any) -> tuple[str, str]:
    key = name if name == "site" else short_name(name)
    if key is None:
        raise InputError(f"images: {name}", "is not a known column.", did_you_mean(name, [*FILES, "t_r", *ENTITIES]))
    text = f"{value:g}" if isinstance(value, float) else str(value)  # numbers beside missing ones are floats
    return key, text.removeprefix(f"{key}-")


def _plain_id(path: Path) -> str:
    """Name of a run from a file's name: what cannot stand in an id becomes a dash."""
    name = re.sub(r"[^A-Za-z0-9_+.-]+", "-", ENDINGS.sub("", path.name)).lstrip("_+.-")
    if not name:
        raise InputError(str(path), "has no letter or digit in its name.", "Pass a table with a column id.")
    return name
