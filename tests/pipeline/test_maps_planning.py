"""The plan of a test of given maps is what its records count, and nothing is written for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from voxloom.cli import app
from voxloom.engine.ledger import Ledger
from voxloom.errors import InputError
from voxloom.io.store.objects import Objects
from voxloom.pipeline.given_maps import planning as maps_planning
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.pipeline.given_maps.planning import plan_maps
from voxloom.spec import parse_maps_analysis

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, N_MAPS = (6, 7, 5), 11


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven maps with a hole of NaN, a mask, and a design of two groups and age."""
    folder, rng = tmp_path_factory.mktemp("maps"), np.random.default_rng(5)
    for i in range(N_MAPS):
        values = rng.standard_normal(SHAPE).astype(np.float32)
        values[0, 0, : i // 2] = np.nan
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), folder / f"sub-{i:02d}.nii.gz")
    nibabel.save(nibabel.Nifti1Image((rng.random(SHAPE) < 0.9).astype(np.uint8), np.eye(4)), folder / "mask.nii.gz")
    table = pd.DataFrame({"a": 1.0 * (np.arange(N_MAPS) < 5), "age": rng.normal(40, 9, N_MAPS)})
    table.assign(b=1 - table.a).to_csv(folder / "design.tsv", sep="\t", index=False)
    return folder


def analysis(folder: Path, work: Path, *, mask: bool = True, **inference: Any) -> Any:
    model = {"table": str(folder / "design.tsv"), "contrasts": {"a - b": "a - b", "any": ["a - b", "age"]}}
    inference = {"n_perm": 150, "method": ["permutation", "fdr"]} | inference
    raw = {
        "maps": {"files": [str(path) for path in sorted(folder.glob("sub-*.nii.gz"))]},
        "group": {"two": model | {"inference": inference}, "mean": {"inference": {"n_perm": 1200}}},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
    }
    raw["maps"] |= {"mask": str(folder / "mask.nii.gz")} if mask else {}
    return parse_maps_analysis(raw)


def counted(store: str, stage: str) -> tuple[int, int, int]:
    """Tasks, bytes read and bytes written of a stage, from its records."""
    records = Ledger(Objects(store)).read(stage).values()
    return len(records), sum(r.bytes_read for r in records), sum(r.bytes_written for r in records)


WHOLE = {"statistics": ["max_stat", "tfce", "cluster_size"]}
#: Settings, and whether maps go through the store.
CASES: dict[str, tuple[dict[str, Any], bool]] = {
    "maximum statistic, a mask": ({}, False),
    "clusters and TFCE, no mask": ({"mask": False, **WHOLE}, False),
    "the same through the store": (WHOLE, True),
    "groups of variances": ({"variance_groups": "a"}, False),
    "joint p": (WHOLE | {"joint": "contrasts"}, False),
    "counts that stop": ({"stop_at": 5, "statistics": []}, False),
    "counts that stop, and maxima": ({"stop_at": 5, "joint": "all"}, False),
}


@pytest.mark.parametrize(("settings", "stored"), CASES.values(), ids=CASES)
def test_plan_is_what_the_records_count(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], stored: bool
) -> None:
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: not stored)
    wanted = analysis(folder, tmp_path, **settings)
    planned = plan_maps(wanted)
    assert not any(tmp_path.iterdir())
    done = run_maps(wanted)
    for stage in planned.stages:
        assert counted(done.store, stage.name) == (stage.n_tasks, stage.bytes_read, stage.bytes_written), stage.name
        assert stage.peak_memory > 0
    files = {str(path.relative_to(done.output)) for path in done.output.rglob("*") if path.is_file()}
    assert set(planned.files) == files
    again = plan_maps(wanted)
    assert all(stage.n_done == stage.n_tasks for stage in again.stages)
    longer = plan_maps(analysis(folder, tmp_path, **settings | {"n_perm": 1150}))
    assert {stage.name for stage in longer.stages if stage.n_done < stage.n_tasks} >= {"infer", "correct", "export"}
    assert next(stage for stage in longer.stages if stage.name == "consolidate").bytes_read == 0


def test_each_stage_costs_time(folder: Path, tmp_path: Path) -> None:
    planned = plan_maps(analysis(folder, tmp_path, statistics=["max_stat", "tfce"]), calibrate=True)
    assert all(stage.cpu_seconds > 0 for stage in planned.stages)
    assert "about" in planned.render()


def test_what_a_run_would_be_refused_for_the_plan_is_too(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no p can be below"):
        plan_maps(analysis(folder, tmp_path, n_perm=10))


def test_odd_maps_and_voxels_not_counted_exactly_are_told(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = analysis(folder, tmp_path, mask=False)
    twin = tmp_path / "twin.nii.gz"
    twin.write_bytes(wanted.maps.files[0].read_bytes())
    maps = wanted.maps.model_copy(update={"files": (*wanted.maps.files[1:], twin, wanted.maps.files[0])})
    mean = {"mean": wanted.group["mean"]}
    monkeypatch.setattr(maps_planning, "LOOKED_AT", 4)
    told = "\n".join(map(str, plan_maps(wanted.model_copy(update={"maps": maps, "group": mean})).problems))
    assert "has the same content as" in told
    assert "voxels were counted in the first 4 of 12" in told


@pytest.mark.parametrize("command", ["infer", "group"])
def test_the_command_plans_and_writes_nothing(folder: Path, tmp_path: Path, command: str) -> None:
    maps = [str(path) for path in sorted(folder.glob("sub-*.nii.gz"))]
    args = [command, *maps, "-o", str(tmp_path / "out"), "--n-perm", "200", "--statistics", "tfce", "--plan"]
    said = CliRunner().invoke(app, args)
    assert said.exit_code == 0, said.output
    lines = {line.split()[0]: line.split() for line in said.stdout.splitlines() if line.strip()}
    assert lines["consolidate"][1:3] == ["1", "0"]
    assert lines["spatial"][1:3] == ["2", "0"]
    assert "spatial: tfce of group.maps over whole maps in memory" in said.stdout
    assert not any(tmp_path.iterdir())
