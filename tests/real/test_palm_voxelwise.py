"""Voxelwise permutation tests against PALM: statistics, maxima of every rearrangement, and both kinds of p."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, NamedTuple

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from voxloom.models.inference.exchangeability import Exchangeability
from voxloom.models.inference.permutation import (
    fwe_p,
    null_max_stat,
    observed_stat,
    prepare_test,
    rearranged_stat,
    sweep,
    uncorrected_p,
)

if TYPE_CHECKING:
    from pathlib import Path

CASES = {
    "one_sample_signflip": None,
    "two_sample_freedman_lane": None,
    "f_contrast_three_groups": None,
    "paired_within_block": "within",
    "two_group_whole_block": "whole",
}


class Case(NamedTuple):
    """Inputs of a run of PALM."""

    folder: Path
    mask: np.ndarray
    Y: np.ndarray
    design: pd.DataFrame
    contrast: np.ndarray
    rearrangements: np.ndarray

    def map(self, name: str) -> np.ndarray:
        return nib.load(self.folder / f"{name}.nii.gz").get_fdata()[self.mask]

    def series(self, name: str) -> np.ndarray:
        return np.loadtxt(self.folder / f"{name}.csv", delimiter=",").ravel()

    @property
    def blocks(self) -> dict[str, np.ndarray] | None:
        kind = CASES[self.folder.name]
        return kind and {kind: self.series("exchangeability_blocks")}


def case_of(folder: Path) -> Case:
    mask = nib.load(folder.parent / "mask.nii.gz").get_fdata() > 0
    Y = nib.load(folder / "data.nii.gz").get_fdata()[mask].T
    design, contrast, indices = (
        np.loadtxt(folder / f"{name}.csv", delimiter=",", ndmin=2) for name in ("design", "contrast", "permidx")
    )
    return Case(folder, mask, Y, pd.DataFrame(design), contrast, indices.astype(int))


@pytest.mark.parametrize("name", CASES)
def test_statistics_maxima_and_p_are_those_of_palm(voxloom_data, name):
    case = case_of(voxloom_data / "oracles" / "palm" / name)
    replay = Exchangeability(blocks=case.blocks, rearrangements=case.rearrangements)
    test = prepare_test(case.design, case.contrast, exchangeability=replay, two_sided=False)
    stat = observed_stat(test, case.Y)
    np.testing.assert_allclose(stat, case.map(f"stat_{test.stat_type}"), rtol=0, atol=1e-10)
    swept = sweep(test, case.Y, stat)
    np.testing.assert_allclose(test.to_z(swept.maxima), case.series("max_voxel_z"), rtol=0, atol=5e-10)
    uncorrected, corrected = uncorrected_p(test, swept.reached), fwe_p(test, stat, swept.maxima)
    np.testing.assert_allclose(uncorrected, 10.0 ** -case.map("logp_unc_voxel"), rtol=1e-10)
    np.testing.assert_allclose(corrected, 10.0 ** -case.map("logp_fwe_voxel"), rtol=1e-10)
    some = slice(64, 74)
    z = test.to_z(rearranged_stat(test, case.Y, start=some.start, stop=some.stop))
    np.testing.assert_allclose(z.max(axis=1), case.series("max_voxel_z")[some], rtol=0, atol=5e-10)


def test_two_tailed_maxima_are_those_of_palm(voxloom_data):
    folder = voxloom_data / "oracles" / "palm" / "one_sample_signflip"
    case = case_of(folder)
    replay = Exchangeability(rearrangements=case.rearrangements)
    test = prepare_test(case.design, case.contrast, exchangeability=replay)
    null, two = null_max_stat(test, case.Y), case._replace(folder=folder / "two_tailed")
    np.testing.assert_allclose(test.to_z(null), two.series("max_voxel_z"), rtol=0, atol=5e-10)
    p = fwe_p(test, observed_stat(test, case.Y), null)
    np.testing.assert_allclose(p, 10.0 ** -two.map("logp_fwe_voxel"), rtol=1e-10)


@pytest.mark.parametrize("name", ["paired_within_block", "two_group_whole_block"])
def test_blocks_leave_the_rearrangements_of_palm(voxloom_data, name):
    case = case_of(voxloom_data / "oracles" / "palm" / name)
    test = prepare_test(case.design, case.contrast, exchangeability=Exchangeability(blocks=case.blocks))
    ours, theirs = test.rearrangements.draw(0, test.n_perm), case.rearrangements
    assert test.rearrangements.exhaustive
    rows = case.design.to_numpy()
    assert {rows[np.abs(r) - 1].tobytes() for r in ours} == {rows[np.abs(r) - 1].tobytes() for r in theirs}
    assert len(ours) == len(theirs)
    z = test.to_z(
        null_max_stat(
            prepare_test(
                case.design, case.contrast, two_sided=False, exchangeability=Exchangeability(blocks=case.blocks)
            ),
            case.Y,
        )
    )
    np.testing.assert_allclose(np.sort(z), np.sort(case.series("max_voxel_z")), rtol=0, atol=5e-10)


@pytest.mark.slow
def test_exhaustive_null_of_palm_data(voxloom_data):
    """All 2^20 flips of 20 maps by 6,960 voxels against the plain enumeration of the oracle."""
    case = case_of(voxloom_data / "oracles" / "palm" / "one_sample_signflip")
    folder = case.folder / "exhaustive"
    sides = [prepare_test(case.design, case.contrast, n_perm=2**20, two_sided=two_sided) for two_sided in (False, True)]
    stat = observed_stat(sides[0], case.Y)
    found = [sweep(test, case.Y, stat) for test in sides]
    nulls = [np.sort(one.maxima) for one in found]
    for name, test, swept, null in zip(("one_sided", "two_sided"), sides, found, nulls):
        counts = nib.load(folder / f"count_unc_{name}.nii.gz").get_fdata()[case.mask]
        np.testing.assert_array_equal(swept.reached, counts)
        counts = nib.load(folder / f"count_fwe_{name}.nii.gz").get_fdata()[case.mask]
        np.testing.assert_allclose(fwe_p(test, stat, null) * 2**20, counts, rtol=1e-12)
    for alpha, *critical in np.loadtxt(folder / "critical_t.csv", delimiter=",", skiprows=1):
        for null, t, count in zip(nulls, critical[::2], critical[1::2]):
            # the least maximum whose share of the null is at most alpha
            least = null[np.searchsorted(null, null[-int(alpha * 2**20) - 1], side="right")]
            assert abs(least - t) < 1e-9
            assert np.count_nonzero(null >= least) == count
    with (folder / "null_survival.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    for t, *counts in rows:
        assert [len(null) - np.searchsorted(null, float(t)) for null in nulls] == [int(c) for c in counts]
