"""Parameters of an estimator as fields, as scikit-learn has them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from numbers import Real
from typing import Any, Self

from voxloom.errors import InputError
from voxloom.spec.section import did_you_mean


def is_number(given: Any) -> bool:
    """Whether this is a real number."""
    return isinstance(given, Real)


@dataclass(eq=False, repr=False)
class Parameters:
    """An estimator whose parameters are its fields: they are kept as they are given, and its fit leaves them alone."""

    def __post_init__(self) -> None:
        self.require_sound()

    def require_sound(self) -> None:
        """Raise `InputError` where a parameter cannot be right; asked when it is made and when it is fitted."""

    @classmethod
    def names(cls) -> list[str]:
        """Names of the parameters."""
        return [field.name for field in fields(cls)]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Parameters by name."""
        return {name: getattr(self, name) for name in self.names()}

    def set_params(self, **params: Any) -> Self:
        """Replace parameters; fitted attributes stay until the next fit.

        Raises
        ------
        InputError
            There is no such parameter.
        """
        for name, value in params.items():
            if name not in self.names():
                raise InputError(type(self).__name__, f"has no parameter {name!r}.", did_you_mean(name, self.names()))
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        shown = {field.name: repr(getattr(self, field.name)) for field in fields(self)}
        defaults = {field.name: repr(field.default) for field in fields(self)}
        return f"{type(self).__name__}({', '.join(f'{k}={v}' for k, v in shown.items() if v != defaults[k])})"
