"""Results of a permutation test as Datasets: maps, nulls, p, and how these were made."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from voxloom.errors import InputError, VoxloomWarning
from voxloom.kernels.permutation.sequential import Counts, sequential_p
from voxloom.models.inference.joint import heights, how_many
from voxloom.models.inference.null_p import p_of_null
from voxloom.models.inference.permutation import uncorrected_p

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from voxloom.kernels.permutation.tail_fit import Tail
    from voxloom.models.inference.prepared_test import PreparedTest
    from voxloom.models.inference.run_test import Found
    from voxloom.spec.statistics import Statistic

#: How p that stop are made.
SEQUENTIAL = "h / l, the h-th that reaches being random rearrangement l (Besag and Clifford); else (b + 1) / (m + 1)"


def result_of(
    test: PreparedTest, found: Found, statistics: Mapping[str, Statistic], tail: Tail | None, stop_at: int | None
) -> xr.Dataset:
    """Maps and nulls of one test of one modality."""
    variables: dict[str, Any] = {"stat": ("voxel", found.stat)}
    if test.smoothing is None:
        variables["z_score"] = ("voxel", test.to_z(found.stat))
    variables["n"] = ("voxel", found.n, {"long_name": "maps with a value"})
    variables |= _uncorrected(test, found, stop_at)
    for name, one in statistics.items():
        p, attrs = p_of_null(heights(test, found, name), found.null[name], tail=tail, **how_many(test))
        variables[f"p_{name}"] = ("voxel", p, test.attrs | _parameters(one) | attrs)
        variables[f"null_{name}"] = ("permutation", found.null[name])
    variables |= {name: ("voxel", values) for name, values in found.spatial.items()}
    dof = {} if test.groups is not None else {"dof": test.model.dof}  # of v and G it differs between voxels
    return xr.Dataset(variables, attrs=test.attrs | dof)


def _uncorrected(test: PreparedTest, found: Found, stop_at: int | None) -> dict[str, Any]:
    """P of every voxel alone, by all rearrangements or by those until it stopped."""
    untested = np.isnan(found.stat)
    if stop_at is None:
        p = np.where(untested, np.nan, uncorrected_p(test, found.reached))
        return {"p_uncorrected": ("voxel", p, test.attrs)}
    p = sequential_p(Counts(found.reached, found.used), stop_at)
    attrs = test.attrs | {"stop_at": stop_at, "p_method": SEQUENTIAL}
    return {
        "p_uncorrected": ("voxel", np.where(untested, np.nan, p), attrs),
        "n_used": ("voxel", found.used, {"long_name": "random rearrangements until the voxel stopped"}),
    }


def _parameters(one: Statistic) -> dict[str, Any]:
    """Those of a statistic that are set, for attributes of files."""
    return {key: value for key, value in one.model_dump()[one.name].items() if value is not None}


def stacked(parts: list[list[xr.Dataset]], contrasts: list[str], modalities: list[Any]) -> xr.Dataset:
    """Results of every contrast and modality as one Dataset; attributes in which they differ become lists."""
    along = pd.Index(modalities, name="modality")
    rows = [xr.concat(row, along, join="exact", combine_attrs=_combined) for row in parts]
    return xr.concat(rows, pd.Index(contrasts, name="contrast"), join="exact", combine_attrs=_combined)


def _combined(attrs: Sequence[dict[str, Any]], context: Any = None) -> dict[str, Any]:
    """Attributes of several, one value where it is that of all."""
    values = {key: [one.get(key) for one in attrs] for key in attrs[0]}
    return {key: all_of[0] if all(value == all_of[0] for value in all_of) else all_of for key, all_of in values.items()}


def report_untested(found: Sequence[Found]) -> None:
    """Count the voxels of every modality that are not tested in a warning; none that is tested is an error."""
    for one in found:
        untested, n_voxels = int(np.isnan(one.stat).sum()), len(one.stat)
        if untested == n_voxels:
            raise InputError(
                "maps",
                f"none of the {n_voxels} voxels has variance and enough maps with a value.",
                "Check mask and maps.",
            )
        if untested:
            warnings.warn(
                f"maps: {untested} of {n_voxels} voxels lack variance, or have too few maps; they are not tested.",
                VoxloomWarning,
                stacklevel=3,
            )
