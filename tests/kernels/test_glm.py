"""First-level fits against NumPy, statsmodels and nilearn, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from ar1_oracle import covariance, noise, scans_of
from hypothesis import given, settings
from hypothesis import strategies as st
from nilearn.glm.first_level import run_glm

from voxloom.errors import DesignError
from voxloom.kernels.first_level.contrast_tables import ar1_table, ols_table, yule_walker_table
from voxloom.kernels.first_level.glm import fit_ar1, fit_ar1_yule_walker, fit_ols
from voxloom.kernels.first_level.noise_models import NOISE_MODELS

#: One of each kind.
NAMES = ["ols", "ar1", "ar1-yule-walker", "ar3", "arma11"]
MODELS = pytest.mark.parametrize("fit", [NOISE_MODELS[name].fit for name in NAMES], ids=NAMES)


def data(seed: int = 0, T: int = 80, K: int = 8, V: int = 60):
    rng = np.random.default_rng(seed)
    X = np.column_stack([rng.standard_normal((T, K - 1)).cumsum(axis=0), np.ones(T)])
    Y = X @ rng.standard_normal((K, V)) + noise(rng, rng.uniform(-0.4, 0.9, V), T, V) + 500
    return X, Y


def test_ols_is_least_squares():
    X, Y = data()
    fit = fit_ols(X, Y)
    beta, rss, *_ = np.linalg.lstsq(X, Y)
    np.testing.assert_allclose(fit.beta, beta, rtol=1e-8)
    np.testing.assert_allclose(fit.sigma2, rss / 72, rtol=1e-10)


GAPS = {
    "none": np.arange(80),
    "unrelated": scans_of((0, 20, 21, 50), 80),
    "few": np.delete(np.arange(84), [20, 22, 50, 51]),
    "single": np.delete(np.arange(100), np.arange(3, 100, 5)),
    "bursts": np.delete(np.arange(100), [0, 8, 9, 20, 30, 31, 32, *range(40, 47), 60, 61, 70, 71, 72, 85]),
}


@pytest.mark.parametrize("scans", GAPS.values(), ids=GAPS)
def test_ar1_is_statsmodels_gls_at_its_rho(scans):
    X, Y = data()
    fit, C = fit_ar1(X, Y, scans=scans), np.eye(8)[1:2]
    for v in range(0, 60, 7):
        theirs = sm.GLS(Y[:, v], X, sigma=covariance(fit.noise[0][v], scans)).fit()
        np.testing.assert_allclose(fit.beta[:, v], theirs.params, rtol=1e-7)
        np.testing.assert_allclose(fit.sigma2[v], theirs.scale, rtol=1e-9)
        case = int(np.rint(100 * fit.noise[0][v])) + 99
        # rho plugged in and known costs nothing: the covariance of Kenward and Roger is above that of GLS
        table = ar1_table(X, C, scans, [case])
        excess = fit.sigma2[v] * table.cov[case, 0, 0] / theirs.cov_params()[1, 1]
        assert 1 < excess < 1.2


@pytest.mark.parametrize("scans", [GAPS["few"], GAPS["single"], GAPS["bursts"]])
def test_a_scan_left_out_is_a_scan_with_a_regressor_of_its_own(scans):
    """Coefficient, variance and degrees of freedom too; with 16 extra columns of 96 that is another path altogether."""
    T = scans[-1] + 1
    X, Y = data(T=T)
    out = np.setdiff1d(np.arange(T), scans)
    C, spiked = np.eye(8)[:2], np.column_stack([X, np.eye(T)[:, out]])
    ours, theirs = fit_ar1(X[scans], Y[scans], scans=scans), fit_ar1(spiked, Y)
    np.testing.assert_array_equal(ours.noise, theirs.noise)
    np.testing.assert_allclose(ours.beta, theirs.beta[:8], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours.sigma2, theirs.sigma2, rtol=1e-9)
    C = np.eye(8)[:2]
    for a, b in zip(ar1_table(X[scans], C, scans), ar1_table(spiked, np.hstack([C, np.zeros((2, out.size))]))):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)


def test_yule_walker_is_nilearns_ar1():
    X, Y = data(T=120, K=10, V=400)
    fit, C = fit_ar1_yule_walker(X, Y), np.eye(10)[2:3]
    labels, results = run_glm(Y, X, noise_model="ar1")
    np.testing.assert_allclose(fit.noise[0], labels.astype(float), atol=1e-12)
    table = yule_walker_table(X, C)
    for label, theirs in results.items():
        here = labels == label
        np.testing.assert_allclose(fit.beta[:, here], theirs.theta, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(fit.sigma2[here], theirs.dispersion, rtol=1e-9)
        case = int(np.rint(100 * float(label))) + 99
        t = fit.beta[2, here] / np.sqrt(fit.sigma2[here] * table.cov[case, 0, 0])
        np.testing.assert_allclose(t, theirs.Tcontrast(C[0]).t.ravel(), rtol=1e-8)
        assert table.dof[case] == theirs.df_residuals


def test_ols_t_is_nilearns():
    X, Y = data()
    fit, (_, results) = fit_ols(X, Y), run_glm(Y, X, noise_model="ols")
    c = np.array([[1.0, -1, 0, 0, 0, 0, 0, 0]])
    table = ols_table(X, c)
    t = (c @ fit.beta)[0] / np.sqrt(fit.sigma2 * table.cov[0, 0, 0])
    np.testing.assert_allclose(t, results[0.0].Tcontrast(c[0]).t.ravel(), rtol=1e-8)


def direct_r_squared(X, Y, beta):
    return 1 - ((Y - X @ beta) ** 2).sum(axis=0) / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)


@MODELS
@pytest.mark.parametrize("constant", [True, False], ids=["constant", "no_constant"])
@pytest.mark.parametrize("percent", [False, True], ids=["units", "percent"])
@pytest.mark.parametrize(
    "scans", [GAPS["none"], scans_of((0, 20, 50), 80), GAPS["single"]], ids=["one", "runs", "gaps"]
)
def test_r_squared_is_that_of_the_coefficients(fit, constant, percent, scans):
    X, Y = data(V=30)
    X = X if constant else X[:, :-1]
    found = fit(X, Y, scans=scans, percent=percent)
    signal = 100 * (Y / Y.mean(axis=0) - 1) if percent else Y
    left = 1 - direct_r_squared(X, signal, found.beta)
    np.testing.assert_allclose(1 - found.r_squared, left, rtol=1e-10)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ols"])
@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_r_squared_holds_for_given_noise_thin_voxels_and_high_means(name, offset):
    """A regressor leaves 1e-12 of the squares of the first voxels; the noise is not the voxels' own."""
    (X, Y), model = data(V=30), NOISE_MODELS[name]
    Y[:, :10] += 1e6 * X[:, [0]]
    Y += offset
    noise = np.full((len(model.parameters), 30), 0.3)
    for design in (X, X[:, :-1]):
        found = model.fit(design, Y, noise=noise)
        left = 1 - direct_r_squared(design, Y, found.beta)
        np.testing.assert_allclose(1 - found.r_squared, left, rtol=1e-9, atol=1e-14)
        ols = NOISE_MODELS["ols"].fit(design, Y).r_squared
        assert (found.r_squared[10:] < ols[10:]).all()


