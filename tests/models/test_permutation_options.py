"""permutation_test with counts that stop, smoothed variances and fitted tails, against its parts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from spatial_oracle import cluster_values, tfce
from voxloom.errors import InputError
from voxloom.kernels.permutation.sequential import sequential_p
from voxloom.kernels.tails import z_to_t
from voxloom.models.group.design import aligned_design
from voxloom.models.inference.null_p import p_of_null
from voxloom.models.inference.permutation import observed_stat, prepare_test, rearranged_stat
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.models.inference.prepared_test import with_smoothed_variance
from voxloom.models.inference.sequential import count_until
from voxloom.schema import Grid, voxel_coords

SHAPE, N = (7, 6, 5), 12
GRID = Grid.of(SHAPE, np.diag([2.0, 2.0, 2.0, 1]))


def maps() -> xr.DataArray:
    rng = np.random.default_rng(0)
    effect = rng.standard_normal((N, np.prod(SHAPE)))
    effect[:, 30:45] += 0.9
    voxel = np.arange(np.prod(SHAPE))
    return xr.DataArray(
        effect, dims=("map", "voxel"), coords={"map": np.arange(N), **voxel_coords(GRID, voxel)}, name="effect"
    )


def prepared(n_perm: int, **options):
    return prepare_test(aligned_design(maps(), None), "intercept", n_perm=n_perm, **options)


@pytest.mark.parametrize("statistics", [(), ("max_stat",)])
def test_counting_stops_voxel_by_voxel_and_changes_nothing_else(statistics):
    found = permutation_test(maps(), n_perm=600, statistics=statistics, stop_at=8, seed=1)
    test = prepared(600, seed=1)
    counts = count_until(test, maps().values, observed_stat(test, maps().values), 8)
    np.testing.assert_array_equal(found.p_uncorrected, sequential_p(counts, 8))
    np.testing.assert_array_equal(found.n_used, counts.used)
    assert found.n_used.mean() < 200
    assert "Besag" in found.p_uncorrected.attrs["p_method"]
    whole = permutation_test(maps(), n_perm=600, seed=1)
    assert ("null_max_stat" in found) == bool(statistics)
    for name in ["null_max_stat", "p_max_stat"][: 2 * len(statistics)]:
        np.testing.assert_array_equal(found[name], whole[name])
    # within four standard errors of the whole count
    error = 4 * whole.p_uncorrected / np.sqrt(8) + 0.01
    assert (abs(found.p_uncorrected - whole.p_uncorrected) < error).mean() > 0.97
    lazy = permutation_test(maps().chunk(voxel=50), n_perm=600, statistics=statistics, stop_at=8, seed=1)
    np.testing.assert_array_equal(lazy.n_used, found.n_used)


def test_all_distinct_rearrangements_are_all_counted():
    few = maps()[:8]
    found = permutation_test(few, n_perm=1000, stop_at=3)
    xr.testing.assert_identical(found, permutation_test(few, n_perm=1000))


def test_pseudo_t_is_tested_by_its_own_maxima_and_clusters():
    found = permutation_test(
        maps(), n_perm=64, statistics=["max_stat", "tfce", "cluster_mass"], variance_smoothing_fwhm=5.0, seed=4
    )
    test = with_smoothed_variance(prepared(64, seed=4), 5.0, maps().voxel.values, GRID)
    stat = rearranged_stat(test, maps().values)
    np.testing.assert_allclose(found.stat, stat[0], rtol=1e-12)
    np.testing.assert_array_equal(found.null_max_stat, np.abs(stat).max(axis=1))
    np.testing.assert_array_equal(found.p_uncorrected, (np.abs(stat) >= np.abs(stat[0]) * (1 - 1e-9)).mean(axis=0))
    height = float(z_to_t(3.0902323061678132, N - 1))
    signs = [(1 * stat).reshape(-1, *SHAPE), (-1 * stat).reshape(-1, *SHAPE)]
    masses = [[cluster_values(volume, height, 26)[1].max(initial=0) for volume in side] for side in signs]
    np.testing.assert_allclose(found.null_cluster_mass, np.max(masses, axis=0), rtol=1e-10)
    scores = [[tfce(volume, 0.5, 2.0, 6).max() for volume in side] for side in signs]
    np.testing.assert_allclose(found.null_tfce, np.max(scores, axis=0), rtol=1e-8)
    assert "z_score" not in found
    assert found.attrs["stat_type"] == "pseudo-t"
    assert found.p_tfce.attrs["on"] == "stat"
    assert found.p_max_stat.attrs["variance_smoothing_fwhm"] == 5.0


def test_contrasts_of_pseudo_t_are_joined_on_its_own_scale():
    names = {"mean": "intercept", "minus": "-intercept"}
    found = permutation_test(maps(), contrast=names, n_perm=50, variance_smoothing_fwhm=5.0)
    np.testing.assert_array_equal(found.null_joint_max_stat, found.null_max_stat.max("contrast"))
    assert found.p_joint_max_stat.attrs["scale"] == "pseudo-t"


@pytest.mark.parametrize("tail", ["gpd", "gamma"])
def test_tails_are_those_of_the_null(tail):
    found = permutation_test(maps(), n_perm=400, tail=tail)
    expected = p_of_null(np.abs(found.stat), found.null_max_stat, tail=tail, n_distinct=2**N)
    np.testing.assert_array_equal(found.p_max_stat, expected.p)
    assert found.p_max_stat.attrs["tail"] == tail
    assert found.p_max_stat.attrs["tail_status"] == "fitted"
    assert found.p_max_stat.min() >= 2.0**-N


def test_what_excludes_each_other_is_refused():
    with pytest.raises(InputError, match="needs all voxels"):
        permutation_test(maps(), n_perm=50, stop_at=5, variance_smoothing_fwhm=5.0)
    with pytest.raises(InputError, match="At least 1"):
        permutation_test(maps(), n_perm=50, stop_at=0)
    with pytest.raises(InputError, match="grid"):
        permutation_test(maps().drop_vars("grid"), n_perm=50, variance_smoothing_fwhm=5.0)
