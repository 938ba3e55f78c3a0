"""Kill the whole process group at any moment, run again: nothing done is redone, and the files are the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from voxloom.engine.ledger import Ledger
from voxloom.io.store import Objects

if TYPE_CHECKING:
    from pathlib import Path


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "voxloom", "run", str(path), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def finished(store: Path) -> dict[tuple[str, str], str]:
    """When each task that is done was finished."""
    ledger = store / "ledger"
    stages = [folder.name for folder in ledger.iterdir()] if ledger.exists() else []
    return {
        (stage, key): record.finished + record.digest
        for stage in stages
        for key, record in Ledger(Objects(str(store))).read(stage).items()
        if record.status == "done"
    }


def kill_when(process: subprocess.Popen[bytes], store: Path, n_records: int) -> None:
    """SIGKILL as soon as so many records are there."""
    ledger = store / "ledger"
    while process.poll() is None:
        if ledger.exists() and sum(1 for _ in ledger.rglob("*.json")) >= n_records:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.005)
    process.wait()


def test_killed_runs_resume_to_the_same_bytes(pristine_study, tmp_path, analysis_of, digests_of, undisturbed):
    analysis = analysis_of(pristine_study, tmp_path, cluster="local", workers=2)
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(analysis))
    store = tmp_path / "study.zarr"
    done: dict[tuple[str, str], str] = {}
    kills = 0
    for n_records in (1, 12, 20, 27):  # in ingest, in fit, in combine, near the end
        process = start(path)
        kill_when(process, store, n_records)
        kills += process.returncode == -signal.SIGKILL
        time.sleep(1)  # orphaned workers notice and end
        now = finished(store)
        assert {key: now[key] for key in done} == done, "a finished task was redone"
        done = now
    assert kills >= 2
    process = start(path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    now = finished(store)
    assert {key: now[key] for key in done} == done
    found = digests_of(tmp_path / "results")
    images = {name for name in undisturbed if name.endswith(".nii.gz")}
    assert {name: found[name] for name in images} == {name: undisturbed[name] for name in images}


def test_second_process_is_refused_with_the_holders_name(pristine_study, tmp_path, analysis_of):
    from voxloom.engine.lock import StoreLock

    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(analysis_of(pristine_study, tmp_path)))
    with StoreLock(Objects(str(tmp_path / "study.zarr"))):
        process = start(path)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"pid {os.getpid()}" in output.decode()


@pytest.mark.parametrize("missing", ["a map", "the folder", "overwritten by another analysis"])
def test_deleted_output_is_written_again(pristine_study, tmp_path, analysis_of, digests_of, missing):
    import shutil

    import voxloom

    analysis = analysis_of(pristine_study, tmp_path)
    output = voxloom.run(analysis).output
    before = digests_of(output)
    if missing == "a map":
        next(output.rglob("*stat-z_statmap.nii.gz")).unlink()
    elif missing == "the folder":
        shutil.rmtree(output)
    else:
        other = analysis["first_level"] | {"high_pass": 0.02}
        voxloom.run(analysis | {"first_level": other})
        assert digests_of(output) != before
    voxloom.run(analysis)
    assert digests_of(output) == before
