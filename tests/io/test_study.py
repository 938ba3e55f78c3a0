"""What a study promises: one voxel axis for ever, a clear word for what is not a study, lazy reading."""

from __future__ import annotations

import json
import pickle
from typing import TYPE_CHECKING

import numpy as np
import pytest

from voxloom.errors import CorruptionError, GridError, InputError, StoreError
from voxloom.io.store.access import Objects, create_array, read_voxels, write_voxels
from voxloom.io.study.open import create_study, describe_results, is_study, open_study
from voxloom.schema import SCHEMA_VERSION, Grid, grid_of
from voxloom.sealed import BLANK, KEY, seal

if TYPE_CHECKING:
    from pathlib import Path

GRID = Grid.of((4, 5, 6), np.diag([2.0, 2, 3, 1]), "MNI152NLin2009cAsym")


@pytest.fixture
def mask() -> np.ndarray:
    return np.random.default_rng(0).random(GRID.shape) < 0.5


def test_creating_opens_the_same_and_refuses_another(tmp_path: Path, mask: np.ndarray) -> None:
    study = create_study(tmp_path / "s", GRID, mask, meta={"mask": "union"})
    again = create_study(tmp_path / "s", GRID, mask)
    for opened in (study, again, open_study(tmp_path / "s"), pickle.loads(pickle.dumps(study))):
        assert opened.grid == GRID
        assert opened.meta == {"mask": "union"}
        assert opened.digest == study.digest
        np.testing.assert_array_equal(opened.voxel, np.flatnonzero(mask))
        np.testing.assert_array_equal(opened.mask, mask)
    ijk = read_voxels(study.objects, "ijk", slice(0, study.voxel.size))
    np.testing.assert_array_equal(ijk, np.argwhere(mask))
    other = mask.copy()
    other.flat[0] ^= True
    for grid, voxels in ((GRID, other), (Grid.of((4, 5, 6), np.eye(4)), mask)):
        with pytest.raises(StoreError, match="another folder"):
            create_study(tmp_path / "s", grid, voxels)
    with pytest.raises(InputError, match="empty"):
        create_study(tmp_path / "t", GRID, mask & ~mask)
    with pytest.raises(GridError, match="shape"):
        create_study(tmp_path / "t", GRID, mask[1:])
    assert not is_study(Objects(tmp_path / "t"))


def test_what_is_not_a_study(tmp_path: Path, mask: np.ndarray) -> None:
    with pytest.raises(StoreError, match="not a voxloom study"):
        open_study(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    Objects(tmp_path / "half").put("ledger/ingest/a.json", b"{}")
    with pytest.raises(StoreError, match="not a voxloom study"):
        open_study(tmp_path / "half")
    create_study(tmp_path / "half", GRID, mask)  # the ledger may be there first
    objects = Objects(tmp_path / "half")
    node = json.loads(objects.get("zarr.json") or b"")
    node["attributes"] |= BLANK
    node["attributes"]["voxloom"]["schema_version"] = SCHEMA_VERSION + 1
    objects.put("zarr.json", seal(json.dumps(node).encode()))
    with pytest.raises(StoreError, match=f"schema {SCHEMA_VERSION + 1}.*Update voxloom"):
        open_study(tmp_path / "half")


def test_metadata_of_the_first_schema_are_refused_with_the_way_out(tmp_path: Path, mask: np.ndarray) -> None:
    objects = create_study(tmp_path / "s", GRID, mask).objects
    node = json.loads(objects.get("zarr.json") or b"")
    del node["attributes"][KEY]
    node["attributes"]["voxloom"]["schema_version"] = 1
    objects.put("zarr.json", json.dumps(node, indent=2).encode())
    with pytest.raises(CorruptionError, match="schema 1 have no checksum: give such an analysis another `store:`"):
        open_study(tmp_path / "s")


def test_an_empty_study_has_no_runs(tmp_path: Path, mask: np.ndarray) -> None:
    study = create_study(tmp_path / "s", GRID, mask)
    assert study.runs.empty
    assert "runs    0" in repr(study)
    assert "<table" in study._repr_html_()
    with pytest.raises(StoreError, match="no complete run"):
        study.run("sub-01")


def test_results_by_name_or_its_beginning(tmp_path: Path, mask: np.ndarray) -> None:
    study = create_study(tmp_path / "s", GRID, mask)
    n, effect = study.voxel.size, np.random.default_rng(1).normal(size=(2, study.voxel.size))
    for name in ("abc1", "abd2"):
        describe_results(study.objects, name, level="group", coords={"contrast": ["x", "y"]}, model="m")
        create_array(
            study.objects,
            f"results/{name}/effect",
            dims=("contrast", "voxel"),
            shape=(2, n),
            chunks=(1, 16),
            shards=(2, 32),
        )
        write_voxels(study.objects, f"results/{name}/effect", slice(0, n), effect)
    ds = study.results("abc")
    assert ds["effect"].chunks == ((2,), (32,) * (n // 32) + ((n % 32,) if n % 32 else ()))
    np.testing.assert_array_equal(ds["effect"].sel(contrast="y"), effect[1])
    assert grid_of(ds["effect"]) == GRID
    assert ds.attrs == {"level": "group", "model": "m"}
    np.testing.assert_allclose(ds["effect"].sel(contrast="x").vx.to_nifti().get_fdata()[mask], effect[0], rtol=1e-6)
    table = study.results_table
    assert list(table.index) == ["abc1", "abd2"]
    assert table.loc["abc1"].to_dict() == {"level": "group", "model": "m", "contrasts": "x, y", "n_subjects": 0}
    for name, what in (("ab", "fits 2"), ("z", "no results")):
        with pytest.raises(StoreError, match=what):
            study.results(name)