@MODELS
def test_r_squared_is_nan_where_beta_is_and_1_where_nothing_is_left(fit):
    X, Y = data()
    Y[:, 0], Y[3, 1], Y[:, 2], Y[:, 3] = 7.0, np.nan, -Y[:, 2], X @ np.arange(1.0, 9)
    for percent in (False, True):
        found = fit(X, Y, percent=percent)
        np.testing.assert_array_equal(np.isnan(found.r_squared), np.isnan(found.beta[0]))
    np.testing.assert_allclose(fit(X, Y).r_squared[3], 1.0, rtol=1e-14)


@MODELS
def test_lost_voxels_are_nan_and_leave_the_others_alone(fit):
    X, Y = data()
    clean = fit(X, Y)
    Y[:, 3], Y[:, 9], Y[5, 11], Y[7, 20] = 0.1, 0.0, np.nan, np.inf
    spoilt, lost = fit(X, Y), np.isin(np.arange(60), [3, 9, 11, 20])
    for before, after in zip(clean, spoilt):
        assert np.isnan(after[..., lost]).all()
        np.testing.assert_allclose(after[..., ~lost], before[..., ~lost], rtol=1e-12)


@MODELS
def test_a_perfect_fit_keeps_beta_and_has_no_noise(fit):
    X, _ = data()
    beta = np.random.default_rng(1).standard_normal((8, 4))
    fitted = fit(X, X @ beta)
    np.testing.assert_allclose(fitted.beta, beta, rtol=1e-8)
    assert np.isnan(fitted.sigma2).all()


