"""The whole line with its store in a bucket: the same maps as on a disk, the same resume, the same refusals."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import nibabel as nib
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.engine.ledger import Ledger
from voxloom.engine.lock import StoreLock
from voxloom.io.bids.run_table import index_runs
from voxloom.io.store.access import Objects
from voxloom.io.study.export import export_run
from voxloom.pipeline import remove_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3_server import Server


def start(path: Path, server: Server) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "voxloom", "run", str(path), "--quiet", "--no-report"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | server.environment,
    )


def images(digests: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in digests.items() if name.endswith(".nii.gz")}


def write_analysis(analysis: dict[str, Any], url: str, path: Path, **changes: Any) -> Path:
    path.write_text(json.dumps(analysis | {"store": {"path": url}} | changes))
    return path


def documented() -> tuple[str, set[str]]:
    """Address of the store and names of the variables in the example of the documentation."""
    page = (Path(__file__).parents[2] / "docs/how-to/bucket.md").read_text()
    block = re.search(r"```yaml\n(.*?)```", page, re.DOTALL)
    return yaml.safe_load(block[1])["store"]["path"], set(re.findall(r"^export (\w+)=", page, re.MULTILINE))


class Run(NamedTuple):
    """A finished run: its analysis file, the address of its store, the folder of its maps."""

    path: Path
    url: str
    output: Path


@pytest.fixture(scope="module")
def finished(pristine_study, tmp_path_factory, analysis_of, s3_process) -> Run:
    """A run with two worker processes and its store in a bucket, set up as the documentation says."""
    folder = tmp_path_factory.mktemp("in-a-bucket")
    url, variables = documented()
    assert variables == set(s3_process.environment)
    s3_process.make_bucket(url.split("/")[2])
    path = write_analysis(analysis_of(pristine_study, folder), url, folder / "a.json", cluster="local", workers=2)
    process = start(path, s3_process)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    return Run(path, url, folder / "results")


def test_maps_are_those_of_a_store_on_a_disk_byte_for_byte(finished, digests_of, undisturbed):
    assert images(digests_of(finished.output)) == images(undisturbed)


def test_the_store_is_that_on_a_disk_byte_for_byte(finished, undisturbed_store, store_digests_of, s3):
    assert store_digests_of(finished.url) == undisturbed_store


def test_every_command_reads_a_store_in_a_bucket(finished, tmp_path, digests_of, s3):
    def said(*args: str) -> str:
        result = CliRunner().invoke(app, list(args))
        assert result.exit_code == 0, result.output
        return result.output

    said("plan", str(finished.path))
    status = said("status", str(finished.path))
    assert "fit " in status
    assert "failed" not in status
    assert "sound" in said("verify", str(finished.path))
    said("export", str(finished.path), "--output", str(tmp_path / "again"), "--quiet")
    assert digests_of(tmp_path / "again") == digests_of(finished.output)
    study = voxloom.open_study(finished.url)
    assert len(study.runs) == 8
    effect = study.results(study.results_table.index[0])["effect"]
    assert np.isfinite(effect.compute().to_numpy()).any()


def test_verify_finds_a_damaged_and_a_lost_object(finished, s3):
    objects = Objects(finished.url)
    shards = [key for key in objects.list("") if "/c/" in key]
    flipped, lost = (next(key for key in shards if name in key) for name in ("bold/c/", "effect/c/"))
    good = {key: objects.get(key) for key in (flipped, lost)}
    objects.put(flipped, good[flipped][:-20] + bytes([good[flipped][-20] ^ 4]) + good[flipped][-19:])
    objects.delete(lost)
    problems = CliRunner().invoke(app, ["verify", finished.url, "--quiet"])
    assert problems.exit_code == 1
    told = [line.partition(": ")[0] for line in problems.stdout.splitlines()]
    assert told == sorted([lost, flipped])
    for key, value in good.items():
        objects.put(key, value)
    assert CliRunner().invoke(app, ["verify", finished.url]).exit_code == 0


def done_tasks(objects: Objects) -> dict[tuple[str, str], str]:
    """When each task that is done was finished, and with what."""
    ledger = Ledger(objects)
    return {
        (stage, key): record.finished + record.digest
        for stage in objects.children("ledger")
        for key, record in ledger.read(stage).items()
        if record.status == "done"
    }


def kill_when(process: subprocess.Popen[bytes], objects: Objects, stage: str, n_records: int) -> None:
    """SIGKILL as soon as a stage has so many records."""
    while process.poll() is None and len(objects.list(f"ledger/{stage}")) < n_records:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL, "it ended before it was killed"


def test_a_killed_client_resumes_from_a_bucket_to_the_same_bytes(
    pristine_study, tmp_path, analysis_of, digests_of, undisturbed, bucket, s3
):
    objects = Objects(f"{bucket}/study")
    analysis = analysis_of(pristine_study, tmp_path, cluster="local", workers=2)
    path = write_analysis(analysis, objects.url, tmp_path / "a.json")
    kill_when(start(path, s3), objects, "fit", 3)
    time.sleep(1)  # orphaned workers notice and end
    done = done_tasks(objects)
    assert 3 <= sum(stage == "fit" for stage, _ in done) < 8
    process = start(path, s3)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    now = done_tasks(objects)
    assert {key: now[key] for key in done} == done, "a finished task was redone"
    assert images(digests_of(tmp_path / "results")) == images(undisturbed)
    assert objects.get("lock.json") is None


def test_images_go_into_a_bucket_and_out_again_bit_for_bit_and_runs_are_removed(pristine_study, tmp_path, bucket, s3):
    first, second = index_runs(pristine_study)[:2]
    study = voxloom.ingest([first, second], f"{bucket}/study", workers=1)
    out = export_run(study, first.id, tmp_path / "out.nii")
    back, source = (np.asarray(nib.load(path).dataobj.get_unscaled()) for path in (out, first.bold))
    inside = study.mask & np.asarray(nib.load(first.mask).dataobj).astype(bool)
    np.testing.assert_array_equal(back[inside], source[inside])
    remove_run(study.url, first.id)
    assert list(study.runs.index) == [second.id]
    assert study.objects.list(f"runs/{first.id}") == []


def test_second_process_is_refused_with_the_holders_name(finished, s3):
    with StoreLock(Objects(finished.url)):
        refused = CliRunner().invoke(app, ["run", str(finished.path)])
    assert refused.exit_code == 2
    assert f"{finished.url}: in use by voxloom run (pid {os.getpid()} on host" in refused.output


@pytest.fixture
def refused(pristine_study, tmp_path, analysis_of, s3) -> Iterator[Callable[[str], str]]:
    """Run an analysis with its store at an address; the message with which it ended, before it did anything."""

    def run(url: str) -> str:
        path = write_analysis(analysis_of(pristine_study, tmp_path), url, tmp_path / "a.json")
        for command in ("run", "plan", "status", "export", "verify"):
            result = CliRunner().invoke(app, [command, str(path)])
            assert result.exit_code == 2, (command, result.output)
            assert result.output.startswith("error: ")
            assert result.output.count("\n") == 1
        assert not (tmp_path / "results").exists()
        return result.output

    return run


def test_no_such_bucket_ends_a_run_before_it_begins(refused):
    assert "s3://nowhere/study: there is no such bucket at 127.0.0.1:" in refused("s3://nowhere/study")


def test_wrong_credentials_end_a_run_before_it_begins(refused, bucket, monkeypatch, s3):
    with monkeypatch.context() as other:
        other.setenv("AWS_ACCESS_KEY_ID", "AKIANOBODY")
        assert "refuses access (403 InvalidAccessKeyId). Check AWS_ACCESS_KEY_ID" in refused(f"{bucket}/study")
    assert Objects(f"{bucket}/study").list("") == []


def test_a_server_that_is_away_ends_a_run_before_it_begins(refused, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9 does not answer" in refused("s3://bucket/study")


def test_a_missing_library_ends_a_run_before_it_begins(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.delitem(sys.modules, "voxloom.io.store.bucket", raising=False)
    assert "Run: pip install 'voxloom[s3]'" in refused("s3://bucket/study")


def test_other_addresses_end_a_run_before_it_begins(refused):
    assert "Wanted: a folder, or s3://bucket/prefix." in refused("gs://bucket/study")
