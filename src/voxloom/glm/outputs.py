"""Maps of a contrast by nilearn's names for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from voxloom.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import xarray as xr

#: Variable of a contrast by nilearn's `output_type`.
VARIABLES = {
    "z_score": "z_score",
    "stat": "stat",
    "p_value": "p_value",
    "effect_size": "effect",
    "effect_variance": "variance",
}
OUTPUT_TYPES = (*VARIABLES, "all")


def require_output(output_type: str) -> None:
    """Raise `InputError` unless this is one of `OUTPUT_TYPES`."""
    if output_type not in OUTPUT_TYPES:
        raise InputError("output_type", f"{output_type!r} is unknown.", f"Accepted: {OUTPUT_TYPES}.")


def outputs_of(answer: xr.Dataset, output_type: str, image: Callable[[xr.DataArray], Any]) -> Any:
    """The image of one output, or a dict of all that there are (F has neither effect nor variance)."""
    if output_type == "all":
        return {name: image(answer[variable]) for name, variable in VARIABLES.items() if variable in answer}
    if VARIABLES[output_type] not in answer:
        raise InputError("output_type", f"{output_type!r} is of t contrasts, and this is an F.", "Take 'stat'.")
    return image(answer[VARIABLES[output_type]])
