"""Which subjects belong together, and may be exchanged: columns of a table, as the analysis names them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import InputError
from voxloom.io.maps.rearrangements import content_of, read_rearrangements
from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.spec.group import AUTO, Blocks
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from voxloom.spec import GroupModel, Inference

#: Stands for the index of the table where that has no such column.
SUBJECT = "subject"
#: Stands for the file of given rearrangements among the columns.
GIVEN = "rearrangements"


def named_columns(model: GroupModel) -> tuple[str, ...]:
    """Columns of the table that say who belongs together."""
    columns = (*model.inference.exchange_columns, model.groups, model.visits)
    if model.harmonise is not None:
        columns += (model.harmonise.site, model.harmonise.fit_to)
    return tuple(name for name in columns if name is not None)


def label_columns(model: GroupModel, table: pd.DataFrame, where: str) -> dict[str, tuple[Any, ...]]:
    """Values of the columns that groups, blocks and variance groups name, by row; what given rearrangements are.

    Raises
    ------
    InputError
        The table has no such column, or a value is missing.
    """
    named = table if SUBJECT in table else table.assign(**{SUBJECT: table.index})
    found: dict[str, tuple[Any, ...]] = {}
    for name in named_columns(model):
        if name not in named:
            known = [str(column) for column in named.columns]
            raise InputError(where, f"`{name}` is no column of the table.", did_you_mean(name, known))
        missing = [str(label) for label in named.index[named[name].isna()]]
        if missing:
            raise InputError(where, f"`{name}` has no value for {', '.join(missing[:5])}.", "Fill it.")
        found[name] = tuple(named[name].tolist())
    if model.inference.rearrangements is not None:
        found[GIVEN] = (content_of(model.inference.rearrangements),)
    return found


def exchangeability_of(wanted: Inference, columns: Mapping[str, tuple[Any, ...]]) -> Exchangeability:
    """Make the object that a permutation test takes.

    Raises
    ------
    InputError
        Columns of nested blocks hold something else than whole numbers, or given rearrangements cannot be read.
    """
    groups = wanted.variance_groups
    return Exchangeability(
        scheme=wanted.scheme,
        blocks=_blocks(wanted, columns),
        variance_groups=groups if groups in (None, AUTO) else columns[groups],
        rearrangements=None if wanted.rearrangements is None else read_rearrangements(wanted.rearrangements),
    )


def _blocks(wanted: Inference, columns: Mapping[str, tuple[Any, ...]]) -> Any:
    blocks = wanted.blocks
    if blocks is None:
        return None
    if isinstance(blocks, Blocks):
        return {kind: columns[name] for kind, name in blocks.kinds.items()}
    if isinstance(blocks, str):
        return columns[blocks]
    try:
        return np.column_stack([np.asarray(columns[name]).astype(np.int64) for name in blocks])
    except ValueError:
        raise InputError(
            "inference.blocks", f"{list(blocks)} hold text.", "Nested blocks are whole numbers in PALM's notation."
        ) from None
