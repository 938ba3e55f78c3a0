"""What files and pages of a fitted model have in common: its contrasts by name, its designs, its settings."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from voxloom.errors import ContrastError, InputError, VoxloomWarning
from voxloom.glm.contrasts import padded
from voxloom.glm.images import is_many
from voxloom.kernels.expression import contrast_matrix
from voxloom.models.contrasts import contrast_text

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

#: Parameters of a model that say how its numbers came about, where they are plain.
PLAIN = (str, int, float, bool)
#: Those that say where things are, or how it was done.
ELSEWHERE = {"mask_img", "memory", "memory_level", "verbose", "n_jobs", "minimize_memory", "reports", "store"}


def is_group(model: Any) -> bool:
    """Whether this is a fitted group model."""
    return hasattr(model, "design_matrix_")


def named_contrasts(contrasts: Any) -> dict[str, Any]:
    """Contrasts by name: by their keys, or by their expressions or weights."""
    if isinstance(contrasts, Mapping):
        return dict(contrasts)
    several = is_many(contrasts) and not isinstance(contrasts, np.ndarray)
    return {contrast_text(one): one for one in (contrasts if several else [contrasts])}


def answers(
    model: Any, named: Mapping[str, Any], first_level_contrast: Any = None, types: Mapping[str, str] | None = None
) -> dict[str, xr.Dataset]:
    """Every contrast of a fitted model, as `voxloom.contrast` gives it.

    Raises
    ------
    InputError
        The model is not fitted.
    """
    if not hasattr(model, "masker_"):
        raise InputError("model", "is not fitted.", "Call fit first.")
    return {
        name: model.answer(chosen, (types or {}).get(name), first_level_contrast=first_level_contrast)
        for name, chosen in named.items()
    }


def designs_of(model: Any) -> dict[str, pd.DataFrame]:
    """Designs by name."""
    if is_group(model):
        return {"design": model.design_matrix_}
    return {f"run-{i}": design for i, design in enumerate(model.design_matrices_, 1)}


def shared_contrasts(named: Mapping[str, Any], designs: Iterable[pd.DataFrame]) -> dict[str, Any]:
    """Those contrasts that can be asked of every design, with a weight for every column."""
    found, every = {}, [list(map(str, design.columns)) for design in designs]
    for name, chosen in named.items():
        with warnings.catch_warnings(), suppress(ContrastError, TypeError, ValueError):
            warnings.simplefilter("ignore", VoxloomWarning)  # short weights were told of when they were tested
            whole = [padded(chosen, columns) for columns in every]
            alike = [contrast_matrix(one, columns) for one, columns in zip(whole, every)]
            if isinstance(chosen, str) or len({rows.shape for rows in alike}) == 1:
                found[name] = whole[0]
    return found


def settings_of(model: Any) -> dict[str, Any]:
    """Parameters that say how the numbers came about."""
    params = {name: value for name, value in model.get_params().items() if name not in ELSEWHERE}
    return {"Type": type(model).__name__} | {name: v for name, v in params.items() if isinstance(v, PLAIN)}


def inputs_digest(model: Any, first_level_contrast: Any = None) -> str:
    """Digest of the data and the designs that went into a fit."""
    found = hashlib.sha256()
    for data in [model.maps_of(first_level_contrast)] if is_group(model) else model.series_:
        found.update(data.attrs["digest"].encode() if "digest" in data.attrs else _bytes(data))
    for design in designs_of(model).values():
        found.update(_bytes(design))
    return found.hexdigest()[:16]


def _bytes(numbers: Any) -> bytes:
    return np.ascontiguousarray(numbers.to_numpy()).tobytes()
