"""The comparison with the truth, on maps whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nct, t

from voxloom.errors import InputError
from voxloom.simulate import recovery

V = 20_000


def maps(seed=0, scale=1.0, offset=0.0, se=0.1, dof=15):
    """Estimates with t-distributed errors around the population effect; the sample is the population."""
    rng = np.random.default_rng(seed)
    truth = np.where(np.arange(V) < 1_000, 1.0, 0.0)
    s2 = se**2 * rng.chisquare(dof, V) / dof
    return {
        "effect": scale * truth + offset + se * rng.standard_normal(V),
        "variance": s2,
        "dof": dof,
        "p_fwe": np.where((np.arange(V) >= 200) & (np.arange(V) < 1_100), 0.01, 1.0),
        "population": truth,
        "sample": truth,
        "active": truth > 0,
    }


def test_unbiased_estimates_have_slope_one_and_nominal_coverage():
    found = recovery(**maps())
    assert found.slope == pytest.approx(1, abs=4 * 0.1 / np.sqrt(1_000))
    assert found.bias == pytest.approx(0, abs=4 * 0.1 / np.sqrt(V))
    assert found.rmse == pytest.approx(0.1, rel=0.03)
    assert found.coverage == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / V))
    assert found.correlation == pytest.approx(np.sqrt(0.0475 / (0.0475 + 0.01)), rel=0.02)


def test_attenuation_and_offset_show():
    found = recovery(**maps(scale=0.5, offset=0.3))
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.bias == pytest.approx(0.3 - 0.5 * 0.05, abs=0.005)
    # off by 3 standard errors where nothing is, by -2 where the effect was halved: noncentral t
    limit = t.ppf(0.975, 15)
    inside = [nct.cdf(limit, 15, shift) - nct.cdf(-limit, 15, shift) for shift in (3.0, -2.0)]
    assert found.coverage == pytest.approx(0.95 * inside[0] + 0.05 * inside[1], abs=0.012)


def test_overlap_counts():
    found = recovery(**maps())  # 900 found, 800 of them among the 1,000 active, 100 where nothing is
    assert (found.n_active, found.n_found, found.n_false) == (1_000, 900, 100)
    assert found.dice == pytest.approx(1_600 / 1_900)
    assert found.sensitivity == pytest.approx(0.8)
    assert "Dice 0.84, sensitivity 0.80" in str(found)


def test_missing_voxels_and_those_outside_the_mask_do_not_count():
    all_of_them = maps()
    inside = np.arange(V) % 2 == 0
    expected = recovery(**{k: v[inside] if np.ndim(v) else v for k, v in all_of_them.items()})
    assert recovery(**all_of_them, mask=inside) == expected
    holes = all_of_them | {"effect": np.where(inside, all_of_them["effect"], np.nan)}
    assert recovery(**holes) == expected


def test_nothing_found_where_nothing_is_counts_as_perfect_overlap():
    nothing = maps() | {"p_fwe": np.ones(V), "active": np.zeros(V, dtype=bool)}
    assert recovery(**nothing).dice == 1.0


def test_unequal_maps_and_empty_comparisons_are_refused():
    with pytest.raises(InputError, match="share one shape"):
        recovery(**(maps() | {"sample": np.zeros(V + 1)}))
    with pytest.raises(InputError, match="fewer than three"):
        recovery(**maps(), mask=False)
