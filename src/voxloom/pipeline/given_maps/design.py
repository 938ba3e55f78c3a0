"""Group models of given maps: their designs, from tables with a row per map."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from voxloom.errors import DesignError, InputError
from voxloom.io.bids.participants import listed
from voxloom.io.maps.files import VARIANCE
from voxloom.io.maps.phenotypes import COLUMNS, LABEL_COLUMNS, join, known_of
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.group.design import INTERCEPT, group_design, require_dof, require_min_n
from voxloom.models.group.estimators import find_estimator
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.gather import MapsWorkspace
from voxloom.pipeline.given_maps.people import require_independent, without_unpaired
from voxloom.pipeline.inference.exchange import label_columns, named_columns
from voxloom.pipeline.inference.nulls import require_nulls
from voxloom.pipeline.stages.group import GroupTest, group_tests, places_of, usable_rows
from voxloom.pipeline.stages.group_contrasts import contrasts_of
from voxloom.pipeline.stages.harmony import harmonised
from voxloom.spec.maps import MAPS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from voxloom.io.maps.files import MapFiles
    from voxloom.spec import GroupModel, MapsAnalysis


@group_tests.register(MapsWorkspace)
def tests_of_maps(ws: MapsWorkspace) -> list[GroupTest]:
    """Group models on given maps, once these are in the store."""
    if not ws.complete(gather.tasks(ws)):
        return []
    return planned_tests(ws.analysis, ws.maps)


def planned_tests(analysis: MapsAnalysis, maps: MapFiles) -> list[GroupTest]:
    """The group models of an analysis of maps.

    Raises
    ------
    InputError
        A design does not fit the maps, or a contrast the design.
    """
    tests = [maps_test(analysis, name, maps) for name in analysis.group]
    for test in tests:
        require_nulls(test, analysis.group[test.name].inference, analysis.seed)
    return tests


def maps_test(analysis: MapsAnalysis, name: str, maps: MapFiles) -> GroupTest:
    """One group model of these maps."""
    model, where = analysis.group[name], f"group.{name}"
    if find_estimator(model.estimator, has_groups=model.groups is not None).needs_variance and not maps.variances:
        what = f"the estimator {model.estimator} needs the variances of the maps."
        raise InputError(where, what, "Give them (--variances, a column variance), or use another estimator.")
    rows, design = rows_and_design(analysis, name, maps)
    require_dof(design.to_numpy())
    require_min_n(model.min_n, len(design))
    test = GroupTest(
        name=name,
        results=analysis.group_digest(name),
        source=analysis.combine_digest,
        subjects=tuple(design.index),
        places=places_of(design, maps.labels),
        first_level=(MAPS,),
        rows=(0,),
        design=design,
        contrasts=contrasts_of(model, design, where),
        estimator=model.estimator,
        groups=model.groups,
        visits=model.visits,
        min_n=model.min_n,
        labels=label_columns(model, rows, where),
    )
    return harmonised(test, model, rows)


def rows_and_design(analysis: MapsAnalysis, name: str, maps: MapFiles) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known of the maps that a model is fitted to, and its design.

    Raises
    ------
    InputError
        Tables or the formula cannot be used, or maps of one person are taken for those of several.
    """
    model, where = analysis.group[name], f"group.{name}"
    rows = usable_rows(model, rows_of_maps(analysis, model, maps))
    design = maps_design(model, rows, maps)
    rows = without_unpaired(rows.loc[design.index], design, where, model.missing)
    if len(rows) < len(design):
        design = maps_design(model, rows, maps)
    require_independent(model, rows, design, where)
    return rows, design


def rows_of_maps(analysis: MapsAnalysis, model: GroupModel, maps: MapFiles) -> pd.DataFrame:
    """All that is known of the maps beside their values: what their names say, and the tables joined with them.

    Raises
    ------
    InputError
        A table cannot be read, has no row for a map, or names a column that another has.
    """
    rows = known = known_of(maps)
    for path in tables_of(analysis, model):
        table = join(known, maps, path, model.missing).rows
        twice = [str(name) for name in table if name in rows and name not in COLUMNS.values()]
        if twice:
            raise InputError(str(path), f"has {listed(twice)}, which another table has.", "Keep one of each.")
        rows = rows.join(table[[name for name in table if name not in rows]], how="inner")
    return rows


def tables_of(analysis: MapsAnalysis, model: GroupModel) -> list[Path]:
    """The design's table, and further ones beside it."""
    return [path for path in (model.table, *analysis.maps.tables) if path is not None]


def notes_of_maps(analysis: MapsAnalysis, maps: MapFiles, tests: Sequence[GroupTest]) -> list[str]:
    """What is to be said of rows without a map, and of maps that a model is fitted without."""
    notes, known = list[str](), known_of(maps)
    for test in tests:
        model, kept = analysis.group[test.name], set(test.subjects)
        joined = {path: join(known, maps, path, model.missing) for path in tables_of(analysis, model)}
        notes += [f"{path}: its rows {listed(one.left)} have no map" for path, one in joined.items() if one.left]
        absent = [label for label in maps.labels if label not in kept]
        notes += [f"group.{test.name}: fitted without {listed(absent)} (missing: drop)"] if absent else []
    return notes


def maps_design(model: GroupModel, rows: pd.DataFrame, maps: MapFiles) -> pd.DataFrame:
    """Design of a model for these rows: by its formula or covariates, else the numbers of its table; else the mean.

    Raises
    ------
    InputError
        The table holds text where numbers are wanted, or lacks one.
    """
    rows = rows.rename_axis(index="map")
    if model.formula is not None or model.covariates is not None:
        return group_design(rows, model.formula or model.covariates, missing=model.missing)
    if model.table is None:
        return pd.DataFrame({INTERCEPT: 1.0}, index=rows.index)
    table = join(known_of(maps), maps, model.table, model.missing).rows
    rows = table.loc[rows.index].rename_axis(index="map")
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
    if model.missing == "drop":
        return design.dropna()
    missing = design.index[design.isna().any(axis=1)].tolist()
    if missing:
        raise DesignError(
            str(model.table), f"lacks numbers for {listed(missing)}.", "Fill them, leave these maps out, or drop them."
        )
    return design


def regressors(model: GroupModel, columns: Sequence[str]) -> list[str]:
    """Columns of a table that are its design: those that say who is who, or who may be exchanged, are not.

    One that a contrast names is one in any case.
    """
    others = {*LABEL_COLUMNS, *COLUMNS.values(), VARIANCE, *named_columns(model)}
    expressions = [wanted.expression for wanted in model.contrasts.values() if wanted.by_name]
    weights = [contrast_matrix(expression, list(columns)) for expression in expressions]
    named = {name for matrix in weights for name, column in zip(columns, matrix.T) if column.any()}
    return [name for name in columns if name in named or name not in others]
