"""Parameters of an estimator as attributes, as scikit-learn has them."""

from __future__ import annotations

import inspect
from typing import Any, Self

from voxloom.errors import InputError
from voxloom.spec.section import did_you_mean


class Parameters:
    """An object whose constructor's arguments are attributes of the same names."""

    @classmethod
    def names(cls) -> list[str]:
        """Names of the parameters."""
        return [name for name in inspect.signature(cls).parameters if name != "self"]

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
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        changed = {name: value for name, value in self.get_params().items() if value is not defaults[name]}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"
