"""Joint p, smoothed variances and counts that stop, out of core: the numbers of `permutation_test`, however cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.errors import InputError, MemoryBudgetError
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.pipeline.inference import nulls
from voxloom.spec import parse_maps_analysis

if TYPE_CHECKING:
    from pathlib import Path

#: More than one chunk of voxels.
SHAPE, N_MAPS, N_PERM = (18, 17, 16), 12, 150
CONTRASTS = {"age": "age", "mean age": "mean + 40 * age", "more": "-1 * age"}
STATISTICS = ["max_stat", "tfce", {"cluster_size": {"threshold": 0.05}}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("options"), np.random.default_rng(8)
    table = pd.DataFrame({"mean": 1.0, "age": rng.normal(0, 1, N_MAPS)})
    for i in range(N_MAPS):
        values = rng.standard_normal(SHAPE)
        values[:3] += 1.2 * table.age[i]
        nibabel.save(nibabel.Nifti1Image(values.astype(np.float32), np.diag([3, 3, 3, 1])), folder / f"m{i:02d}.nii")
    table.to_csv(folder / "table.tsv", sep="\t", index=False)
    return folder


@pytest.fixture(scope="module")
def maps(folder: Path) -> Any:
    return voxloom.from_nifti(sorted(folder.glob("*.nii")))


def design_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "table.tsv", sep="\t")


def analysis(folder: Path, work: Path, contrasts: Any = None, budget: str = "512MiB", **inference: Any) -> Any:
    wanted = {"method": "permutation", "n_perm": N_PERM, "statistics": STATISTICS, "scheme": "permute"} | inference
    model = {"table": str(folder / "table.tsv"), "contrasts": contrasts or CONTRASTS, "inference": wanted}
    raw = {
        "maps": {"files": [str(path) for path in sorted(folder.glob("*.nii"))]},
        "group": {"m": model},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
        "memory_budget": budget,
    }
    return parse_maps_analysis(raw)


def results(done: voxloom.RunResult) -> Any:
    return voxloom.open_study(done.store).results(done.group_names["m"]).isel(contrast=0).load()


def require_equal(found: Any, wanted: Any) -> None:
    names = [name for name in wanted if name not in ("stat", "z_score")]
    for name in names:
        variable = wanted[name].transpose("contrast", ...) if "contrast" in wanted[name].dims else wanted[name]
        own = found[name] if "contrast" in variable.dims else found[name].isel(group_contrast=0)
        np.testing.assert_array_equal(own, variable, err_msg=name)


OPTIONS: dict[str, dict[str, Any]] = {
    "joint": {"joint": "all"},
    "smoothed": {"variance_smoothing_fwhm": 7.0},
    "stopping": {"stop_at": 5},
    "stopping alone": {"stop_at": 5, "statistics": []},
}


@pytest.fixture(scope="module", params=OPTIONS)
def done(request: Any, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    contrasts = {name: CONTRASTS[name] for name in sorted(CONTRASTS)}
    options = OPTIONS[request.param]
    return options, run_maps(analysis(folder, tmp_path_factory.mktemp("done"), contrasts, **options))


def test_numbers_are_those_of_permutation_test(folder: Path, maps: Any, done: Any) -> None:
    options, result = done
    given = {"statistics": STATISTICS} | {key: value for key, value in options.items() if key != "joint"}
    allowed = voxloom.Exchangeability(scheme="permute")
    contrasts = {name: CONTRASTS[name] for name in sorted(CONTRASTS)}
    wanted = voxloom.permutation_test(
        maps, design_of(folder), contrasts, n_perm=N_PERM, exchangeability=allowed, **given
    )
    if "joint" not in options:
        wanted = wanted.drop_vars([name for name in wanted if "joint" in name])
    found = results(result)
    assert ("p_joint_tfce" in found) == ("joint" in options)
    require_equal(found, wanted)
    if "variance_smoothing_fwhm" in options:
        np.testing.assert_array_equal(found["pseudo_t"], wanted["stat"])


def test_no_byte_depends_on_cuts_or_a_kill(
    folder: Path, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, digests_of: Any
) -> None:
    """Shorter batches and stretches, maps through the store where they can go, killed in the middle of the nulls."""
    options, result = done
    monkeypatch.setattr(nulls, "FIRST", 64)
    monkeypatch.setattr(nulls, "BATCH", 70)
    for module in ("inference.nulls", "stages.infer"):
        monkeypatch.setattr(f"voxloom.pipeline.{module}.CHUNK", 2)
    monkeypatch.setattr("voxloom.pipeline.stages.infer.infer_stretch", lambda *_: 4096)
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: False)
    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_rows", lambda *_: 16)
    seen: list[str] = []

    def kill(event: Any) -> None:
        if getattr(event, "record", None) is not None and event.stage == "infer":
            seen.append(event.record.key)
            if len(seen) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_maps(analysis(folder, tmp_path, **options), on_event=kill)
    again = run_maps(analysis(folder, tmp_path, **options), on_event=kill)
    assert len(seen) == len(set(seen)) > 2
    images, expected = (
        # sidecars hold the digest of the tasks' results, which are others where the cuts are
        {name: made for name, made in digests_of(one.output).items() if not name.endswith(".json")}
        for one in (again, result)
    )
    assert images == expected


def test_files_tell_what_was_asked_for(done: Any) -> None:
    options, result = done
    told = {
        "joint": ("desc-jointFwe_statmap.json", {"JointOver": "all", "ErrorRate": "family-wise"}),
        "variance_smoothing_fwhm": ("desc-fwe_statmap.json", {"VarianceSmoothingFWHM": 7.0}),
        "stop_at": ("desc-uncorrected_statmap.json", {"StopAt": 5}),
    }
    ending, entries = next(told[key] for key in told if key in options)
    (path,) = result.output.rglob(f"*test-age_stat-p_{ending}")
    how = json.loads(path.read_text())["Correction"]
    assert entries.items() <= how.items()
    if "stop_at" in options:
        assert how["PValue"].startswith("h / l")
        assert list(result.output.rglob("*test-age_stat-rearrangements_statmap.nii.gz"))
    if "joint" in options:
        (table,) = result.output.rglob("*test-age_null.tsv")
        assert {"null_max_stat", "null_joint_max_stat"} <= set(pd.read_csv(table, sep="\t").columns)
    if "variance_smoothing_fwhm" in options:
        assert list(result.output.rglob("*test-age_stat-t_desc-smoothedVariance_statmap.nii.gz"))


def test_where_all_rearrangements_are_done_all_are_counted(folder: Path, maps: Any, tmp_path: Path) -> None:
    """Four maps have 16 flips."""
    wanted = analysis(folder, tmp_path, {"mean": "mean"}, stop_at=2, scheme="flip", alpha=0.2)
    files = wanted.maps.model_copy(update={"files": wanted.maps.files[:4]})
    model = wanted.group["m"].model_copy(update={"table": None, "contrasts": {}})
    model = type(model).model_validate({"inference": model.inference.model_dump(mode="json")})
    found = results(run_maps(wanted.model_copy(update={"maps": files, "group": {"m": model}})))
    expected = voxloom.permutation_test(maps.isel(map=slice(0, 4)), n_perm=N_PERM, stop_at=2)
    np.testing.assert_array_equal(found["p_uncorrected"].isel(group_contrast=0), expected["p_uncorrected"])
    assert (found["n_used"] == 16).all()


BAD: dict[str, tuple[dict[str, Any], Any, str]] = {
    "joint of one": ({"joint": "contrasts"}, {"age": "age"}, "joint: is over contrasts, but there is one"),
    "joint of modalities": ({"joint": "modalities"}, None, "joint: is over modalities, but there is one"),
    "joint of schemes": (
        {"joint": "all", "scheme": "auto"},
        {"age": "age", "m": "mean"},
        "joint: .*there is no null of both",
    ),
    "joint on other scales": (
        {"joint": "all", "statistics": {"tfce": {"on": "stat"}}},
        {"age": "age", "any": ["age", "mean"]},
        "has no common scale for F and t",
    ),
    "pseudo-F": ({"variance_smoothing_fwhm": 6}, {"any": ["age", "mean"]}, "is for tests of t"),
    "two of voxels": ({"variance_smoothing_fwhm": 6, "stop_at": 3}, None, "stop_at: stops voxel by voxel"),
    "width": ({"variance_smoothing_fwhm": 0}, None, "greater than 0"),
    "stop at 0": ({"stop_at": 0}, None, "stop_at"),
    "unknown": ({"joint": "contrast"}, None, "joint: is 'contrast'. It should be"),
    "unknown key": ({"stopat": 3}, None, "Did you mean `stop_at`?"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_is_told_before_anything_is_made(folder: Path, tmp_path: Path, bad: str) -> None:
    options, contrasts, message = BAD[bad]
    with pytest.raises(InputError, match=message):
        run_maps(analysis(folder, tmp_path, contrasts, **options))
    assert not (tmp_path / "maps.zarr").exists()


def test_smoothed_variances_want_whole_maps_in_memory_and_say_how_much(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxloom.pipeline.planning.memory.CLUSTER_BYTES", 100_000)
    with pytest.raises(MemoryBudgetError, match=r"permutations of group.m: a task needs \d+ MiB"):
        run_maps(analysis(folder, tmp_path, budget="64MiB", variance_smoothing_fwhm=6))


def test_the_command_and_the_function_are_the_analysis(folder: Path, tmp_path: Path, digests_of: Any) -> None:
    """One test from the analysis, from the command line and from Python: the same files, and results that say so."""
    contrasts = {"age": "age", "any": ["age", "mean"]}
    options = {"statistics": ["max_stat"], "joint": "contrasts", "n_perm": 60, "method": ["fdr", "permutation"]}
    wanted = run_maps(analysis(folder, tmp_path / "file", contrasts, **options))
    done = voxloom.infer_maps(
        folder / "*.nii",
        table=folder / "table.tsv",
        contrasts=contrasts,
        name="m",
        output=tmp_path / "python",
        cluster="threads",
        scheme="permute",
        **options,
    )
    assert done.ok
    assert digests_of(done.output) == digests_of(wanted.output)
    np.testing.assert_array_equal(done.maps["p_joint_max_stat"], results(wanted)["p_joint_max_stat"])
    told = ["--design", folder / "table.tsv", "--contrast", "age", "--contrast", "any = age; mean"]
    told += ["--joint", "contrasts", "--n-perm", 60, "--scheme", "permute", "--cluster", "threads"]
    said = invoke(*sorted(folder.glob("*.nii")), *told, "-o", tmp_path / "command")
    assert said.exit_code == 0, said.output
    names = {name.replace("group/m/model-m", "group/maps/model-maps"): name for name in digests_of(wanted.output)}
    written = digests_of(tmp_path / "command")
    assert set(written) == set(names)
    made = digests_of(wanted.output)
    assert all(made[names[name]] == digest for name, digest in written.items() if name.endswith(".nii.gz"))
    assert "p_joint_max_stat" in said.stdout


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, ["infer", *map(str, args)])


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--variance-smoothing", "-3"], "variance_smoothing_fwhm: is -3.0. It should be greater than 0."),
        (["--variance-smoothing", "5", "--stop-at", "3"], "inference.stop_at: stops voxel by voxel"),
        (["--joint", "all"], "inference.joint: is over all, but there is one. Leave it out, or add another."),
        (
            ["--joint", "everything"],
            "inference.joint: is 'everything'. It should be 'contrasts', 'modalities' or 'all'.",
        ),
    ],
)
def test_wrong_options_are_one_message(folder: Path, tmp_path: Path, args: list[str], message: str) -> None:
    said = invoke(*sorted(folder.glob("*.nii")), *args, "-o", tmp_path / "out")
    assert said.exit_code == 2, said.output
    assert message in said.stderr
    assert "Traceback" not in said.stderr
