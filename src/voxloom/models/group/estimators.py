"""Estimators of group models: what each needs, what it gives, and the kernel behind it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from voxloom.errors import InputError
from voxloom.kernels.group.homogeneous import fit_homogeneous
from voxloom.kernels.group.known_variances import KnownVariancesFit, fit_known_variances
from voxloom.kernels.group.ols import GroupFit, fit_ols
from voxloom.kernels.group.random_intercept import RandomInterceptFit, fit_random_intercept
from voxloom.kernels.group.sandwich import SandwichFit, fit_sandwich
from voxloom.kernels.group.unequal_variances import UnequalVariancesFit, fit_unequal_variances
from voxloom.spec.section import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from voxloom.kernels.group.sandwich import SmallSampleForm

    #: ``fit(X, *maps (n, V), pattern, present) -> maps``, before `pattern` ``groups`` and ``visits`` where wanted.
    Kernel = Callable[..., tuple[NDArray[Any], ...]]

#: Dims, without ``voxel``, of what kernels return.
DIMS = {
    "beta": ("regressor",),
    "covariance": ("regressor", "regressor_"),
    "variance_of_group": ("variance_group",),
}


@dataclass(frozen=True, kw_only=True)
class Estimator:
    """One way to fit a design over maps.

    Parameters
    ----------
    noise_model : str
        Names the fit, and how `contrast` tests it.
    kernel : callable
    outputs : tuple of str
        Variables of the fit, in the kernel's order; ``sigma2`` is 1 where the kernel gives covariances.
    needs_variance : bool
        Takes the variances of the maps.
    groups : {"none", "optional", "required"}
        Whether maps belong to groups; where optional, each is its own without.
    takes_visits : bool
        Tells the maps of a group apart by their kind (visit, condition).
    copies : int
        Copies of the maps of a sub-block that a fit holds at once, for predictions of memory.
    """

    noise_model: str
    kernel: Kernel
    outputs: tuple[str, ...]
    needs_variance: bool = False
    groups: str = "none"
    takes_visits: bool = False
    copies: int = 4

    def numbers(self, n_columns: int, n_sizes: int) -> int:
        """Numbers that the fit of a voxel holds beside its maps, for groups of so many sizes."""
        of_sizes = 2 * n_sizes * (n_columns + 1) if "icc" in self.outputs else 0
        return 4 * n_columns**2 * ("covariance" in self.outputs) + of_sizes


def _known_variances(method: Any) -> Estimator:
    return Estimator(
        noise_model="group-known-variances",
        kernel=partial(fit_known_variances, method=method),
        outputs=KnownVariancesFit._fields,
        needs_variance=True,
        copies=10,
    )


ESTIMATORS = {
    "ols": Estimator(noise_model="group-ols", kernel=fit_ols, outputs=GroupFit._fields, copies=3),
    "fixed": _known_variances("fixed"),
    "paule-mandel": _known_variances("paule-mandel"),
    "reml": _known_variances("reml"),
    **{
        f"sandwich-{form.lower()}": Estimator(
            noise_model=f"group-sandwich-{form.lower()}",
            kernel=partial(fit_sandwich, form=form),
            outputs=SandwichFit._fields,
            groups="optional",
        )
        for form in ("CR0", "CR1", "CR2", "CR3")
    },
    "sandwich-homogeneous": Estimator(
        noise_model="group-sandwich-homogeneous",
        kernel=fit_homogeneous,
        outputs=SandwichFit._fields,
        groups="required",
        takes_visits=True,
        copies=6,
    ),
    "unequal-variances": Estimator(
        noise_model="group-unequal-variances",
        kernel=fit_unequal_variances,
        outputs=UnequalVariancesFit._fields,
        groups="required",
    ),
    "random-intercept": Estimator(
        noise_model="group-random-intercept",
        kernel=fit_random_intercept,
        outputs=RandomInterceptFit._fields,
        groups="required",
    ),
}
#: Short names.
ALIASES = {"sandwich": "sandwich-cr2"}


def find_estimator(name: str, *, has_groups: bool) -> Estimator:
    """The estimator of this name.

    Raises
    ------
    InputError
        There is none, or it needs groups and has none, or the reverse.
    """
    found = ESTIMATORS.get(ALIASES.get(name, name))
    if found is None:
        raise InputError("estimator", f"{name!r} is unknown.", did_you_mean(name, [*ESTIMATORS, *ALIASES]))
    if found.groups == "required" and not has_groups:
        raise InputError(
            "groups", f"is missing, but {name!r} needs them.", "Give the group (site, family) of each map."
        )
    if found.groups == "none" and has_groups:
        wanted = [key for key, value in ESTIMATORS.items() if value.groups != "none"]
        raise InputError("groups", f"is given, but {name!r} takes none.", f"Estimators with groups: {wanted}.")
    return found


def sandwich_form(noise_model: str) -> SmallSampleForm:
    """CR0 .. CR3 of a noise model ``group-sandwich-cr2``."""
    return cast("SmallSampleForm", noise_model.rsplit("-", 1)[1].upper())


def group_numbers(labels: NDArray[Any]) -> NDArray[np.int64]:
    """Labels as numbers 0 .. G - 1."""
    _, numbers = np.unique(labels, return_inverse=True)
    return np.asarray(numbers, dtype=np.int64)
