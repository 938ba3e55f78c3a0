"""t and F of other degrees of freedom with the same tail, against the exact functions."""

from __future__ import annotations

import numpy as np
import pytest

from voxloom.kernels.equal_tails import f_with_dof, t_with_dof, z_to_f
from voxloom.kernels.tails import f_to_z, t_to_z


# there are never more degrees of freedom with fewer maps
@pytest.mark.parametrize("other", [17.0, 400.0])
def test_t_keeps_its_tail(other):
    t, dof = np.meshgrid(np.r_[0.0, np.geomspace(1e-5, 200, 100)], [1.0, 3, 9, 17])
    found = t_with_dof(t, dof, other)
    np.testing.assert_allclose(t_to_z(found, other), t_to_z(t, dof), rtol=1e-9)
    np.testing.assert_array_equal(t_with_dof(-t, dof, other), -found)
    np.testing.assert_allclose(t_with_dof(t, np.full(t.shape, other), other), t, rtol=1e-8)
    np.testing.assert_array_equal(
        t_with_dof(np.array([np.nan, np.inf, -np.inf]), np.ones(3), 5), [np.nan, np.inf, -np.inf]
    )


@pytest.mark.parametrize("df1", [2.0, 5.0])
@pytest.mark.parametrize("other", [17.0, 400.0])
def test_f_keeps_its_tail(df1, other):
    F, dof = np.meshgrid(np.geomspace(1e-4, 5000, 100), [1.0, 3, 9, 17])
    found = f_with_dof(F, df1, dof, other)
    np.testing.assert_allclose(f_to_z(found, df1, other), f_to_z(F, df1, dof), rtol=1e-8, atol=1e-8)
    assert f_with_dof(np.array([np.inf, 0.0]), df1, np.ones(2), other).tolist() == [np.inf, 0.0]


def test_f_of_z_is_the_inverse_far_out_too():
    z = np.linspace(-8, 45, 107)
    np.testing.assert_allclose(f_to_z(z_to_f(z, 3.0, 900.0), 3.0, 900.0), z, atol=1e-9)
