"""The screened maximum against full refits in float64, PALM's runs, and the laws it must obey to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from permutation_oracle import projections, refitted
from voxloom.kernels.permutation import maxstat
from voxloom.kernels.permutation.nuisance import stat_of_cosine
from voxloom.kernels.permutation.products import MatrixProducts, TableProducts, products_of
from voxloom.kernels.permutation.rearrange import plan_rearrangements
from voxloom.kernels.permutation.rows import Rows, part_of, rows_of

ONE_SAMPLE = np.ones((1, 1))


def model_of(n: int, k: int, scheme: str, seed: int = 0):
    """Design, contrast of its second column (the mean where there is no other) and their projections."""
    rng = np.random.default_rng(seed)
    M = np.c_[np.ones(n), rng.standard_normal((n, k))]
    C = np.eye(k + 1)[min(k, 1)][np.newaxis]
    return M, C, projections(M, C, scheme)


def draws(n: int, scheme: str, n_perm: int, seed: int = 0) -> np.ndarray:
    return plan_rearrangements(np.arange(n), scheme, n_perm, seed).draw(0, n_perm)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    n=st.integers(7, 30),
    k=st.integers(0, 4),
    n_voxels=st.integers(1, 40),
    scheme=st.sampled_from(["flip", "permute"]),
    offset=st.sampled_from([0.0, 1.0, 1e3]),
)
def test_extremes_are_those_of_refits(seed, n, k, n_voxels, scheme, offset):
    M, C, model = model_of(n, k, scheme, seed)
    if k == 0:
        scheme = "flip"
        model = projections(M, C, "flip")
    rng = np.random.default_rng(seed + 1)
    # one strong direction in common: then all voxels of a permutation have t of one sign
    Y = rng.standard_normal((n, n_voxels)) + rng.integers(0, 5) * rng.standard_normal((n, 1)) + offset
    indices = draws(n, scheme, 30, seed)
    found = maxstat.extremes(Y, indices, model)
    t = refitted(M, C, Y, indices)
    np.testing.assert_allclose(stat_of_cosine(found.greatest, model), t.max(axis=1), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(stat_of_cosine(found.least, model), t.min(axis=1), rtol=1e-7, atol=1e-9)
    observed = stat_of_cosine(maxstat.observed(Y, model), model)
    np.testing.assert_allclose(observed, t[0], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(("k", "scheme"), [(0, "flip"), (3, "flip"), (1, "permute"), (3, "permute")])
def test_float32_ties_are_settled_in_float64(k, scheme):
    """Voxels that differ by 1e-9 look equal in float32; the greatest of them must be found."""
    n, n_voxels = 24, 700
    M, C, model = model_of(n, k, scheme)
    rng = np.random.default_rng(8)
    Y = rng.standard_normal((n, 1)) + 1e-9 * rng.standard_normal((n, n_voxels))
    indices = draws(n, scheme, 40)
    found = maxstat.extremes(Y, indices, model)
    t = refitted(M, C, Y, indices)
    spread = np.ptp(t, axis=1)
    assert spread.min() > 1e-10
    assert np.abs(stat_of_cosine(found.greatest, model) - t.max(axis=1)).max() < 1e-4 * spread.min()
    assert np.abs(stat_of_cosine(found.least, model) - t.min(axis=1)).max() < 1e-4 * spread.min()


@pytest.mark.parametrize(
    ("n", "k", "scheme", "r", "nuisance"),
    [
        (40, 0, "flip", 1, "freedman-lane"),
        (40, 2, "flip", 1, "freedman-lane"),
        (300, 3, "permute", 1, "freedman-lane"),
        (9, 6, "flip", 1, "freedman-lane"),
        (40, 3, "flip", 3, "freedman-lane"),
        (40, 6, "permute", 4, "freedman-lane"),
        (40, 6, "permute", 1, "dekker"),
        (40, 6, "flip", 3, "dekker"),
        (9, 6, "permute", 2, "dekker"),
        (40, 4, "flip", 2, "manly"),
    ],
)
def test_screening_error_stays_within_its_bound(n, k, scheme, r, nuisance):
    M, C, _ = model_of(n, k, scheme)
    C = C if r == 1 else np.eye(k + 1)[1 : r + 1]
    model = projections(M, C, scheme, nuisance)
    Y = np.random.default_rng(1).standard_normal((n, 1024))
    indices = draws(n, scheme, 64)
    e, kept = maxstat.residuals(Y, model)
    assert kept.all()
    rows = rows_of(model, indices)
    products = MatrixProducts(rows)
    U = np.concatenate([U.copy() for _, U in products.of(e)])
    for p in range(len(U)):
        maxstat._to_cosines(U[p], r, r == 1)
    room = U[:, r].min(axis=1) if U.shape[1] > r else np.ones(len(U))
    exact = np.stack([maxstat._cosines(e, part_of(rows, slice(p, p + 1))) for p in range(len(indices))])
    bound = np.array([maxstat._tolerance(products.roundoffs, rows, p, left) for p, left in enumerate(room)])
    error = np.abs(U[:, 0] - exact).max(axis=1)
    assert (error <= bound).all()
    # and it is a bound that screens: at most a third of the spread of h, where anything is left to test
    assert np.median(bound) < exact.std() / 3


@pytest.fixture(scope="module")
def cut():
    """Data over several blocks with every kind of voxel, and their extremes in one piece."""
    _, _, model = model_of(30, 2, "permute")
    rng = np.random.default_rng(3)
    Y = rng.standard_normal((30, 3000)) + 10
    Y[4, 17], Y[:, 1500], Y[:, 2999], Y[0, 2] = np.nan, 3.25, 0, np.inf
    indices = draws(30, "permute", 1100)
    return Y, indices, model, maxstat.extremes(Y, indices, model)


@pytest.mark.parametrize("width", [1, 700, 1024, 2500])
def test_any_cut_of_voxels_gives_the_same_bits(cut, width):
    Y, indices, model, whole = cut
    if width == 1:
        Y, indices = Y[:, :40], indices[:50]
        whole = maxstat.extremes(Y, indices, model)
    parts = [maxstat.extremes(Y[:, v : v + width], indices, model) for v in range(0, Y.shape[1], width)]
    np.testing.assert_array_equal(np.maximum.reduce([part.greatest for part in parts]), whole.greatest)
    np.testing.assert_array_equal(np.minimum.reduce([part.least for part in parts]), whole.least)


def test_any_batch_and_order_gives_the_same_bits(cut):
    Y, indices, model, whole = cut
    order = np.random.default_rng(0).permutation(Y.shape[1])
    turned = maxstat.extremes(np.asfortranarray(Y[:, order]), indices[70:333], model)
    np.testing.assert_array_equal(turned.greatest, whole.greatest[70:333])
    np.testing.assert_array_equal(turned.least, whole.least[70:333])


def test_identity_is_the_observed_maximum_to_the_bit(cut):
    Y, _, model, whole = cut
    h = maxstat.observed(Y, model)
    assert np.nanmax(h) == whole.greatest[0]
    assert np.nanmin(h) == whole.least[0]
    assert np.flatnonzero(np.isnan(h)).tolist() == [2, 17, 1500, 2999]


def test_scale_and_nuisance_do_not_matter(cut):
    Y, indices, model, whole = cut
    moved = 1e-6 * (Y + model.removed @ np.random.default_rng(0).standard_normal((model.removed.shape[1], Y.shape[1])))
    found = maxstat.extremes(moved, indices, model)
    np.testing.assert_allclose(found.greatest, whole.greatest, rtol=1e-11)
    swapped = maxstat.extremes(-Y, indices, model)
    np.testing.assert_allclose(swapped.greatest, -whole.least, rtol=1e-12)


def test_float32_maps_are_read_exactly():
    _, _, model = model_of(20, 1, "permute")
    Y = np.random.default_rng(0).standard_normal((20, 50)).astype(np.float32)
    indices = draws(20, "permute", 20)
    one, two = (maxstat.extremes(maps, indices, model) for maps in (Y, Y.astype(np.float64)))
    np.testing.assert_array_equal(one.greatest, two.greatest)


def test_no_voxel_to_test_is_neutral():
    _, _, model = model_of(10, 0, "flip")
    for Y in (np.zeros((10, 5)), np.empty((10, 0))):
        found = maxstat.extremes(Y, draws(10, "flip", 4), model)
        assert (found.greatest == -np.inf).all()
        assert (found.least == np.inf).all()


TWO_VALUED = {
    "one sample": (np.ones((33, 1)), "flip"),
    "differences": (np.where(np.arange(40)[:, None] % 3, 1.0, -1.0), "flip"),
    "two groups": (np.c_[np.arange(50) < 11, np.arange(50) >= 11].astype(float), "permute"),
    "group and constant": (np.c_[np.ones(129), np.arange(129) < 60], "permute"),
}


@pytest.mark.parametrize("case", TWO_VALUED)
def test_tables_and_products_give_the_same_bits(case, monkeypatch):
    M, scheme = TWO_VALUED[case]
    C = np.array([[1.0, -1.0]]) if case == "two groups" else np.eye(M.shape[1])[-1:]
    model = projections(M, C, scheme)
    indices = draws(len(M), scheme, 2100)
    assert isinstance(products_of(rows_of(model, indices)), TableProducts)
    Y = np.random.default_rng(2).standard_normal((len(M), 1300))
    by_tables = maxstat.extremes(Y, indices, model)
    monkeypatch.setattr("voxloom.kernels.permutation.products.WORTH_TABLES", 10**9)
    by_products = maxstat.extremes(Y, indices, model)
    np.testing.assert_array_equal(by_tables.greatest, by_products.greatest)
    np.testing.assert_array_equal(by_tables.least, by_products.least)


@pytest.mark.parametrize("case", TWO_VALUED)
def test_tables_stay_within_their_bound(case):
    M, scheme = TWO_VALUED[case]
    C = np.array([[1.0, -1.0]]) if case == "two groups" else np.eye(M.shape[1])[-1:]
    model = projections(M, C, scheme)
    indices = draws(len(M), scheme, 2100)
    e, _ = maxstat.residuals(np.random.default_rng(2).standard_normal((len(M), 512)), model)
    products = products_of(rows_of(model, indices))
    U = np.concatenate([U[:, 0].copy() for _, U in products.of(e)])
    exact = (np.sign(indices) * model.effect[np.abs(indices) - 1, 0]) @ e.T
    assert np.abs(U - exact).max() < products.roundoffs * 2.0**-24


def test_tables_need_two_values():
    for x, scheme in ((np.arange(20.0), "permute"), (np.r_[np.ones(5), 0 * np.ones(15)], "flip")):
        design = (x / np.linalg.norm(x))[:, np.newaxis]
        rows = Rows(design, 1, True, draws(20, scheme, 2100), np.empty((0, 1, 1)))
        assert isinstance(products_of(rows), MatrixProducts)
