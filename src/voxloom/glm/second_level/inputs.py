"""What a group model takes: maps as images, a table of them, or fitted first-level models."""

from __future__ import annotations

from typing import Any

import pandas as pd

from voxloom.errors import InputError
from voxloom.glm.images import is_many, load

_COLUMNS = ("subject_label", "map_name", "effects_map_path")


def is_choice(given: Any) -> bool:
    """Whether there are several maps of each subject to choose from."""
    return isinstance(given, pd.DataFrame) or (
        is_many(given) and len(given) > 0 and hasattr(given[0], "compute_contrast")
    )


def labels_of(given: Any) -> list[str]:
    """Label of every map."""
    if isinstance(given, pd.DataFrame):
        lost = [name for name in _COLUMNS if name not in given]
        if lost:
            raise InputError("second_level_input", f"has no columns {lost}.", f"A table needs {list(_COLUMNS)}.")
        return list(dict.fromkeys(given["subject_label"].astype(str)))
    if isinstance(given, pd.Series):
        given = list(given)
    if not is_many(given):
        shape = load(given).shape
        return [str(i) for i in range(shape[3] if len(shape) > 3 else 1)]
    if not len(given):
        raise InputError("second_level_input", "the list is empty.", "Give one map per subject.")
    return [str(getattr(one, "subject_label", None) or i) for i, one in enumerate(given)]


def images_of(given: Any, first_level_contrast: Any) -> Any:
    """The map of every subject."""
    if isinstance(given, pd.DataFrame):
        names = sorted(set(given["map_name"]))
        chosen = names[0] if first_level_contrast is None and len(names) == 1 else first_level_contrast
        rows = given[given["map_name"] == chosen]
        if rows.empty:
            raise InputError("first_level_contrast", f"{chosen!r} is no map_name of the table.", f"It has {names}.")
        return list(rows["effects_map_path"])
    if is_choice(given):
        if first_level_contrast is None:
            raise InputError("first_level_contrast", "is missing.", "Name the contrast of the first-level models.")
        strange = [type(one).__name__ for one in given if not hasattr(one, "compute_contrast")]
        if strange:
            raise InputError("second_level_input", f"holds models and a {strange[0]}.", "Give models alone, or maps.")
        return [model.compute_contrast(first_level_contrast, output_type="effect_size") for model in given]
    return list(given) if isinstance(given, pd.Series) else given
