"""Tables of z against the exact functions and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special

from voxloom.kernels.tails import f_to_z, t_to_z
from voxloom.kernels.z_table import F_RANGE, T_RANGE, f_table, t_table

DOFS = [1.0, 2.0, 2.5, 5.0, 19.0, 77.3, 1e3, 1e6, np.inf]
F_DOFS = [(1.0, 1.0), (2.0, 17.0), (3.0, 1e6), (5.0, np.inf), (40.0, 50.5), (100.0, 1000.0)]
HIGHEST = 2.0 ** T_RANGE[1]


def values(low: float, high: float, n: int = 20_000) -> np.ndarray:
    return np.geomspace(low, high, n) * np.random.default_rng(0).uniform(0.999, 1.001, n)


@pytest.mark.parametrize("dof", DOFS)
def test_t_agrees_with_the_exact_function_to_1e_11(dof):
    t = np.concatenate([values(1e-8, 3 * HIGHEST), values(0.5, 10)])
    np.testing.assert_allclose(t_table(dof)(t), t_to_z(t, dof), rtol=1e-11)


@pytest.mark.parametrize(
    ("dof", "middle"), [(1, lambda t: np.arctan(t) / np.pi), (2, lambda t: t / (2 * np.sqrt(2 + t * t)))]
)
def test_small_t_has_the_closed_form(dof, middle):
    t = values(1e-10, 0.1)
    np.testing.assert_allclose(t_table(dof)(t), np.sqrt(2) * special.erfinv(2 * middle(t)), rtol=1e-12)


@pytest.mark.parametrize("df", F_DOFS)
def test_f_agrees_with_the_exact_function_to_1e_11(df):
    F = np.concatenate([values(2.0 ** (F_RANGE[0] - 2), 2.0 ** (F_RANGE[1] + 2)), values(0.2, 10)])
    np.testing.assert_allclose(f_table(*df)(F), f_to_z(F, *df), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("dof", DOFS)
def test_z_is_odd_and_increasing_also_where_pieces_meet(dof):
    edges = 2.0 ** np.arange(*T_RANGE) * (1 + np.arange(16)[:, None] / 16)
    t = np.sort(np.concatenate([edges.ravel() * (1 - 1e-13), edges.ravel(), edges.ravel() * (1 + 1e-13), values(1, 9)]))
    z = t_table(dof)(t)
    np.testing.assert_array_equal(t_table(dof)(-t), -z)
    assert (np.diff(z) >= -1e-15 * z[1:]).all()


def test_f_is_increasing():
    F = np.sort(values(1e-9, 1e6))
    assert (np.diff(f_table(2.0, 17.0)(F)) > 0).all()


def test_infinite_nan_and_impossible_values_are_as_the_exact_functions_have_them():
    t = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e200])
    np.testing.assert_array_equal(t_table(9.0)(t), t_to_z(t, 9.0))
    np.testing.assert_array_equal(np.signbit(t_table(9.0)(t[:2])), [False, True])
    F = np.array([0.0, np.inf, np.nan, 1e-300, -1.0])
    np.testing.assert_array_equal(f_table(2.0, 9.0)(F), f_to_z(F, 2.0, 9.0))
    assert np.isnan(t_table(0.0)(np.ones(3))).all()


def test_any_shape_any_block_and_in_place(monkeypatch):
    t = np.random.default_rng(1).standard_t(9, (7, 500)) * 5
    expected = t_table(9.0)(t)
    np.testing.assert_array_equal(t_table(9.0)(t[:, ::3]), expected[:, ::3])
    monkeypatch.setattr("voxloom.kernels.z_table.BLOCK", 33)
    assert t_table(9.0)(t, out=t) is t
    np.testing.assert_array_equal(t, expected)


def test_a_table_is_made_once():
    assert t_table(31.0) is t_table(31.0)
    assert f_table(2.0, 31.0) is f_table(2.0, 31.0)
