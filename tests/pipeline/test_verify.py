"""Verification finds every flipped byte and every missing object; repair gives back the very store, and no more."""

from __future__ import annotations

import json
import random
import re
import shutil
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest

import voxloom
from conftest import make_analysis
from voxloom.engine.events import TaskFinished
from voxloom.engine.ledger import Record
from voxloom.errors import StoreError, VoxloomError
from voxloom.io.store.arrays import open_array
from voxloom.io.store.integrity import node_of
from voxloom.io.store.objects import Objects
from voxloom.io.store.regions import read_voxels, write_voxels
from voxloom.io.store.shard import is_intact
from voxloom.pipeline import repair, verify, verify_sources
from voxloom.pipeline.verification.mending import covers
from voxloom.sealed import is_sealed
from voxloom.simulate import write_bids_study

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(scope="module")
def small_bids(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "bids"
    write_bids_study(folder, n_subjects=3, n_runs=1, shape=(7, 8, 6), n_volumes=40, seed=5)
    return folder


@pytest.fixture(scope="module")
def finished(small_bids: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished analysis, not to be changed: the analysis and the bytes of every object of its store."""
    folder = tmp_path_factory.mktemp("finished")
    analysis = make_analysis(small_bids, folder)
    assert voxloom.run(analysis).ok
    return {"analysis": analysis, "objects": contents(Path(analysis["store"]["path"]))}


@pytest.fixture
def analysis(finished: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The same analysis on a copy of its store, and of its output."""
    mine = json.loads(json.dumps(finished["analysis"]))
    for section, key in (("store", "path"), ("output", "dir")):
        mine[section][key] = str(shutil.copytree(finished["analysis"][section][key], tmp_path / section))
    return mine


def contents(store: Path) -> dict[str, bytes]:
    return {str(path.relative_to(store)): path.read_bytes() for path in sorted(store.rglob("*")) if path.is_file()}


def without_clocks(objects: dict[str, bytes]) -> dict[str, Any]:
    """Records tell when and how fast a task ran; all else of a store is the same each time."""
    told = dict.fromkeys(("seconds", "finished", "attempt", "voxloom_crc32c"))
    return {
        key: json.loads(raw) | told if key.startswith("ledger/") else raw
        for key, raw in objects.items()
        if not key.startswith("ledger/export/")
    }


def flip(path: Path, place: int, bit: int = 0) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1 << bit
    path.write_bytes(raw)


def kind_of(key: str) -> str:
    """Objects of one kind are made by the same code."""
    parts = key.split("/")
    return "/".join(part for part in parts if not any(c.isdigit() for c in part))


def one_of_each_kind(objects: dict[str, bytes], seed: int = 0) -> list[str]:
    kinds: dict[str, list[str]] = {}
    for key in objects:
        kinds.setdefault(kind_of(key), []).append(key)
    return [random.Random(seed).choice(keys) for keys in kinds.values()]


def test_every_object_of_a_finished_study_is_checked(finished: dict[str, Any], analysis: dict[str, Any]) -> None:
    """A byte of one object of each kind, all others sound: verify names that object and no other."""
    store, rng = Path(analysis["store"]["path"]), random.Random(0)
    assert verify(store) == []
    for key in one_of_each_kind(finished["objects"]):
        raw = finished["objects"][key]
        flip(store / key, rng.randrange(len(raw)), rng.randrange(8))
        assert [damage.key for damage in verify(store)] == [key]
        (store / key).write_bytes(raw)
    # and all of them at once; shards of an array whose metadata are damaged would wait for these
    data = {key for key in finished["objects"] if not key.endswith("zarr.json")}
    for key in data:
        flip(store / key, rng.randrange(len(finished["objects"][key])))
    assert {damage.key for damage in verify(store, workers=2)} == data


def test_every_byte_is_under_a_checksum(finished: dict[str, Any]) -> None:
    """Of one object of each kind every byte, of objects beyond 4 KiB as many, their shard index always."""
    objects = Objects(finished["analysis"]["store"]["path"])
    for key in one_of_each_kind(finished["objects"], seed=1):
        raw, rng = finished["objects"][key], random.Random(key)
        array = None if key.endswith("json") else open_array(objects, node_of(key) or "")
        places = range(len(raw)) if len(raw) <= 4096 else [*rng.sample(range(len(raw)), 4096), *range(-600, 0)]
        for place in places:
            bad = bytearray(raw)
            bad[place] ^= 1 << rng.randrange(8)
            sound = is_sealed(bytes(bad)) if array is None else is_intact(bytes(bad), array.chunks, array.shards)
            assert not sound, (key, place)


def test_every_missing_object_is_named(finished: dict[str, Any], analysis: dict[str, Any]) -> None:
    store = Path(analysis["store"]["path"])
    for key in one_of_each_kind(finished["objects"], seed=2):
        if key.startswith("ledger/"):
            continue  # a record that is not there is a task that is not done
        (store / key).unlink()
        assert [damage.key for damage in verify(store)] == [key]
        (store / key).write_bytes(finished["objects"][key])
    shutil.rmtree(store / "runs/sub-02_task-faces_run-1/tsnr")
    assert [str(damage) for damage in verify(store)] == ["runs/sub-02_task-faces_run-1/tsnr/zarr.json: is missing"]
    shutil.rmtree(store / "runs/sub-02_task-faces_run-1")
    assert "runs/sub-02_task-faces_run-1/zarr.json: is missing" in map(str, verify(store))


def test_what_an_interrupted_run_has_not_come_to_is_not_missing(small_bids: Path, tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    def kill(event: object) -> None:
        if isinstance(event, TaskFinished) and event.stage == "fit":
            raise Killed

    mine = make_analysis(small_bids, tmp_path)
    with pytest.raises(Killed):
        voxloom.run(mine, on_event=kill)
    assert verify(mine["store"]["path"]) == []
    with pytest.raises(StoreError, match="not a voxloom study"):
        verify(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def damaged(key: str, objects: dict[str, bytes]) -> bytes:
    raw = bytearray(objects[key])
    raw[len(raw) // 2] ^= 4
    return bytes(raw)


def rewritten(store: Path, before: dict[str, int]) -> set[str]:
    return {key for key in contents(store) if (store / key).stat().st_mtime_ns != before.get(key)}


def may_write(bad: list[str], objects: dict[str, bytes]) -> set[str]:
    """What the tasks wrote that wrote these objects, or whose records they are."""
    records = [Record.from_json(raw) for key, raw in objects.items() if key.startswith("ledger/")]
    allowed = set(bad)
    for record in records:
        assert record is not None
        mine = f"ledger/{record.stage}/{record.key}.json"
        if mine in bad or any(covers(text, key) for text in record.wrote for key in bad):
            allowed |= {mine} | {key for key in objects for text in record.wrote if covers(text, key)}
    return allowed


@pytest.mark.parametrize("how", ["flipped", "missing"])
@pytest.mark.parametrize("part", ["axis", "runs", "fits", "results", "nulls", "ledger"])
def test_repair_gives_back_the_very_store(
    finished: dict[str, Any], analysis: dict[str, Any], part: str, how: str
) -> None:
    store, objects = Path(analysis["store"]["path"]), finished["objects"]
    tops = ("voxel", "ijk", "mask", "zarr.json", "coverage") if part == "axis" else (part,)
    bad = [key for key in one_of_each_kind(objects, seed=3) if key.split("/")[0] in tops]
    if how == "missing":  # a record that is not there is no damage; of a study, something must be left
        bad = [key for key in bad if key != "mask/zarr.json" and part != "ledger"]
    for key in bad:
        (store / key).unlink() if how == "missing" else (store / key).write_bytes(damaged(key, objects))
    before = {key: (store / key).stat().st_mtime_ns for key in contents(store)}
    assert repair(analysis) == []
    assert verify(store) == []
    assert without_clocks(contents(store)) == without_clocks(objects)
    touched = rewritten(store, before)
    # the records of the output of the first analysis are another's, and as good as absent
    assert {key for key in bad if not key.startswith("ledger/export/")} <= touched
    if part in ("axis", "runs"):  # coverage is counted again as a whole
        assert touched == set(bad) | {key for key in objects if part == "axis" and key.startswith("coverage/")}
    else:
        assert touched <= may_write(bad, objects) | {k for k in objects if re.fullmatch("results/[^/]+/zarr.json", k)}


def test_a_run_whose_source_is_gone_or_changed_is_left_and_named(
    small_bids: Path, finished: dict[str, Any], tmp_path: Path
) -> None:
    bids = shutil.copytree(small_bids, tmp_path / "bids")
    mine = make_analysis(bids, tmp_path)
    assert voxloom.run(mine).ok
    store = Path(mine["store"]["path"])
    bold = {label: next(bids.rglob(f"sub-{label}*preproc_bold.nii.gz")) for label in ("01", "02", "03")}
    image = nibabel.load(bold["02"])
    values = np.asarray(image.dataobj).copy()
    values[3, 4, 3, 5] += 1
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), bold["02"])
    bold["03"].rename(tmp_path / "away.nii.gz")
    told = [str(damage) for damage in verify_sources(mine)]
    assert len(told) == 2, told
    assert "runs/sub-02" in told[0]
    assert "has changed since it was read" in told[0]
    assert "runs/sub-03" in told[1]
    assert "is gone" in told[1]
    keys = {label: next(store.glob(f"runs/sub-{label}*/bold/c/0/0")) for label in bold}
    sound = contents(store)
    for path in keys.values():
        flip(path, 99)
    left = repair(mine)
    of_runs = [damage for damage in left if damage.key.count("/") == 1]
    assert ["sub-02" in str(of_runs[0]), "sub-03" in str(of_runs[1]), len(of_runs)] == [True, True, 2], left
    assert {damage.key for damage in left if damage.key.endswith("c/0/0")} == {
        str(keys[label].relative_to(store)) for label in ("02", "03")
    }
    assert keys["01"].read_bytes() == sound[str(keys["01"].relative_to(store))]


def test_sources_are_compared_value_by_value(finished: dict[str, Any], analysis: dict[str, Any]) -> None:
    """Sound checksums, but another number: only the source can tell."""
    assert verify_sources(analysis) == []
    objects, path = Objects(analysis["store"]["path"]), "runs/sub-01_task-faces_run-1/bold"
    values = read_voxels(objects, path, slice(None))
    values[7, 3] += 1
    write_voxels(objects, path, slice(0, len(values)), values)
    assert verify(analysis["store"]["path"]) == []
    (damage,) = verify_sources(analysis)
    assert damage.key == f"{path}/c/0/0"
    assert "is not what" in damage.what


def test_equal_values_in_other_bytes_are_no_difference(
    analysis: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As another version of the codec may write them."""
    objects, path = Objects(analysis["store"]["path"]), "runs/sub-01_task-faces_run-1/bold"
    values, before = read_voxels(objects, path, slice(None)), objects.get(f"{path}/c/0/0")
    with monkeypatch.context() as patch:
        patch.setattr("voxloom.io.store.shard.CLEVEL", 0)
        write_voxels(objects, path, slice(0, len(values)), values)
    assert objects.get(f"{path}/c/0/0") != before
    assert verify_sources(analysis) == []


def everything(store: Path, results: list[str]) -> dict[str, Any]:
    """Every number that a study gives; an error instead of those that it refuses to give."""
    found: dict[str, Any] = {}

    def look(name: str, read: Callable[[], Any]) -> Any:
        try:
            found[name] = read()
        except (VoxloomError, ValueError, RuntimeError) as error:  # lazy arrays raise what Zarr does
            found[name] = error
            return None
        return found[name]

    study = look("study", lambda: voxloom.open_study(store))
    if study is None:
        return found
    table = look("runs", lambda: study.runs)
    for name in [] if table is None else table.index:
        run = look(f"{name}", partial(study.run, name))
        for variable in [] if run is None else run.variables:
            look(f"{name}/{variable}", lambda run=run, variable=variable: run[variable].to_numpy())
    for name in results:
        maps = look(name, partial(study.results, name))
        for variable in [] if maps is None else maps.variables:
            look(f"{name}/{variable}", lambda maps=maps, variable=variable: maps[variable].to_numpy())
    return found


def test_no_reader_gives_another_number(finished: dict[str, Any], analysis: dict[str, Any]) -> None:
    """A flipped byte of any object that a study is read from: what is not refused is what it was."""
    store, rng = Path(analysis["store"]["path"]), random.Random(4)
    results = list(voxloom.open_study(store).results_table.index)
    good = everything(store, results)
    assert not any(isinstance(value, Exception) for value in good.values())
    refused = 0
    for key in one_of_each_kind(finished["objects"], seed=4):
        if key.split("/")[0] in ("ledger", "fits", "nulls"):
            continue  # read by tasks alone, with the same functions
        raw = finished["objects"][key]
        flip(store / key, rng.randrange(len(raw)), rng.randrange(8))
        for name, value in everything(store, results).items():
            if isinstance(value, Exception):
                refused += 1
            elif isinstance(value, np.ndarray):
                np.testing.assert_array_equal(value, good[name])
            elif isinstance(value, pd.DataFrame):
                pd.testing.assert_frame_equal(value, good[name])
        (store / key).write_bytes(raw)
    assert refused > 20


@pytest.mark.slow  # 28 s of CPU; in test_object_store verify alone is quick
def test_verify_and_repair_in_a_bucket(small_bids: Path, tmp_path: Path, bucket: str) -> None:
    mine = make_analysis(small_bids, tmp_path, store={"path": f"{bucket}/study"}, group={})
    assert voxloom.run(mine).ok
    objects = Objects(f"{bucket}/study")
    assert verify(f"{bucket}/study") == []
    before = {key: objects.get(key) for key in objects.list("")}
    path = "runs/sub-02_task-faces_run-1"
    bad = [f"{path}/bold/c/0/0", f"{path}/time/zarr.json", next(key for key in before if key.endswith("rho/c/0"))]
    for key in bad[:2]:
        objects.put(key, damaged(key, {key: before[key] or b""}))
    objects.delete(bad[2])
    assert [damage.key for damage in verify(f"{bucket}/study")] == sorted(bad)
    assert verify_sources(mine)
    assert repair(mine) == []
    after = {key: objects.get(key) for key in objects.list("")}
    assert without_clocks(after) == without_clocks(before)
    assert verify_sources(mine) == []
