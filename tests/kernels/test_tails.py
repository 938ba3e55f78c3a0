"""Tails against closed forms, scipy and each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from voxloom.kernels.tails import P_FLOOR, f_to_p, f_to_z, t_to_p, t_to_z, z_to_p, z_to_t

DOFS = [1.0, 2.5, 10.0, 77.3, 1e3, 1e6, 1e12, np.inf]


@pytest.mark.parametrize(
    ("dof", "tail"),
    [
        (1, lambda t: np.arctan(1 / t) / np.pi),
        (2, lambda t: 1 / (np.hypot(t, np.sqrt(2)) * (np.hypot(t, np.sqrt(2)) + t))),
    ],
)
def test_closed_forms(dof, tail):
    t = np.logspace(0, 140, 60)
    np.testing.assert_allclose(special.log_ndtr(-t_to_z(t, dof)), np.log(tail(t)), rtol=1e-12)


@pytest.mark.parametrize("dof", DOFS)
def test_z_has_the_p_of_t_where_p_is_a_number(dof):
    t = np.linspace(0.01, 30, 300)
    p = stats.t.sf(t, dof)
    t, p = t[p > 1e-290], p[p > 1e-290]
    np.testing.assert_allclose(t_to_z(t, dof), stats.norm.isf(p), rtol=1e-10, atol=1e-15)
    np.testing.assert_allclose(t_to_p(t, dof), p, rtol=1e-9)


@pytest.mark.parametrize("dof", DOFS)
def test_odd_increasing_and_below_t(dof):
    t = np.concatenate([np.logspace(-9, 0, 400), np.linspace(1, 40, 400)[1:], np.logspace(1.61, 5, 200)])
    z = t_to_z(t, dof)
    np.testing.assert_array_equal(t_to_z(-t, dof), -z)
    assert (np.diff(z) > 0).all()
    assert (z <= t * (1 + 1e-9)).all()


def test_there_is_no_step_where_p_underflows():
    """Second differences of z stay smooth through p = 1e-280, where the formula changes."""
    t = np.linspace(210, 245, 2001)
    p = special.stdtr(240.0, -t)
    assert p[0] > 1e-280 > p[-1] > 0
    bend = np.diff(t_to_z(t, 240.0), 2)
    np.testing.assert_allclose(bend, np.median(bend), atol=1e-6)


def test_far_tail_is_the_asymptotic_series():
    """log sf(t) ~ log pdf(t) + log(t / dof) as t grows (first term of the tail expansion)."""
    for dof in (30.0, 200.0):
        t = np.array([1e5, 1e7, 1e9])
        expected = stats.t.logpdf(t, dof) + np.log(t / dof)
        np.testing.assert_allclose(special.log_ndtr(-t_to_z(t, dof)), expected, rtol=1e-9)


def test_infinite_dof_is_normal():
    z = np.array([-300.0, -5, 0, 1e-8, 1, 36, 40, 1000])
    np.testing.assert_allclose(t_to_z(z, np.inf), z, rtol=1e-9)


@pytest.mark.parametrize("dof", DOFS[2:])
def test_round_trip(dof):
    z = np.concatenate([np.linspace(-36, 36, 145), [45, 100, 300], np.geomspace(1e-9, 0.1, 50)])
    t = z_to_t(z, dof)
    known = np.isfinite(t)
    np.testing.assert_allclose(t_to_z(t[known], dof), z[known], rtol=1e-10)
    assert known.sum() > 20


@given(t=st.floats(0.001, 100), dof=st.floats(1, 500))
def test_t_squared_is_f_in_both_tails(t, dof):
    log_two_tails = special.log_ndtr(-t_to_z(t, dof)) + np.log(2)
    z = f_to_z(t * t, 1, dof)
    expected = special.log_ndtr(-z)
    np.testing.assert_allclose(expected, log_two_tails, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("df1", [1, 3, 40])
def test_f_against_scipy(df1):
    F = np.concatenate([np.logspace(-4, 0, 30), np.linspace(1, 60, 100)])
    p = stats.f.sf(F, df1, 50.5)
    np.testing.assert_allclose(f_to_p(F, df1, 50.5), p, rtol=1e-9)
    z = f_to_z(F, df1, 50.5)
    np.testing.assert_allclose(special.log_ndtr(-z), stats.f.logsf(F, df1, 50.5), rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(special.log_ndtr(z), stats.f.logcdf(F, df1, 50.5), rtol=1e-9, atol=1e-15)


def test_f_with_infinite_denominator_is_chi_square():
    F = np.array([0.5, 2.0, 20.0, 700.0])
    np.testing.assert_allclose(f_to_p(F, 3, np.inf), stats.chi2.sf(3 * F, 3).clip(P_FLOOR), rtol=1e-9)
    tail = special.log_ndtr(-f_to_z(F[-1:], 2, np.inf))
    np.testing.assert_allclose(tail, -F[-1:], rtol=1e-9)  # chi-square with 2: exp(-x / 2)


def test_p_is_never_zero():
    assert t_to_p(1e300, 50) == f_to_p(1e300, 2, 50) == z_to_p(50) == P_FLOOR > 0


def test_edges():
    np.testing.assert_array_equal(t_to_z([0.0, np.inf, -np.inf, np.nan], 9), [0, np.inf, -np.inf, np.nan])
    np.testing.assert_array_equal(f_to_z([0.0, np.inf, np.nan], 2, 9), [-np.inf, np.inf, np.nan])
    assert np.isnan([t_to_z(1, 0), t_to_p(1, -1), f_to_z(1, 2, np.nan), z_to_t(1, 0), z_to_t(np.nan, 5)]).all()
    assert t_to_z(2.0, 10).shape == ()
    assert t_to_z(np.ones((2, 3)), np.full(3, 9.0)).shape == (2, 3)


@pytest.mark.parametrize(("df1", "df2"), [(5, np.inf), (2, 1e6), (100, 1000), (40, 17)])
def test_lower_tail_of_f_is_its_power_law_where_p_underflows(df1, df2):
    """P(F) ~ x^(df1 / 2) / (df1 / 2 B(df1 / 2, df2 / 2)) with x = df1 F / df2 as F goes to 0."""
    F, large = 10.0 ** -np.arange(20.0, 200, 18), min(df2, 1e15)
    expected = df1 / 2 * np.log(df1 * F / large) - np.log(df1 / 2) - special.betaln(df1 / 2, large / 2)
    np.testing.assert_allclose(special.log_ndtr(f_to_z(F, df1, df2)), expected, rtol=1e-11)
