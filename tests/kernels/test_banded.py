"""Band matrices against full ones."""

from __future__ import annotations

import numpy as np
import pytest

from voxloom.kernels.noise.banded import add_products, factor_bands, invert_bands, solve_bands


def random_bands(n, m, p, seed=0):
    """Positive definite band matrices (n, m, m), and their lower diagonals (n, m, p + 1)."""
    i, j = np.indices((m, m))
    A = np.random.default_rng(seed).standard_normal((n, m, m))
    B = np.where(np.abs(i - j) <= p, A + A.swapaxes(1, 2), 0.0) + 4 * (p + 1) * np.eye(m)
    bands = np.zeros((n, m, p + 1))
    for k in range(min(p + 1, m)):
        bands[:, k:, k] = np.diagonal(B, -k, axis1=1, axis2=2)
    return B, bands


@pytest.mark.parametrize(("m", "p"), [(7, 2), (1, 3), (12, 3), (5, 8), (0, 2), (9, 0)])
def test_factors_solutions_and_inverses_are_those_of_full_matrices(m, p):
    B, factors = random_bands(3, m, p)
    F = np.random.default_rng(1).standard_normal((3, m, 4))
    log_det, solution = factor_bands(factors), F.copy()
    np.testing.assert_allclose(log_det, np.linalg.slogdet(B)[1], atol=1e-12)
    solve_bands(factors, solution)
    np.testing.assert_allclose(B @ solution, F, atol=1e-12)
    product, (_, bands) = np.ones((2, 3, m)), random_bands(3, m, p)
    add_products(bands, F[:2, :, 0].copy(), product)
    np.testing.assert_allclose(product, 1 + np.einsum("pij,nj->npi", B, F[:2, :, 0]), atol=1e-12)
    inverse, full = invert_bands(factors), np.linalg.inv(B)
    for k in range(min(p + 1, m)):
        np.testing.assert_allclose(inverse[:, k:, k], np.diagonal(full, -k, axis1=1, axis2=2), atol=1e-14)


def test_a_matrix_that_is_not_positive_definite_gives_nan_and_does_not_harm_its_neighbours():
    B, factors = random_bands(2, 6, 2)
    factors[0, 3, 0] = -1.0
    log_det = factor_bands(factors)
    assert np.isnan(log_det[0])
    np.testing.assert_allclose(log_det[1], np.linalg.slogdet(B[1])[1])
