"""Several contrasts and modalities corrected together: one null, of the maximum over all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from voxloom.errors import InputError
from voxloom.models.inference.null_p import p_of_null

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from voxloom.kernels.permutation.tail_fit import Tail
    from voxloom.models.inference.permutation import PreparedTest
    from voxloom.models.inference.run_test import Found
    from voxloom.spec.statistics import Statistic

    FloatArray = NDArray[np.float64]


def heights(test: PreparedTest, found: Found, name: str) -> FloatArray:
    """Observed statistic (V,) on the scale of its null: in size, where the test is two-sided."""
    values = found.spatial.get(name, found.stat)
    return np.abs(values) if test.two_sided else values


def how_many(test: PreparedTest) -> dict[str, Any]:
    """What `p_of_null` asks about the rearrangements."""
    return {"exhaustive": test.rearrangements.exhaustive, "n_distinct": test.rearrangements.n_distinct}


def require_comparable(tests: Mapping[str, PreparedTest], statistics: Mapping[str, Statistic]) -> None:
    """Raise `InputError` unless all tests rearrange the maps alike and their statistics have one scale."""
    names = list(tests)
    for name in names[1:]:
        one, other = (
            (test.rearrangements.size, test.rearrangements.scheme, test.model.size)
            for test in (tests[names[0]], tests[name])
        )
        if one != other:
            raise InputError(
                "contrast",
                f"`{names[0]}` goes through {one[0]} rearrangements of {one[2]} data by {one[1]!r}, `{name}` through "
                f"{other[0]} of {other[2]} by {other[1]!r}: there is no null of both.",
                "Name one scheme for all, Exchangeability(scheme=...), or test them one by one.",
            )
    kinds = sorted({test.stat_type for test in tests.values()})
    on_stat = [name for name, one in statistics.items() if getattr(one, "on", "z") == "stat"]
    if on_stat and len(kinds) > 1:
        raise InputError(on_stat[0], f'on="stat" has no common scale for {" and ".join(kinds)}.', 'Take on="z".')


def joint_p(
    tests: Sequence[PreparedTest],
    found: Sequence[Sequence[Found]],
    statistics: Mapping[str, Statistic],
    tail: Tail | None,
) -> xr.Dataset:
    """Corrected p over all contrasts and modalities.

    Parameters
    ----------
    tests : sequence of PreparedTest
        Of the contrasts.
    found : sequence of sequences of Found
        Of every contrast, those of the modalities.
    statistics : mapping of str to Statistic
    tail : "gpd" or "gamma", optional

    Returns
    -------
    Dataset
        ``p_joint_<name>(contrast, modality, voxel)`` and ``null_joint_<name>(permutation)``; the maximum of t and F is
        taken of their z.
    """
    variables: dict[str, Any] = {}
    for name, one in statistics.items():
        scale = [test.to_z if not one.spatial else np.asarray for test in tests]
        values = np.array([[to(heights(test, f, name)) for f in row] for test, to, row in zip(tests, scale, found)])
        null = np.max([to(f.null[name]) for to, row in zip(scale, found) for f in row], axis=0)
        p, attrs = p_of_null(values.ravel(), null, tail=tail, **how_many(tests[0]))
        attrs |= {"p_method": tests[0].attrs["p_method"], "scale": name if one.spatial else _scale(tests[0])}
        variables[f"p_joint_{name}"] = (("contrast", "modality", "voxel"), p.reshape(values.shape), attrs)
        variables[f"null_joint_{name}"] = (("permutation",), null, {})
    return xr.Dataset(variables)


def _scale(test: PreparedTest) -> str:
    return "z" if test.smoothing is None else test.stat_type
