"""`voxloom infer`: the numbers of `permutation_test` and of refits, from maps alone, however they are cut."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from scipy.stats import norm
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.pipeline.given_maps import gather
from voxloom.pipeline.given_maps.line import run_maps
from voxloom.pipeline.inference import nulls
from voxloom.pipeline.inference.cluster_tables import cluster_rule, cluster_table
from voxloom.pipeline.inference.nulls import prepared
from voxloom.pipeline.stages import infer
from voxloom.spec import Inference, parse_maps_analysis

if TYPE_CHECKING:
    from pathlib import Path

SHAPE, N_MAPS = (6, 7, 5), 11
AFFINE = np.diag([3.0, 3.0, 3.0, 1.0])


def save(values: np.ndarray, path: Path, affine: np.ndarray = AFFINE) -> Path:
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven maps, a mask, and a design whose rows are in another order than the maps."""
    folder = tmp_path_factory.mktemp("maps")
    rng = np.random.default_rng(5)
    names = [f"sub-{i:02d}_contrast" for i in range(N_MAPS)]
    table = pd.DataFrame({"map": names, "a": 1.0 * (np.arange(N_MAPS) < 5), "age": rng.normal(40, 9, N_MAPS)})
    table["b"] = 1 - table.a
    for i, name in enumerate(names):
        values = rng.standard_normal(SHAPE) + 0.02 * table.age[i]
        values[:2] += 1.5 * table.a[i]
        save(values.astype(np.float32), folder / f"{name}.nii.gz")
    stack = [nibabel.load(folder / f"{name}.nii.gz").get_fdata(dtype=np.float32) for name in names]
    save(np.stack(stack, axis=-1), folder / "all.nii.gz")
    table.sample(frac=1, random_state=1).to_csv(folder / "design.tsv", sep="\t", index=False)
    table.drop(columns="map").to_csv(folder / "in_order.tsv", sep="\t", index=False)
    save((rng.random(SHAPE) < 0.9).astype(np.uint8), folder / "mask.nii.gz")
    return folder


def analysis(folder: Path, work: Path, *, files: list[Path] | None = None, table: str = "design.tsv", **inference: Any):
    files = sorted(folder.glob("sub-*.nii.gz")) if files is None else files
    model = {"table": str(folder / table), "contrasts": {"a - b": "a - b", "age": "age"}}
    raw = {
        "maps": {"files": [str(path) for path in files], "mask": str(folder / "mask.nii.gz")},
        "group": {"two": model | {"inference": {"n_perm": 120, "method": "permutation"} | inference}},
        "store": {"path": str(work / "maps.zarr")},
        "output": {"dir": str(work / "out")},
        "cluster": "threads",
    }
    return parse_maps_analysis(raw)


def results(done: voxloom.RunResult) -> Any:
    return voxloom.open_study(done.store).results(done.group_names["two"]).load()


