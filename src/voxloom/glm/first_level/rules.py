"""Numerical rules: nilearn's, or ours where they are better."""

from __future__ import annotations

from voxloom.errors import InputError

RULES = ("nilearn", "voxloom")


def require_rules(rules: str) -> None:
    """Raise `InputError` unless this is one of `RULES`."""
    if rules not in RULES:
        raise InputError("rules", f"{rules!r} is unknown.", f"Accepted: {RULES}.")


def noise_model_of(name: str, rules: str) -> str:
    """Our name of a noise model: nilearn's "ar1" is Yule-Walker of residuals, ours REML."""
    return "ar1-yule-walker" if rules == "nilearn" and name == "ar1" else name
