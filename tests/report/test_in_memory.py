"""A page of models in memory: self-contained, with the numbers that the functions give."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import voxloom
from voxloom.errors import InputError
from voxloom.report.in_memory import model_report
from voxloom.schema import Grid, voxel_coords


@pytest.fixture(scope="module")
def maps() -> xr.Dataset:
    """Twelve maps of a small brain, with an effect in a corner of it."""
    rng = np.random.default_rng(0)
    grid = Grid.of((6, 7, 5), np.diag([3.0, 3.0, 3.0, 1.0]))
    effect = rng.standard_normal((12, 210))
    effect[:, :20] += 3
    coords = {"map": [f"sub-{i:02d}" for i in range(1, 13)], **voxel_coords(grid, np.arange(210))}
    return xr.Dataset({"effect": (("map", "voxel"), effect)}, coords=coords)


@pytest.fixture(scope="module")
def page(maps) -> str:
    design = pd.DataFrame({"intercept": np.ones(12), "age": np.linspace(-1, 1, 12)}, index=maps["map"].to_numpy())
    z = voxloom.contrast(voxloom.fit_group(maps, design), "intercept").z_score
    p = voxloom.permutation_test(maps, design, "intercept", n_perm=200)
    return model_report(
        {"<mean>": z},
        {"group": design},
        {"<mean>": "intercept", "age": "age"},
        title="A & B",
        p={"<mean>": p},
        rows="subjects",
        methods=["Maps were averaged [friston-1994]."],
        facts={"seed": 0},
    )


def test_nothing_is_fetched_from_elsewhere(page):
    from_elsewhere = re.findall(r"<(?:script|link|img|iframe|source)[^>]*(?:src|href)=[\"'](?!data:)", page)
    assert not from_elsewhere
    assert "@import" not in page


def test_names_are_text_not_markup(page):
    assert "A &amp; B" in page
    assert "<mean>" not in page
    assert "&lt;mean&gt;" in page


def test_the_cluster_table_is_that_of_the_function(maps, page):
    design = pd.DataFrame({"intercept": np.ones(12), "age": np.linspace(-1, 1, 12)}, index=maps["map"].to_numpy())
    z = voxloom.contrast(voxloom.fit_group(maps, design), "intercept").z_score
    p = voxloom.permutation_test(maps, design, "intercept", n_perm=200)
    expected = voxloom.clusters_table(z, threshold=3.09, p=p)
    table = next(one for one in re.findall(r"<table>.*?</table>", page, re.DOTALL) if "cluster" in one)
    rows = re.findall(r"<tr>(<td.*?)</tr>", table, re.DOTALL)
    assert len(rows) == len(expected)
    cells = [re.sub("<.*?>", "", cell) for cell in re.findall(r"<td.*?</td>", rows[0], re.DOTALL)]
    names = re.findall(r"<th[^>]*>(.*?)</th>", table)
    first = dict(zip(names, cells))
    assert float(first["peak z"]) == pytest.approx(expected["peak"][0], rel=5e-3)
    assert float(first["p FWE"]) == pytest.approx(expected["p_max_stat"][0], rel=5e-3)
    assert int(first["voxels"]) == expected["size"][0]


def test_papers_are_named_and_listed_with_their_doi(page):
    assert "averaged (Friston et al., 1994)." in page
    assert "https://doi.org/10.1002/hbm.460020402" in page


def test_the_same_model_gives_the_same_bytes(maps):
    z = maps["effect"][0] * 2
    twice = [model_report({"a": z}, {}, {}, title="t") for _ in range(2)]
    assert twice[0] == twice[1]


def test_no_maps_are_refused():
    with pytest.raises(InputError, match="is empty"):
        model_report({}, {}, {}, title="t")