@pytest.fixture(scope="module")
def done(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run_maps(analysis(folder, tmp_path_factory.mktemp("done")))


def design_of(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "design.tsv", sep="\t").set_index("map").sort_index()


def test_numbers_are_those_of_permutation_test(folder: Path, done: Any) -> None:
    found = results(done)
    maps = voxloom.from_nifti(sorted(folder.glob("sub-*.nii.gz")), mask=folder / "mask.nii.gz")
    for j, contrast in enumerate(("a - b", "age")):
        wanted = voxloom.permutation_test(maps, design_of(folder), contrast, n_perm=120)
        for name in ("p_max_stat", "null_max_stat"):
            np.testing.assert_array_equal(found[name][0, j], wanted[name])
        np.testing.assert_allclose(found["stat"][0, j], wanted["stat"], rtol=1e-10)


def test_uncorrected_p_counts_refits(folder: Path, done: Any) -> None:
    """Freedman-Lane by hand: rearrange what the reduced model leaves, refit, count |t| that reach the observed one."""
    found, design = results(done), design_of(folder)[["a", "age", "b"]]
    X, c = design.to_numpy(), np.array([0.0, 1.0, 0.0])
    wanted = analysis(folder, folder).group["two"].inference
    setup = prepared(planned(folder)[0], wanted, 0, 1)
    Y = voxloom.from_nifti(sorted(folder.glob("sub-*.nii.gz")), mask=folder / "mask.nii.gz").effect.to_numpy()

    def t(data: np.ndarray) -> np.ndarray:
        beta, rss, *_ = np.linalg.lstsq(X, data, rcond=None)
        return c @ beta / np.sqrt(rss / (len(X) - 3) * (c @ np.linalg.inv(X.T @ X) @ c))

    Z = X[:, [0, 2]]
    left = Y - Z @ np.linalg.lstsq(Z, Y.astype(float), rcond=None)[0]
    count = np.zeros(Y.shape[1])
    for row in setup.rearrangements.draw(0, 120):
        moved = np.empty_like(left)
        moved[np.abs(row) - 1] = np.sign(row)[:, None] * left
        count += np.abs(t(moved)) >= np.abs(t(Y)) * (1 - 1e-9)
    np.testing.assert_allclose(found["p_uncorrected"][0, 1], count / 120, rtol=1e-12)


def planned(folder: Path) -> Any:
    from voxloom.io.maps.files import find_maps
    from voxloom.pipeline.given_maps.design import planned_tests

    return planned_tests(analysis(folder, folder), find_maps(sorted(folder.glob("sub-*.nii.gz"))))


CUTS = {
    "one 4-D image, the table's rows in order": ({"files": ["all.nii.gz"], "table": "in_order.tsv"}, {}),
    "blocks of maps, stretches of voxels, several passes": ({}, {"block": 4, "shard": 64}),
}


@pytest.mark.parametrize(("given", "cut"), CUTS.values(), ids=CUTS)
def test_no_number_depends_on_how_maps_come_and_are_cut(
    folder: Path, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], cut: dict[str, int]
) -> None:
    if cut:
        for module in (gather, infer):
            monkeypatch.setattr(module, "MAP_CHUNK_VOXELS", 32, raising=False)
        monkeypatch.setattr("voxloom.pipeline.stored.maps.MAP_CHUNK_VOXELS", 32)
        monkeypatch.setattr("voxloom.pipeline.stored.maps.MAP_SHARD_VOXELS", 64)
        monkeypatch.setattr("voxloom.pipeline.stages.group.MAP_SHARD_VOXELS", 64)
        monkeypatch.setattr(gather, "MAP_SHARD_VOXELS", 64)
        monkeypatch.setattr(gather, "MAP_CHUNK_MAPS", 4)
        monkeypatch.setattr(gather, "gather_piece", lambda *_: 64)
        monkeypatch.setattr(infer, "infer_stretch", lambda *_: 64)
    files = [folder / name for name in given["files"]] if "files" in given else None
    found = run_maps(analysis(folder, tmp_path, files=files, table=given.get("table", "design.tsv")))
    for name in ("stat", "p_max_stat", "p_uncorrected", "null_max_stat"):
        np.testing.assert_array_equal(results(found)[name], results(done)[name])


def test_a_killed_test_of_maps_is_extended_to_the_bytes_of_one_run(
    folder: Path, done: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store_digests_of: Any, digests_of: Any
) -> None:
    monkeypatch.setattr(nulls, "FIRST", 40)
    monkeypatch.setattr(nulls, "BATCH", 60)
    for module in (nulls, infer):
        monkeypatch.setattr(module, "CHUNK", 20)
    whole = run_maps(analysis(folder, tmp_path / "whole"))
    np.testing.assert_array_equal(results(whole)["p_uncorrected"], results(done)["p_uncorrected"])
    run_maps(analysis(folder, tmp_path / "parts", n_perm=40))
    seen: list[str] = []

    def kill(event: Any) -> None:
        if getattr(event, "record", None) is not None and event.stage == "infer":
            seen.append(event.record.key)
            if len(seen) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_maps(analysis(folder, tmp_path / "parts"), on_event=kill)
    parts = run_maps(analysis(folder, tmp_path / "parts"), on_event=lambda event: kill(event))
    assert len(seen) == len(set(seen)) == 2 * len(nulls.batches(120)[1:])
    assert store_digests_of(parts.store) == store_digests_of(whole.store)
    assert digests_of(parts.output) == digests_of(whole.output)


