"""Tail probabilities in log space: t, F and z into each other, accurate where a probability underflows.

z is the standard normal deviate of the same upper tail probability as the statistic. It goes through log p,
so it does not stop at 37 or 38, where p leaves the range of float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba as nb
import numpy as np
from scipy import special

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: p is never 0: it stops at the smallest normal float64.
P_FLOOR = float(np.finfo(np.float64).tiny)
#: Probabilities below this come from a continued fraction of their logarithm.
FAR = 1e-280
#: |t| below this goes through a power series: its tail is too near 1/2 to tell z.
SMALL_T = 0.02
#: And |z| below this, for the same reason.
SMALL_Z = 1e-3
#: scipy's quantile of t loses digits beyond this |z| (at 3 degrees of freedom all of them beyond 30).
FAR_Z = 6.0
#: More degrees of freedom than this (infinity included) count as this many: t is normal to 1e-12.
MANY_DOF = 1e15


def t_to_z(t: ArrayLike, dof: ArrayLike) -> FloatArray:
    """Turn t into the normal deviate with the same tail probability.

    Parameters
    ----------
    t : array_like
    dof : array_like
        Degrees of freedom, broadcast against t: a number or a map. NaN and values <= 0 give NaN.

    Returns
    -------
    array
        Odd in t and increasing; relative error about 1e-12.
    """
    t, dof = np.broadcast_arrays(np.asarray(t, dtype=np.float64), _dof(dof))
    z = np.asarray(-special.ndtri_exp(_log_t_sf(np.abs(t), dof)))
    near = np.abs(t) < SMALL_T
    z[near] = _small_t_to_z(np.abs(t[near]), dof[near])
    return np.asarray(np.copysign(z, t))


def f_to_z(F: ArrayLike, df1: ArrayLike, df2: ArrayLike) -> FloatArray:
    """Turn F into the normal deviate with the same upper tail; negative where that is above one half."""
    F, df1, df2 = np.broadcast_arrays(np.asarray(F, dtype=np.float64), np.asarray(df1, dtype=np.float64), _dof(df2))
    p = np.asarray(special.fdtrc(df1, df2, F), dtype=np.float64)
    z = np.asarray(-special.ndtri_exp(_log_or_far(p, F, df1, df2)), dtype=np.float64)
    low = p > 0.5
    F, df1, df2 = F[low], df1[low], df2[low]
    with np.errstate(divide="ignore"):  # the lower tail of F is the upper tail of 1 / F
        log_p = _log_or_far(np.asarray(special.fdtr(df1, df2, F)), 1 / F, df2, df1)
    z[low] = special.ndtri_exp(log_p)
    return z


def t_to_p(t: ArrayLike, dof: ArrayLike) -> FloatArray:
    """One-sided (upper tail) p of t, at least `P_FLOOR`."""
    return _floor(special.stdtr(_dof(dof), -np.asarray(t, dtype=np.float64)))


def f_to_p(F: ArrayLike, df1: ArrayLike, df2: ArrayLike) -> FloatArray:
    """Upper tail p of F, at least `P_FLOOR`."""
    F, df1 = np.asarray(F, dtype=np.float64), np.asarray(df1, dtype=np.float64)
    return _floor(special.fdtrc(df1, _dof(df2), F))


def z_to_p(z: ArrayLike) -> FloatArray:
    """One-sided (upper tail) p of z, at least `P_FLOOR`."""
    return _floor(special.ndtr(-np.asarray(z, dtype=np.float64)))


def z_to_t(z: ArrayLike, dof: ArrayLike) -> FloatArray:
    """Inverse of `t_to_z`; infinite where t is beyond 1e150."""
    z, dof = np.broadcast_arrays(np.asarray(z, dtype=np.float64), _dof(dof))
    log_p = special.log_ndtr(-np.abs(z))
    t = np.array(-special.stdtrit(dof, np.exp(log_p)), ndmin=1)
    far = np.atleast_1d(np.abs(z) > FAR_Z)
    t[far] = _newton(np.atleast_1d(log_p)[far], np.atleast_1d(dof)[far])
    t = t.reshape(z.shape)
    near = np.abs(z) < SMALL_Z
    t[near] = _small_z_to_t(np.abs(z[near]), dof[near])
    return np.asarray(np.copysign(t, z))


def _dof(dof: ArrayLike) -> FloatArray:
    dof = np.minimum(np.asarray(dof, dtype=np.float64), MANY_DOF)
    return np.where(dof > 0, dof, np.nan)


def _floor(p: ArrayLike) -> FloatArray:
    return np.asarray(np.maximum(p, P_FLOOR))


def _small_t_to_z(t: FloatArray, dof: FloatArray) -> FloatArray:
    """Turn a small t >= 0 into z by the first four terms of the integral of the density over (0, t)."""
    u = (dof + 1) / dof * t**2
    rest = 1 - 5 * (dof + 5) / (dof + 1) * u / 42
    area = t * (1 - u / 6 * (1 - 3 * (dof + 3) / (dof + 1) * u / 20 * rest))
    return np.asarray(np.sqrt(2) * special.erfinv(2 * _density_at_zero(dof) * area))


def _small_z_to_t(z: FloatArray, dof: FloatArray) -> FloatArray:
    """Inverse of `_small_t_to_z` by two terms; what is left out is of the order z^4."""
    slope = 1 / (np.sqrt(2 * np.pi) * _density_at_zero(dof))
    bend = (dof + 1) / dof * slope**2 / 2 - 0.5
    return np.asarray(slope * z * (1 + bend * z**2 / 3))


def _density_at_zero(dof: FloatArray) -> FloatArray:
    """Density of t at 0; of many degrees of freedom by a series, as betaln has lost five digits at 1e6."""
    y = 1 / (4 * dof)
    series = 1 - y * (1 - y * (1 / 2 + y * (5 / 2 - y * (21 / 8 + y * 399 / 8))))
    few = np.exp(-special.betaln(dof / 2, 0.5)) / np.sqrt(dof)
    return np.where(dof > 200, series / np.sqrt(2 * np.pi), few)


def _log_t_sf(t: FloatArray, dof: FloatArray) -> FloatArray:
    """Log of the upper tail of t >= 0; t^2 is F with 1 degree of freedom, both of its tails."""
    with np.errstate(over="ignore"):
        square = t * t
    return _log_or_far(np.asarray(special.stdtr(dof, -t)), square, 1.0, dof, -np.log(2.0))


def _log_or_far(p: FloatArray, F: FloatArray, df1: ArrayLike, df2: FloatArray, offset: float = 0.0) -> FloatArray:
    """Log p; where p is too small to have one, the tail of F plus the offset."""
    with np.errstate(divide="ignore"):
        log_p = np.array(np.log(p))
    far = p < FAR
    if far.any():
        df1 = np.broadcast_to(np.asarray(df1, dtype=np.float64), F.shape)
        log_p[far] = _log_f_sf(F[far], df1[far], df2[far]) + offset
    return log_p


def _log_f_sf(F: FloatArray, df1: FloatArray, df2: FloatArray) -> FloatArray:
    """Log of the upper tail of F, ``log I_x(df2 / 2, df1 / 2)`` with ``x = df2 / (df2 + df1 F)``."""
    a, b = df2 / 2, df1 / 2
    with np.errstate(over="ignore"):
        odds = df1 * F / df2
        front = -a * np.log1p(odds) - b * np.log1p(1 / odds) - special.betaln(a, b)
    return np.asarray(np.where(np.isinf(F), -np.inf, front - np.log(_fractions(a, b, odds))))


@nb.njit(cache=True)
def _fractions(a: FloatArray, b: FloatArray, odds: FloatArray) -> FloatArray:
    """`_fraction` of every element; `nb.vectorize` would compile a wrapper at every import, 0.2 s."""
    values = np.empty(len(odds))
    for i in range(len(odds)):
        values[i] = _fraction(a[i], b[i], odds[i])
    return values


@nb.njit(cache=True)
def _fraction(a: float, b: float, odds: float) -> float:
    """Continued fraction of ``x^a y^b / (B(a, b) I_x(a, b))`` by Lentz's method (Didonato and Morris 1992).

    Free of cancellation for any a, since ``a - (a + b) x`` is formed as ``a y - b x``.
    """
    x, y = 1 / (1 + odds), odds / (1 + odds)
    if np.isinf(odds) or np.isnan(odds):
        return 1.0  # the factor before it decides
    lam = a * y - b * x
    value = a / (a + 1) * (lam + 1)
    c, d = value, 0.0
    for n in range(1, 10_000):
        alpha = (a + n - 1) * (a + b + n - 1) * n * (b - n) * (x / (a + 2 * n - 1)) ** 2
        beta = n + n * (b - n) * x / (a + 2 * n - 1) + (a + n) / (a + 2 * n + 1) * (lam + 1 + n * (1 + y))
        d = 1 / (beta + alpha * d)
        c = beta + alpha / c
        value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _newton(log_p: FloatArray, dof: FloatArray) -> FloatArray:
    """Find t >= 0 whose upper tail has this log: Newton in log t, where it is nearly straight."""
    with np.errstate(over="ignore"):
        t = np.sqrt(dof * np.expm1(-2 * log_p / dof))
    inside = t < 1e150
    t[t >= 1e150] = np.inf
    for _ in range(50):
        t_in, dof_in = t[inside], dof[inside]
        tail = _log_t_sf(t_in, dof_in)
        density = -(dof_in + 1) / 2 * np.log1p(t_in**2 / dof_in) - np.log(dof_in) / 2 - special.betaln(dof_in / 2, 0.5)
        step = (tail - log_p[inside]) * np.exp(tail - density) / t_in
        t[inside] = t_in * np.exp(step)
        if np.all(np.abs(step) < 1e-14):
            break
    return t
