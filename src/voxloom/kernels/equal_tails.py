"""t and F of any degrees of freedom as those of others with the same tail probability, by way of z."""

from __future__ import annotations

from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import special

from voxloom.kernels.tails import f_to_z, z_to_t
from voxloom.kernels.z_by_dof import f_to_z_by_dof, t_to_z_by_dof
from voxloom.kernels.z_table import ZTable, tabulate

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Powers of two of |z| between which t of z is tabulated, and of 2^z for F.
T_RANGE, F_RANGE = (-4, 6), (-24, 40)
#: Beyond this z the tail of F is no float64; F is found by halving the distance between powers of two.
FAR_Z, HALVINGS = 37.0, 64


def t_with_dof(t: FloatArray, dof: FloatArray, other: float) -> FloatArray:
    """Find the t of `other` degrees of freedom in place of t of `dof`, to 1e-10; infinite and NaN stay."""
    return np.where(np.isinf(t), t, _t_of_z(float(other))(t_to_z_by_dof(t, dof)))


def f_with_dof(F: FloatArray, df1: float, df2: FloatArray, other: float) -> FloatArray:
    """Find the F of (df1, other) degrees of freedom in place of F of (df1, df2), to 1e-10; infinite and NaN stay."""
    z = f_to_z_by_dof(F, df1, df2)
    return np.where(np.isinf(F) | (F == 0), F, _f_of_z(float(df1), float(other))(np.exp2(z)))


@lru_cache(maxsize=16)
def _t_of_z(dof: float) -> ZTable:
    return tabulate(partial(z_to_t, dof=dof), *T_RANGE, odd=True)


@lru_cache(maxsize=16)
def _f_of_z(df1: float, df2: float) -> ZTable:
    """Table over 2^z: positive, as a table's argument is, with pieces that are evenly wide in z."""
    return tabulate(partial(_f_of_power, df1=df1, df2=df2), *F_RANGE, odd=False)


def _f_of_power(power: FloatArray, df1: float, df2: float) -> FloatArray:
    with np.errstate(divide="ignore"):
        return z_to_f(np.log2(power), df1, df2)


def z_to_f(z: FloatArray, df1: float, df2: float) -> FloatArray:
    """Inverse of `tails.f_to_z`."""
    z = np.asarray(z, dtype=np.float64)
    lower = special.fdtri(df1, df2, special.ndtr(np.minimum(z, 0.0)))
    with np.errstate(divide="ignore"):
        upper = 1.0 / special.fdtri(df2, df1, special.ndtr(-np.clip(z, 0.0, FAR_Z)))
    F = np.where(z < 0, lower, upper)
    far = z > FAR_Z
    F[far] = _far_f(z[far], df1, df2)
    return np.asarray(F)


def _far_f(z: FloatArray, df1: float, df2: float) -> FloatArray:
    low, high = np.zeros(z.size), np.full(z.size, 1000.0)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        beyond = f_to_z(np.exp2(middle), df1, df2) > z
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    return np.asarray(np.exp2(high))