def test_blocks_groups_tails_and_given_rearrangements_reach_the_test(folder: Path, tmp_path: Path) -> None:
    """As `permutation_test` takes them; each with the other treatments of its kind apart."""
    maps = voxloom.from_nifti(sorted(folder.glob("sub-*.nii.gz")), mask=folder / "mask.nii.gz")
    rng = np.random.default_rng(2)
    given = np.array([np.arange(1, N_MAPS + 1), *(rng.permutation(N_MAPS) + 1 for _ in range(59))])
    np.savetxt(tmp_path / "permidx.csv", given, fmt="%d", delimiter=",")
    site = design_of(folder).a
    cases = {
        "blocks": ({"blocks": "a"}, {"blocks": site}),
        "groups": ({"variance_groups": "a"}, {"variance_groups": site}),
        "given": ({"rearrangements": str(tmp_path / "permidx.csv")}, {"rearrangements": given}),
    }
    for name, (in_file, in_python) in cases.items():
        done = run_maps(analysis(folder, tmp_path / name, n_perm=60, tail="gamma", **in_file))
        found = results(done)
        allowed = voxloom.Exchangeability(**in_python)
        options = {"n_perm": 60, "exchangeability": allowed, "tail": "gamma"}
        wanted = voxloom.permutation_test(maps, design_of(folder), "age", **options)
        for variable in ("p_max_stat", "p_uncorrected", "null_max_stat"):
            np.testing.assert_array_equal(found[variable][0, 1], wanted[variable], err_msg=f"{name} {variable}")
        if name == "groups":
            np.testing.assert_array_equal(found["z_variance_groups"][0, 1], wanted["stat"])


def invoke(*args: object) -> Any:
    return CliRunner().invoke(app, ["infer", *map(str, args), "--cluster", "threads"])


def test_the_command_tells_what_survives_and_how_its_p_were_made(folder: Path, done: Any, tmp_path: Path) -> None:
    (folder / "list.txt").write_text("\n".join(path.name for path in sorted(folder.glob("sub-*.nii.gz"))))
    args = [folder / "list.txt", "--mask", folder / "mask.nii.gz", "--design", folder / "design.tsv"]
    said = invoke(*args, "--contrast", "a - b", "--n-perm", 120, "-o", tmp_path / "out")
    assert said.exit_code == 0, said.output
    p = results(done)["p_max_stat"][0, 0].to_numpy()
    assert f"a - b: {N_MAPS} maps, 120 permutations (p = 0.05 good to 0.02)" in said.stdout
    assert f"p_max_stat            {(p <= 0.05).sum():>8} voxels" in said.stdout
    (path,) = (tmp_path / "out").rglob("*desc-fwe_statmap.json")
    how = json.loads(path.read_text())["Correction"]
    assert how["NumberOfPermutations"] == 120
    assert (how["Method"], how["Tail"], how["Seed"]) == ("permutation", "two-sided", 0)
    image = nibabel.load(path.with_name(path.name.replace(".json", ".nii.gz")))
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    np.testing.assert_allclose(image.get_fdata()[mask], p, rtol=1e-6)


def other_grid(folder: Path, work: Path) -> list[object]:
    return [
        save(np.ones(SHAPE, np.float32), work / "other.nii", np.diag([2.0, 2, 2, 1])),
        "--mask",
        folder / "mask.nii.gz",
    ]


def twice(folder: Path, work: Path) -> list[object]:
    return [folder / "sub-01_contrast.nii.gz"]


def same_values(folder: Path, work: Path) -> list[object]:
    return [save(nibabel.load(folder / "sub-01_contrast.nii.gz").get_fdata(dtype=np.float32), work / "copy.nii.gz")]