@MODELS
@pytest.mark.parametrize("size", [1e5, 1e7, 1e9])
def test_a_regressor_far_above_the_noise_costs_no_digits(fit, size):
    """The share of squares left is down to 1e-18; y'y - g'g alone gave t wrong by 0.04 at 1e7, NaN beyond."""
    X, Y = data(V=40)
    plain, loud = fit(X, Y), fit(X, Y + size * X[:, [0]])
    rounding = 1e-16 * size * 100
    np.testing.assert_allclose(loud.noise, plain.noise, rtol=0, atol=max(10 * rounding, 1e-9))
    np.testing.assert_allclose(loud.sigma2, plain.sigma2, rtol=max(rounding, 1e-9))
    np.testing.assert_allclose(loud.beta[1:], plain.beta[1:], rtol=1e-7, atol=max(10 * rounding, 1e-8))
    np.testing.assert_allclose(loud.beta[0] - size, plain.beta[0], rtol=1e-7, atol=max(10 * rounding, 1e-8))


@MODELS
@pytest.mark.parametrize("scale", [1e-170, 1e-140, 1e140, 1e170])
def test_any_unit_will_do_and_what_is_beyond_is_nan(fit, scale):
    X, Y = data(V=20)
    with np.errstate(all="raise", under="ignore"):
        scaled = fit(X, scale * Y)
    if 1e-150 < scale < 1e150:
        np.testing.assert_allclose(scaled.sigma2 / scale / scale, fit(X, Y).sigma2, rtol=1e-9)
        np.testing.assert_allclose(scaled.noise, fit(X, Y).noise, rtol=0, atol=1e-9)
    else:
        assert np.isnan(scaled.sigma2).all()


@MODELS
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-3, -2.0, 1e4]))
def test_laws(fit, seed, scale):
    X, Y = data(seed, T=50, K=5, V=40)
    whole = fit(X, Y)
    order = np.random.default_rng(seed).permutation(40)
    for part, all_of_it in zip(fit(X, Y[:, order[:17]]), whole):
        np.testing.assert_allclose(part, all_of_it[..., order[:17]], rtol=1e-9, atol=1e-12)
    shifted = fit(X, scale * (Y + X[:, :1] + 100))
    np.testing.assert_allclose(shifted.beta[0], scale * (whole.beta[0] + 1), rtol=1e-6, atol=1e-6 * abs(scale))
    np.testing.assert_allclose(shifted.sigma2, scale**2 * whole.sigma2, rtol=1e-8)
    np.testing.assert_allclose(shifted.noise, whole.noise, rtol=0, atol=1e-8)


@MODELS
def test_layout_and_dtype_do_not_matter(fit):
    X, Y = data(V=30)
    Y = np.rint(Y).astype(np.int16)
    expected = fit(X, Y.astype(np.float64))
    for other in (Y, np.asfortranarray(Y), Y.astype(np.float32), Y.astype(">i2"), np.repeat(Y, 2, axis=1)[:, ::2]):
        for a, b in zip(fit(X, other), expected):
            np.testing.assert_array_equal(a, b)


@MODELS
def test_dependent_columns_do_not_change_the_fit(fit):
    X, Y = data()
    more = np.column_stack([X, X[:, 0] - 3 * X[:, 2], np.zeros(80)])
    a, b = fit(X, Y), fit(more, Y)
    np.testing.assert_allclose(b.sigma2, a.sigma2, rtol=1e-9)
    np.testing.assert_allclose(more @ b.beta, X @ a.beta, rtol=1e-9)


@pytest.mark.parametrize("columns", [80, 90])
def test_no_degrees_of_freedom_is_an_error(columns):
    with pytest.raises(DesignError, match="leaves nothing"):
        fit_ols(np.random.default_rng(0).standard_normal((80, columns)), np.ones((80, 2)))


@pytest.mark.parametrize("name", NAMES)
def test_where_arrays_lie_in_memory_changes_no_bit(name):
    """A loop compiled in two ways, chosen by the distance of its arrays, gave two sums."""
    X, Y = data(T=60, K=11, V=312)
    fits, held = [], []
    for i in range(40):
        held.append(np.empty(1000 + 7 * i))  # so that the next arrays lie elsewhere
        fits.append(NOISE_MODELS[name].fit(X, Y))
    for fit in fits[1:]:
        for mine, first in zip(fit, fits[0]):
            np.testing.assert_array_equal(mine, first)
