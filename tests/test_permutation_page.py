"""The examples of docs/explanation/permutation.md run, and say what they say."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import voxloom
from voxloom.models.inference.exchangeability import SCHEMES
from voxloom.models.inference.prepared_test import NUISANCE
from voxloom.schema import Grid, voxel_coords
from voxloom.spec.statistics import STATISTICS as kinds

PAGE = (Path(__file__).resolve().parents[1] / "docs/explanation/permutation.md").read_text()
BLOCKS = PAGE.partition("## Blocks\n")[2].partition("\n## ")[0]


STATISTICS = PAGE.partition("## Statistics\n")[2].partition("\n## ")[0]


@pytest.fixture(scope="module")
def maps() -> xr.DataArray:
    effect = np.random.default_rng(0).standard_normal((48, 50))
    coords = voxel_coords(Grid.of((20, 20, 20), np.eye(4)), np.arange(50))
    return xr.DataArray(effect, dims=("map", "voxel"), coords=coords, name="effect")


def test_examples_of_blocks_run(maps):
    space = {"np": np, "pd": pd, "maps": maps, **{name: getattr(voxloom, name) for name in voxloom.__all__}}
    examples = re.findall(r"```python\n(.*?)```", BLOCKS, re.DOTALL)
    assert len(examples) == 5
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for example in examples:
            exec(example, space)
    differences = maps.values[:24:2] - maps.values[1:24:2]
    flipped = voxloom.permutation_test(xr.DataArray(differences, dims=("map", "voxel"), coords=maps[:12].coords))
    np.testing.assert_allclose(flipped["p_max_stat"], space["paired"]["p_max_stat"], rtol=1e-12)
    np.testing.assert_allclose(flipped["stat"], space["paired"]["stat"], rtol=1e-9)


def test_examples_of_statistics_run(maps):
    space = {"np": np, "pd": pd, "maps": maps, **{name: getattr(voxloom, name) for name in voxloom.__all__}}
    examples = re.findall(r"```python\n(.*?)```", STATISTICS, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        exec(example, space)


def test_statistics_and_their_defaults_are_those_of_the_table():
    rows = re.findall(r'^\| `(\w+)\(\)`, `"(\w+)"` \| .* \| (.*) \|$', STATISTICS, re.MULTILINE)
    assert [name for _, name, _ in rows] == list(kinds)
    for kind, name, defaults in rows:
        assert getattr(voxloom, kind) is kinds[name]
        if defaults not in ("none", "the same"):
            assert eval(f"voxloom.{kind}({defaults.strip('`')})") == kinds[name]()


def test_schemes_and_treatments_are_all_there():
    assert {f'`"{name}"`' for name in SCHEMES} <= set(re.findall(r'`"[a-z]+"`', PAGE))
    assert set(re.findall(r'^\| `"([a-z-]+)"` \|', PAGE.partition("## Nuisance")[2], re.MULTILINE)) == set(NUISANCE)


def test_what_is_done_after_a_test_runs(maps):
    space = {"np": np, "pd": pd, "maps": maps, **{name: getattr(voxloom, name) for name in voxloom.__all__}}
    section = PAGE.partition("## After the test\n")[2].partition("\n## ")[0]
    (example,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    exec(example, space)
    assert set(re.findall(r"^- \*\*`(\w+)`", section, re.MULTILINE)) <= set(voxloom.__all__)
    assert space["share"].dims == ("threshold", "voxel")
    assert space["strong"].attrs["height_control"] == space["z"].p_max_stat.attrs["p_method"]


def test_attributes_of_tails_are_those_of_the_page(maps):
    section = PAGE.partition("### Small p")[2].partition("\n### ")[0]
    attrs = voxloom.permutation_test(maps[:20], n_perm=500, tail="gpd").p_max_stat.attrs
    assert set(re.findall(r"`(tail_\w+)`", section)) == {name for name in attrs if name.startswith("tail_")} - {
        "tail_note"
    }