def zeros(folder: Path, work: Path) -> list[object]:
    return [save(np.zeros(SHAPE, np.float32), work / "zero.nii.gz"), "--mask", folder / "mask.nii.gz"]


def nothing_finite(folder: Path, work: Path) -> list[object]:
    return [save(np.full(SHAPE, np.nan, np.float32), work / "nan.nii.gz"), "--mask", folder / "mask.nii.gz"]


def few_rows(folder: Path, work: Path) -> list[object]:
    (work / "short.tsv").write_text("a\n1\n2\n")
    return ["--design", work / "short.tsv", "--contrast", "a"]


def unknown_row(folder: Path, work: Path) -> list[object]:
    (work / "other.tsv").write_text("map\ta\n" + "".join(f"sub-{i + 1:02d}_contrast\t{i}\n" for i in range(N_MAPS)))
    return ["--design", work / "other.tsv", "--contrast", "a"]


def text_column(folder: Path, work: Path) -> list[object]:
    (work / "text.tsv").write_text("sex\n" + "".join("fm"[i % 2] + "\n" for i in range(N_MAPS)))
    return ["--design", work / "text.tsv", "--contrast", "sex"]


def no_contrast(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv"]


def unknown_column(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv", "--contrast", "a - c"]


def few_permutations(folder: Path, work: Path) -> list[object]:
    return ["--n-perm", 10]


def threshold_as_z(folder: Path, work: Path) -> list[object]:
    return ["--statistics", "cluster_size", "--cluster-threshold", 3.1]


def wrong_rearrangements(folder: Path, work: Path) -> list[object]:
    (work / "permidx.csv").write_text("1,2,3\n3,1,2\n")
    return ["--rearrangements", work / "permidx.csv"]


def no_permutation(folder: Path, work: Path) -> list[object]:
    rows = [[*range(1, N_MAPS + 1)], [1, *range(1, N_MAPS)]]
    (work / "permidx.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    return ["--rearrangements", work / "permidx.csv"]


def unknown_block(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv", "--contrast", "a - b", "--blocks", "aeg"]


def fewer_maps_than_regressors(folder: Path, work: Path) -> list[object]:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.standard_normal((N_MAPS, N_MAPS))).add_prefix("x")
    table.to_csv(work / "wide.tsv", sep="\t", index=False)
    return ["--design", work / "wide.tsv", "--contrast", "x0"]


def rank_deficient(folder: Path, work: Path) -> list[object]:
    table = pd.read_csv(folder / "in_order.tsv", sep="\t")
    table.assign(twice=2 * table.age).to_csv(work / "deficient.tsv", sep="\t", index=False)
    return ["--design", work / "deficient.tsv", "--contrast", "older = age"]


def unknown_term(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv", "--formula", "age + C(a)", "--contrast", "C(b)"]


def blocks_of_one(folder: Path, work: Path) -> list[object]:
    table = pd.read_csv(folder / "in_order.tsv", sep="\t")
    table.assign(who=np.arange(N_MAPS)).to_csv(work / "who.tsv", sep="\t", index=False)
    return ["--design", work / "who.tsv", "--contrast", "age", "--blocks", "who"]


def unequal_whole_blocks(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv", "--contrast", "age", "--blocks", "whole=a"]


def pseudo_f(folder: Path, work: Path) -> list[object]:
    return ["--design", folder / "in_order.tsv", "--contrast", "any = a - b; age", "--variance-smoothing", 6]


BAD = {
    fewer_maps_than_regressors: (2, "11 maps cannot determine 11 independent regressors"),
    rank_deficient: (2, "group.maps.contrasts.older: is not estimable: the columns ['twice'] depend on the others"),
    unknown_term: (2, "Terms: `intercept`, `age`, `C(a)`"),
    blocks_of_one: (
        2,
        "leave 1 distinct rearrangement, the observed order: permuting changes nothing, and the smallest",
    ),
    unequal_whole_blocks: (2, "group.maps.blocks: 2 blocks of 5, 6 observations are to be exchanged as wholes"),
    pseudo_f: (2, "is for tests of t, but `any` is one of F"),
    other_grid: (2, "other.nii: grid of shape"),
    twice: (2, "is given twice"),
    same_values: (2, "hold the same values"),
    zeros: (1, "map zero: is 0 at every voxel of the mask"),
    nothing_finite: (1, "map nan: has no finite value in the mask"),
    few_rows: (2, "has 2 rows, but there are 11 maps"),
    unknown_row: (2, "no row names the map sub-00_contrast"),
    text_column: (2, "1 + C(sex)"),
    no_contrast: (2, "--contrast: is missing"),
    unknown_column: (2, "a - c"),
    few_permutations: (2, "no p can be below 0.1"),
    wrong_rearrangements: (2, "rows hold 3 indices, but there are 11"),
    no_permutation: (2, "row 2 is no permutation of 1 to 11"),
    unknown_block: (2, "Did you mean `age`?"),
    threshold_as_z: (2, "z = 3.1 is p = 0.000968"),
}


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.__name__)
def test_bad_input_is_one_clear_message(folder: Path, tmp_path: Path, bad: Any) -> None:
    code, text = BAD[bad]
    said = invoke(*sorted(folder.glob("sub-*.nii.gz")), *bad(folder, tmp_path), "-o", tmp_path / "out")
    assert said.exit_code == code, said.output
    assert text in said.stderr
    assert len(said.stderr.strip().splitlines()[-1]) < 400
    assert "Traceback" not in said.stderr


def clusters_file(done: Any, contrast: str) -> tuple[pd.DataFrame, dict[str, Any]]:
    (path,) = done.output.rglob(f"*_test-{contrast}_clusters.tsv")
    table = pd.read_csv(path, sep="\t", na_values="n/a", dtype={"cluster_id": str, "size": "Int64"})
    return table, json.loads(path.with_suffix(".json").read_text())


def test_clusters_of_what_survives_are_those_of_scipy(done: Any) -> None:
    study, found = voxloom.open_study(done.store), results(done).isel(contrast=0, group_contrast=0)
    table, about = clusters_file(done, "aMinusB")
    sizes = []
    for sign in (1, -1):
        left = np.zeros(SHAPE, bool)
        left.reshape(-1)[study.voxel] = (found.p_max_stat <= 0.05) & (sign * found.z_score > 0)
        label, _ = ndimage.label(left, np.ones((3, 3, 3)))
        sizes += np.bincount(label[label > 0])[1:].tolist()
    assert sizes
    assert sorted(table["size"].dropna()) == sorted(sizes)
    assert table.p_max_stat.max() <= 0.05
    assert (about["HeightControl"], about["Alpha"]) == ("fwe", 0.05)
    assert about["Threshold"] == float(abs(found.z_score).where(found.p_max_stat <= 0.05).min())


def test_clusters_that_were_tested_are_listed_with_their_p(folder: Path, tmp_path: Path) -> None:
    tested = {"statistics": [{"cluster_size": {"threshold": 0.05}}], "n_perm": 40}
    done = run_maps(analysis(folder, tmp_path, **tested))
    found = results(done).isel(contrast=0, group_contrast=1)
    expected = voxloom.clusters_table(found.z_score, threshold=norm.isf(0.05), p=found.drop_vars("p_value"))
    table, about = clusters_file(done, "age")
    pd.testing.assert_frame_equal(table, expected)
    assert about["Threshold"] == pytest.approx(norm.isf(0.05))


def test_where_nothing_survives_no_cluster_is_listed(done: Any) -> None:
    found = results(done).isel(contrast=0, group_contrast=0)
    rule = cluster_rule(Inference(method="permutation"))
    table = cluster_table(rule, found[list(rule.variables)].assign(p_max_stat=found.p_max_stat * 0 + 1), two_sided=True)
    assert table.empty
    assert table.attrs["threshold"] == np.inf
