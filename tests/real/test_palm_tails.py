"""Tails fitted to PALM's nulls against PALM's own, and against the complete null of 2^20 sign flips."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voxloom.kernels.tails import t_to_z
from voxloom.models.inference.null_p import p_of_null

if TYPE_CHECKING:
    from pathlib import Path

DOF = {"one_sample_signflip": 19, "two_sample_freedman_lane": 17}


@pytest.fixture(scope="module")
def palm(voxloom_data: Path) -> Path:
    folder = voxloom_data / "oracles" / "palm"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    return folder


def masked(palm: Path, name: str) -> np.ndarray:
    inside = np.asanyarray(nib.load(palm / "mask.nii.gz").dataobj) > 0
    return np.asarray(nib.load(palm / name).dataobj, dtype=float)[inside]


@pytest.mark.parametrize("case", DOF)
@pytest.mark.parametrize("name", ["voxel", "cluster_extent", "tfce"])
def test_gpd_p_are_palms(palm, case, name):
    stat = t_to_z(masked(palm, f"{case}/stat_t.nii.gz"), DOF[case]) if name == "voxel" else None
    stat = masked(palm, f"{case}/stat_{name}.nii.gz") if stat is None else stat
    null = np.loadtxt(palm / case / f"max_{'voxel_z' if name == 'voxel' else name}.csv", delimiter=",")
    found = p_of_null(stat, null, tail="gpd")
    assert found.attrs["tail_status"] == "fitted"
    assert found.attrs["tail_p"] > 0
    assert found.attrs["tail_floored"] == 0
    np.testing.assert_allclose(found.p, 10 ** -masked(palm, f"{case}/gpd_tail/logp_fwe_{name}.nii.gz"), rtol=1e-10)


@pytest.mark.parametrize("tail", ["gpd", "gamma"])
def test_tails_of_500_flips_are_near_the_complete_null_and_never_zero(palm, tail):
    """Median of p over its value among all 2^20 flips; the statistic is the observed one of the 500."""
    table = pd.read_csv(palm / "one_sample_signflip/exhaustive/null_survival.csv")
    survival = table["count_max_t_ge"].to_numpy() / 2**20
    rng = np.random.default_rng(0)

    def estimate(true: float) -> float:
        t = np.interp(-np.append(true, rng.uniform(size=499)), -survival, table["t"])
        z = t_to_z(t, 19)
        return float(p_of_null(z[:1], z, tail=tail, n_distinct=2**20).p[0])

    p = {true: [estimate(true) for _ in range(100)] for true in (0.05, 0.01, 0.001, 1e-5)}
    ratio = [np.median(found) / true for true, found in p.items()]
    np.testing.assert_allclose(ratio[:2], 1, atol=0.25)
    assert 0.5 < ratio[2] < 2
    assert ratio[3] > 1
    assert min(map(min, p.values())) >= 2.0**-20
