"""Spatial statistics of permutation tests: brute force over every rearrangement, and laws of order and symmetry."""

from __future__ import annotations

import pickle
import tracemalloc
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from distributed import Client, LocalCluster
from scipy import ndimage, stats

from spatial_oracle import cluster_values, labels, stepped_tfce, tfce
from voxloom import TFCE, ClusterMass, ClusterSize, Exchangeability, MaxStat
from voxloom.errors import InputError
from voxloom.models.inference.permutation import observed_stat, prepare_test, rearranged_stat
from voxloom.models.inference.permutation_test import permutation_test
from voxloom.models.inference.spatial import SpatialTest, null_spatial, observed_spatial, spatial_maxima
from voxloom.schema import Grid, voxel_coords
from voxloom.spec import as_statistics, by_result_name

SHAPE = (6, 7, 5)
RNG = np.random.default_rng(3)
MASK = RNG.random(SHAPE) < 0.85
#: z and stat, several thresholds of a kind, both connectivities, both ways of TFCE
STATISTICS = as_statistics(
    [
        MaxStat(),
        ClusterSize(threshold=0.05),
        ClusterSize(threshold=0.2, connectivity=6),
        ClusterMass(threshold=0.05, on="stat"),
        TFCE(),
        TFCE(on="stat", connectivity=26, E=1.0, steps=20),
    ]
)
NAMED = by_result_name(STATISTICS)


def smooth_maps(n: int, seed: int = 0, shift: float = 0.5) -> xr.Dataset:
    rng = np.random.default_rng(seed)
    volumes = np.stack([ndimage.gaussian_filter(rng.standard_normal(SHAPE), 0.8) for _ in range(n)])
    volumes[:, 2:4, 2:5, 1:3] += shift * volumes.std()
    coords = {"map": [f"sub-{i}" for i in range(n)], **voxel_coords(Grid.of(SHAPE, np.eye(4)), np.flatnonzero(MASK))}
    return xr.Dataset({"effect": (("map", "voxel"), volumes[:, MASK])}, coords=coords)


def groups(n: int, first: int) -> pd.DataFrame:
    side = (np.arange(n) < first).astype(float)
    return pd.DataFrame({"a": side, "b": 1 - side})


def in_volume(values: np.ndarray) -> np.ndarray:
    volume = np.full(SHAPE, np.nan)
    volume[MASK] = values
    return volume


def value_by_oracle(one, t: np.ndarray, dof: float, two_sided: bool) -> np.ndarray:
    """Statistic at every voxel of one map of t, of its positive side."""
    values = t if getattr(one, "on", "stat") == "stat" else stats.norm.isf(stats.t.sf(t, dof))
    if isinstance(one, MaxStat):
        return values
    volume = in_volume(values)
    if isinstance(one, TFCE) and one.steps:
        top = abs(values).max() if two_sided else values.max()
        return stepped_tfce(volume, one.E, one.H, one.connectivity, one.steps, top)[MASK]
    if isinstance(one, TFCE):
        return tfce(volume, one.E, one.H, one.connectivity)[MASK]
    height = stats.norm.isf(one.threshold) if one.on == "z" else stats.t.isf(one.threshold, dof)
    label, _ = labels(volume, height, one.connectivity)
    size, mass = cluster_values(volume, height, one.connectivity)
    return np.concatenate([[0], size if isinstance(one, ClusterSize) else mass])[label[MASK]]


