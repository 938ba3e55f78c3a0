"""z with degrees of freedom of their own for every value, against the exact functions."""

from __future__ import annotations

import numpy as np
import pytest

from voxloom.kernels.tails import f_to_z, t_to_z
from voxloom.kernels.z_by_dof import f_to_z_by_dof, t_to_z_by_dof

#: Across several tables, with values outside all of them.
SPREADS = [(1.0, 2.0), (3.0, 40.0), (15.2, 900.0), (0.3, 3e6)]


def dofs(low: float, high: float, n: int = 4000) -> np.ndarray:
    return np.exp(np.random.default_rng(1).uniform(np.log(low), np.log(high), n))


@pytest.mark.parametrize("spread", SPREADS)
def test_t_agrees_with_the_exact_function_to_1e_11(spread):
    rng, nu = np.random.default_rng(0), dofs(*spread)
    t = rng.choice([-1, 1], nu.size) * 10.0 ** rng.uniform(-6, 4, nu.size)
    np.testing.assert_allclose(t_to_z_by_dof(t, nu), t_to_z(t, nu), rtol=1e-11)


@pytest.mark.parametrize("df1", [2, 5])
def test_f_agrees_with_the_exact_function_to_1e_11(df1):
    nu = dofs(3.0, 200.0)
    F = 10.0 ** np.random.default_rng(0).uniform(-5, 4, nu.size)
    np.testing.assert_allclose(f_to_z_by_dof(F, df1, nu), f_to_z(F, df1, nu), rtol=1e-11, atol=1e-11)


def test_a_value_depends_on_no_other_to_the_last_bit():
    nu = dofs(0.5, 3e6)
    t = np.random.default_rng(0).standard_t(5, nu.size)
    whole = t_to_z_by_dof(t, nu)
    np.testing.assert_array_equal(t_to_z_by_dof(t[100:200], nu[100:200]), whole[100:200])
    np.testing.assert_array_equal([t_to_z_by_dof(t[i : i + 1], nu[i : i + 1])[0] for i in range(20)], whole[:20])


def test_edges_and_shapes():
    t = np.array([[0.0, np.inf, -np.inf, np.nan], [2.0, 2.0, 2.0, 2.0]])
    nu = np.array([[9.0, 9.0, 9.0, 9.0], [np.nan, np.inf, 8.0, -1.0]])
    np.testing.assert_array_equal(t_to_z_by_dof(t, nu), t_to_z(t, nu))
    assert np.isnan(t_to_z_by_dof(np.full(3, np.nan), np.full(3, np.nan))).all()
