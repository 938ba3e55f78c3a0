"""Group models of given maps: their designs, from tables with a row per map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from voxloom.errors import DesignError, InputError
from voxloom.io.given_maps import LABEL_COLUMNS
from voxloom.io.tables import read_tsv
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.group_design import INTERCEPT, group_design, require_dof
from voxloom.pipeline import gather
from voxloom.pipeline.exchange import label_columns, named_columns
from voxloom.pipeline.gather import MapsWorkspace
from voxloom.pipeline.group import GroupTest, group_tests
from voxloom.pipeline.nulls import nulls_of, require_resolution
from voxloom.spec.maps import MAPS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxloom.spec import GroupModel, MapsAnalysis


@group_tests.register(MapsWorkspace)
def tests_of_maps(ws: MapsWorkspace) -> list[GroupTest]:
    """Group models on given maps, once these are in the store."""
    if not ws.complete(gather.tasks(ws)):
        return []
    return planned_tests(ws.analysis, ws.maps.labels)


def planned_tests(analysis: MapsAnalysis, labels: Sequence[str]) -> list[GroupTest]:
    """The group models of an analysis of maps.

    Raises
    ------
    InputError
        A design does not fit the maps, or a contrast the design.
    """
    tests = [maps_test(analysis, name, labels) for name in analysis.group]
    for test in tests:
        wanted = analysis.group[test.name].inference
        require_resolution(test.name, wanted, nulls_of(test, wanted, analysis.seed))
    return tests


def maps_test(analysis: MapsAnalysis, name: str, labels: Sequence[str]) -> GroupTest:
    """One group model of these maps."""
    model = analysis.group[name]
    design = maps_design(model, labels)
    require_dof(design.to_numpy())
    for expression in model.contrasts.values():
        contrast_matrix(expression, list(design.columns))
    return GroupTest(
        name=name,
        results=analysis.group_digest(name),
        source=analysis.combine_digest,
        subjects=tuple(labels),
        first_level=(MAPS,),
        rows=(0,),
        design=design,
        contrasts=dict(model.contrasts),
        estimator=model.estimator,
        groups=model.groups,
        labels=label_columns(model, table_of(analysis, model, labels), f"group.{name}"),
    )


def table_of(analysis: MapsAnalysis, model: GroupModel, labels: Sequence[str]) -> pd.DataFrame:
    """All that is known of the maps beside their values: the design's table, and further ones beside it."""
    paths = [path for path in (model.table, *analysis.maps.tables) if path is not None]
    tables = [maps_table(path, labels) for path in paths]
    return pd.concat(tables, axis=1) if tables else pd.DataFrame(index=list(labels))


def maps_design(model: GroupModel, labels: Sequence[str]) -> pd.DataFrame:
    """Design of a model for these maps: by its formula or covariates, else the numbers of its table; else the mean.

    Raises
    ------
    InputError
        The table cannot be read, has no row for a map, or holds text where numbers are wanted.
    """
    if model.table is None:
        return pd.DataFrame({INTERCEPT: 1.0}, index=list(labels))
    rows = maps_table(model.table, labels)
    if model.formula is not None or model.covariates is not None:
        return group_design(rows, model.formula or model.covariates)
    columns = regressors(model, [str(name) for name in rows.columns])
    text = [name for name in columns if not pd.api.types.is_numeric_dtype(rows[name])]
    if text:
        raise DesignError(
            str(model.table),
            f"the columns {text} hold text.",
            f"Code them as numbers, or give a formula such as 1 + C({text[0]}).",
        )
    if not columns:
        raise DesignError(str(model.table), "holds no column of numbers.", "A column per regressor is wanted.")
    design = rows[columns].astype(float)
    missing = design.index[design.isna().any(axis=1)].tolist()
    if missing:
        raise DesignError(str(model.table), f"lacks numbers for {missing[:5]}.", "Fill them, or leave these maps out.")
    return design


def regressors(model: GroupModel, columns: Sequence[str]) -> list[str]:
    """Columns of a table that are its design: those that say who is who, or who may be exchanged, are not.

    One that a contrast names is one in any case.
    """
    others = {*LABEL_COLUMNS, *named_columns(model)}
    weights = [contrast_matrix(expression, list(columns)) for expression in model.contrasts.values()]
    named = {name for matrix in weights for name, column in zip(columns, matrix.T) if column.any()}
    return [name for name in columns if name in named or name not in others]


def maps_table(path: Path, labels: Sequence[str]) -> pd.DataFrame:
    """Rows of a table in the order of the maps: by their labels where a column names them, else as they come.

    Raises
    ------
    InputError
        Another number of rows, or a map that no row or several rows name.
    """
    table = read_tsv(path, remedy="A table with a row per map is wanted.", as_text=LABEL_COLUMNS)
    column = next((name for name in LABEL_COLUMNS if name in table), None)
    if column is None:
        if len(table) != len(labels):
            raise DesignError(
                str(path),
                f"has {len(table)} rows, but there are {len(labels)} maps.",
                f"Give one row per map, in their order, or name them in a column {LABEL_COLUMNS[0]}.",
            )
        return table.set_axis(list(labels))
    places = [_row_of(label, table[column].tolist(), str(path), column) for label in labels]
    return table.iloc[places].set_axis(list(labels))


def _row_of(label: str, names: Sequence[Any], where: str, column: str) -> int:
    found = [i for i, name in enumerate(names) if _names(str(name), label)]
    if len(found) != 1:
        what = f"{len(found)} rows name" if found else "no row names"
        raise InputError(where, f"{what} the map {label} in the column {column}.", "One row per map is wanted.")
    return found[0]


def _names(name: str, label: str) -> bool:
    """Whether a table's name of a map is that of its file, with folder or ending or without, or an entity of it."""
    stem = name.rpartition("/")[2].removesuffix(".gz").removesuffix(".nii")
    return stem == label or name == label or f"sub-{name.removeprefix('sub-')}" in label.split("_")