def brute_force(all_t: np.ndarray, dof: float, two_sided: bool) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Observed values (size of them), and maxima of every rearrangement, by result name."""
    found = {}
    for name, one in NAMED.items():
        sides = [
            [value_by_oracle(one, side * t, dof, two_sided) for side in ((1, -1) if two_sided else (1,))] for t in all_t
        ]
        found[name] = np.max(sides[0], axis=0), np.array([np.max(values) for values in sides])
    return found


CASES = ["flips", "two groups"]


def case(kind: str) -> tuple[xr.Dataset, pd.DataFrame | None, str, np.ndarray, int]:
    """Maps, design, contrast, t of all rearrangements (observed first), degrees of freedom."""
    if kind == "flips":
        maps = smooth_maps(6)
        Y = maps["effect"].values
        signs = product([1, -1], repeat=6)
        return maps, None, "intercept", np.array([stats.ttest_1samp(np.array([s]).T * Y, 0)[0] for s in signs]), 5
    maps = smooth_maps(7)
    Y = maps["effect"].values
    chosen = [(list(c), [i for i in range(7) if i not in c]) for c in combinations(range(7), 3)]
    return maps, groups(7, 3), "a - b", np.array([stats.ttest_ind(Y[a], Y[b])[0] for a, b in chosen]), 5


@pytest.mark.parametrize("two_sided", [True, False])
@pytest.mark.parametrize("kind", CASES)
def test_exhaustive_tests_equal_brute_force(kind, two_sided):
    maps, design, contrast, all_t, dof = case(kind)
    found = permutation_test(maps, design, contrast, statistics=STATISTICS, two_sided=two_sided)
    assert found.sizes["permutation"] == len(all_t)
    for name, (observed, null) in brute_force(all_t, dof, two_sided).items():
        np.testing.assert_allclose(np.sort(found[f"null_{name}"]), np.sort(null), rtol=1e-9, atol=1e-12)
        reached = null[:, np.newaxis] >= observed - 1e-9 * abs(observed)
        np.testing.assert_allclose(found[f"p_{name}"], reached.mean(axis=0), rtol=1e-12)
        if name in found:
            height = abs(found[name]) if two_sided else found[name]
            np.testing.assert_allclose(height, observed, rtol=1e-9, atol=1e-12)
    height = np.abs(all_t) if two_sided else all_t
    reached = height >= height[0] - 1e-9 * abs(height[0])
    np.testing.assert_allclose(found["p_uncorrected"], reached.mean(axis=0), rtol=1e-12)


def prepared(maps: xr.Dataset, n_perm: int = 100, **options) -> SpatialTest:
    test = prepare_test(groups(maps.sizes["map"], 5), "a - b", n_perm=n_perm, **options)
    return SpatialTest(test, NAMED, maps["voxel"].values, SHAPE)


def test_any_cut_of_the_rearrangements_gives_the_same_bits():
    maps = smooth_maps(12)
    spatial, Y = prepared(maps), maps["effect"].values
    whole = null_spatial(spatial, Y)
    for length in (1, 7, 32, 64):
        parts = [null_spatial(spatial, Y, start=i, stop=min(i + length, 100)) for i in range(0, 100, length)]
        for name, values in whole.items():
            assert np.array_equal(np.concatenate([part[name] for part in parts]), values)


UNEQUAL = Exchangeability(scheme="flip", variance_groups=list("aaabbb"))


@pytest.mark.parametrize(
    "options", [{}, {"two_sided": False}, {"nuisance": "ter-braak"}, {"exchangeability": UNEQUAL}], ids=str
)
def test_all_flips_at_once_give_the_bits_of_their_parts(options):
    maps = smooth_maps(6)
    test = prepare_test(pd.DataFrame({"m": np.ones(6)}), "m", n_perm=64, **options)
    spatial, Y = SpatialTest(test, NAMED, maps["voxel"].values, SHAPE), maps["effect"].values
    assert test.rearrangements.mirrored
    parts = [null_spatial(spatial, Y, start=i, stop=i + 16) for i in range(0, 64, 16)]
    for name, values in null_spatial(spatial, Y).items():
        assert np.array_equal(np.concatenate([part[name] for part in parts]), values)


def test_a_test_that_travelled_gives_the_same_bits():
    maps = smooth_maps(12)
    spatial, Y = prepared(maps), maps["effect"].values
    here = null_spatial(spatial, Y, stop=40)
    there = null_spatial(pickle.loads(pickle.dumps(spatial)), Y, stop=40)
    assert all(np.array_equal(there[name], here[name]) for name in here)


def test_maps_of_the_statistic_that_were_stored_give_the_same_bits():
    maps = smooth_maps(12)
    spatial, Y = prepared(maps), maps["effect"].values
    stored = spatial_maxima(spatial, rearranged_stat(spatial.test, Y))
    for name, values in null_spatial(spatial, Y).items():
        assert np.array_equal(stored[name], values)


def test_the_observed_order_is_the_first_of_the_null():
    maps = smooth_maps(12)
    spatial, Y = prepared(maps, two_sided=True), maps["effect"].values
    observed = observed_spatial(spatial, observed_stat(spatial.test, Y))
    for name, values in null_spatial(spatial, Y, stop=1).items():
        np.testing.assert_allclose(abs(observed[name]).max(), values[0], rtol=1e-11)


@pytest.mark.parametrize("kind", CASES)
def test_voxels_in_another_order_keep_their_p(kind):
    maps, design, contrast, *_ = case(kind)
    order = np.random.default_rng(0).permutation(maps.sizes["voxel"])
    whole = permutation_test(maps, design, contrast, statistics=STATISTICS)
    turned = permutation_test(maps.isel(voxel=order), design, contrast, statistics=STATISTICS)
    for name in whole:
        wanted = whole[name].isel(voxel=order) if "voxel" in whole[name].dims else whole[name]
        np.testing.assert_allclose(turned[name], wanted, rtol=1e-10, err_msg=name)


def test_flipped_axes_flip_the_results():
    maps = smooth_maps(8)
    voxel = np.flatnonzero(MASK[::-1, :, ::-1])
    volumes = np.stack([in_volume(row)[::-1, :, ::-1][MASK[::-1, :, ::-1]] for row in maps["effect"].values])
    flipped = maps.assign_coords(voxel=voxel).copy(data={"effect": volumes})
    one, other = (permutation_test(m, n_perm=60, statistics=STATISTICS) for m in (maps, flipped))
    for name in one:
        if "voxel" not in one[name].dims:
            np.testing.assert_allclose(other[name], one[name], rtol=1e-10)
            continue
        wanted = in_volume(one[name].values)[::-1, :, ::-1][MASK[::-1, :, ::-1]]
        np.testing.assert_allclose(other[name], wanted, rtol=1e-10)


def test_minus_the_maps_swap_the_signs():
    maps = smooth_maps(8)
    both, minus = (permutation_test(sign * maps, n_perm=60, statistics=STATISTICS) for sign in (1, -1))
    for name in NAMED:
        np.testing.assert_allclose(minus[f"p_{name}"], both[f"p_{name}"], rtol=1e-12)
        if name in both:
            np.testing.assert_allclose(minus[name], -both[name], rtol=1e-11)
            assert (np.sign(both[name]) == np.sign(both["stat"]).where(both[name] != 0, 0)).all()


@pytest.mark.parametrize("change", ["scale", "nuisance in the data", "recoded nuisance", "order of columns"])
def test_what_does_not_concern_the_effect_changes_nothing(change):
    maps, design = smooth_maps(10), groups(10, 4)
    design["age"] = np.linspace(-1, 1, 10) ** 3
    age = xr.DataArray(design["age"].to_numpy(), dims="map")
    changed = {
        "scale": (1e3 * maps, design),
        "nuisance in the data": (maps + 2.5 * age + 7, design),
        "recoded nuisance": (maps, design.assign(age=3 * design["age"] + design["a"] + design["b"])),
        "order of columns": (maps, design[["age", "b", "a"]]),
    }
    one, other = (
        permutation_test(data, table, "a - b", n_perm=60, statistics=STATISTICS)
        for data, table in ((maps, design), changed[change])
    )
    for name in one:
        np.testing.assert_allclose(other[name], one[name], rtol=1e-8, atol=1e-10, err_msg=name)


def test_lazy_maps_give_the_same_bits():
    maps = smooth_maps(8)
    lazy = permutation_test(maps.chunk(voxel=31, map=3), n_perm=60, statistics=STATISTICS)
    xr.testing.assert_identical(lazy, permutation_test(maps, n_perm=60, statistics=STATISTICS))


@pytest.fixture(scope="module")
def client():
    with LocalCluster(2, processes=False, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client


@pytest.mark.parametrize("statistics", [STATISTICS, ("max_stat",)])
def test_workers_give_the_same_bits(client, statistics):
    maps, design = smooth_maps(10), groups(10, 4)
    alone, together = (
        permutation_test(maps, design, "a - b", n_perm=200, statistics=statistics, client=c) for c in (None, client)
    )
    xr.testing.assert_identical(together, alone)


@pytest.mark.parametrize("statistics", [(), ("max_stat",)])
def test_workers_stop_counting_at_the_same_rearrangements(client, monkeypatch, statistics):
    """Voxels are counted in parts; some stop, some do not."""
    monkeypatch.setattr("voxloom.models.inference.run_test.VOXELS", 16)
    maps, design = smooth_maps(10), groups(10, 4)
    alone, together = (
        permutation_test(maps, design, "a - b", n_perm=200, statistics=statistics, stop_at=9, client=c)
        for c in (None, client)
    )
    xr.testing.assert_identical(together, alone)
    assert alone["n_used"].min() < 100 < alone["n_used"].max() == 199


def test_f_is_turned_into_z_and_has_one_side():
    design = pd.get_dummies(pd.Series(list("aaabbbbccc")), dtype=float)
    maps = smooth_maps(10)
    found = permutation_test(maps, design, ["a - b", "b - c"], n_perm=50, statistics=STATISTICS)
    F = stats.f_oneway(*(maps["effect"].values[s] for s in (slice(0, 3), slice(3, 7), slice(7, 10))))[0]
    z = in_volume(stats.norm.isf(stats.f.sf(F, 2, 7)))
    np.testing.assert_allclose(found["tfce_0.5_6_exact_z"], tfce(z, 0.5, 2.0, 6)[MASK], rtol=1e-9)
    label, extent = labels(in_volume(F), stats.f.isf(0.05, 2, 7), 26)
    _, mass = cluster_values(in_volume(F), stats.f.isf(0.05, 2, 7), 26)
    np.testing.assert_allclose(found["cluster_mass"], np.concatenate([[0], mass])[label[MASK]], rtol=1e-12)
    assert extent.max() > 1
    assert found.attrs["two_sided"] is False


def test_variances_of_groups_make_maps_of_z():
    maps, design = smooth_maps(12), groups(12, 5)
    unequal = Exchangeability(scheme="flip", variance_groups=["a"] * 5 + ["b"] * 7)
    found = permutation_test(
        maps, design, "a - b", n_perm=60, statistics=STATISTICS, exchangeability=unequal, two_sided=False
    )
    welch = stats.ttest_ind(maps["effect"].values[:5], maps["effect"].values[5:], equal_var=False)
    z = in_volume(stats.norm.isf(stats.t.sf(welch.statistic, welch.df)))
    np.testing.assert_allclose(found["tfce_0.5_6_exact_z"], tfce(z, 0.5, 2.0, 6)[MASK], rtol=1e-8)
    label, _ = labels(z, stats.norm.isf(0.05), 26)
    _, mass = cluster_values(z, stats.norm.isf(0.05), 26)
    np.testing.assert_allclose(found["cluster_mass"], np.concatenate([[0], mass])[label[MASK]], rtol=1e-8)
    assert "dof" not in found.attrs


def test_memory_does_not_follow_the_number_of_rearrangements():
    maps = smooth_maps(12)
    spatial, Y = prepared(maps, n_perm=320), maps["effect"].values
    null_spatial(spatial, Y, stop=32)
    peaks = []
    for stop in (64, 320):
        tracemalloc.start()
        null_spatial(spatial, Y, stop=stop)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.1 * peaks[0]
    two_tiles, products = 2 * 8 * 32 * MASK.sum(), 2**20
    assert peaks[1] < two_tiles + products


def test_p_say_how_they_were_made():
    found = permutation_test(smooth_maps(14), n_perm=500, statistics=STATISTICS, tail="gamma")
    assert found["p_tfce_0.5_6_exact_z"].attrs["connectivity"] == 6
    assert found["p_cluster_size_0.05_26"].attrs["threshold"] == 0.05
    for name in NAMED:
        attrs = found[f"p_{name}"].attrs
        assert attrs["tail"] == "gamma"
        assert attrs["tail_status"]
        assert attrs["n_perm"] == 500
        assert found[f"p_{name}"].min() > 0


def test_contrasts_and_modalities_are_corrected_together():
    one, other = smooth_maps(9, 0), smooth_maps(9, 1, shift=0.2)
    maps = xr.concat([one, other], pd.Index(["thickness", "area"], name="modality"), join="exact")
    design = groups(9, 4)
    contrasts = {"more": "a - b", "less": "b - a"}
    statistics = ("max_stat", "tfce", ClusterSize(threshold=0.05))
    found = permutation_test(maps, design, contrasts, n_perm=150, statistics=statistics, two_sided=False)
    assert found["p_joint_tfce"].dims == ("contrast", "modality", "voxel")
    for name in ("max_stat", "tfce", "cluster_size"):
        for c, m in product(contrasts, ("thickness", "area")):
            single = permutation_test(
                maps.sel(modality=m), design, contrasts[c], n_perm=150, statistics=statistics, two_sided=False
            )
            for variable in ("stat", f"p_{name}", f"null_{name}"):
                assert np.array_equal(found[variable].sel(contrast=c, modality=m), single[variable])
        null = found[f"null_{name}"].max(["contrast", "modality"]).values
        values = found["stat"] if name == "max_stat" else found[name]
        wanted = (null >= values.values[..., np.newaxis] - 1e-9).mean(axis=-1)
        np.testing.assert_allclose(found[f"p_joint_{name}"], wanted, rtol=1e-12)
        assert (found[f"p_joint_{name}"] >= found[f"p_{name}"]).all()


def test_t_and_f_are_joined_on_the_scale_of_z():
    design = pd.get_dummies(pd.Series(list("aaabbbbccc")), dtype=float)
    found = permutation_test(smooth_maps(10), design, {"t": "a - b", "F": ["a - b", "b - c"]}, n_perm=80)
    z = np.stack(
        [
            stats.norm.isf(stats.t.sf(found["null_max_stat"].sel(contrast="t"), 7)),
            stats.norm.isf(stats.f.sf(found["null_max_stat"].sel(contrast="F"), 2, 7)),
        ]
    )
    np.testing.assert_allclose(found["null_joint_max_stat"], z.max(axis=0), rtol=1e-8)
    assert found.attrs["stat_type"] == ["t", "F"]
    assert found.attrs["dof"] == 7


def refused():
    maps, design = smooth_maps(8), groups(8, 4)
    three = pd.get_dummies(pd.Series(list("aabbbccc")), dtype=float)
    as_z = {"cluster_size": {"threshold": 2.3}}
    permuted = {"exchangeability": Exchangeability(scheme="permute"), "statistics": TFCE(on="stat")}
    return {
        "no grid": ({"maps": maps.drop_vars("grid"), "statistics": "tfce"}, "has no `grid` coordinate"),
        "threshold as z": ({"maps": maps, "statistics": as_z}, "z = 2.3 is p = 0.0107"),
        "two schemes": (
            {"maps": maps, "design": design, "contrast": {"mean": "a + b", "a": "a - b"}},
            "no null of both",
        ),
        "t and F as they are": (
            {"maps": maps, "design": three, "contrast": {"t": "a - b", "F": ["a", "b"]}, **permuted},
            "no common scale for F and t",
        ),
    }


@pytest.mark.parametrize("kind", refused())
def test_what_cannot_be_tested_is_refused(kind):
    arguments, message = refused()[kind]
    with pytest.raises(InputError, match=message):
        permutation_test(**arguments, n_perm=20)
