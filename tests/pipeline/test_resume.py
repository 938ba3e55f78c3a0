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
from voxloom.io.store.access import Objects

if TYPE_CHECKING:
    from pathlib import Path


def start(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "voxloom", "run", str(path), "--quiet", "--no-report"],
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


def kill_when(process: subprocess.Popen[bytes], store: Path, stage: str, n_records: int) -> str:
    """SIGKILL as soon as a stage has so many records; return the stage that had written last."""
    folder = store / "ledger" / stage
    while process.poll() is None:
        if folder.exists() and sum(1 for _ in folder.rglob("*.json")) >= n_records:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.002)
    process.wait()
    records = [path for path in (store / "ledger").rglob("*.json") if path.exists()]
    return max(records, key=lambda path: path.stat().st_mtime_ns).relative_to(store / "ledger").parts[0]


def test_killed_runs_resume_to_the_same_bytes(pristine_study, tmp_path, analysis_of, digests_of, undisturbed):
    analysis = analysis_of(pristine_study, tmp_path, cluster="local", workers=2)
    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(analysis))
    store = tmp_path / "study.zarr"
    done: dict[tuple[str, str], str] = {}
    killed_in = set()
    for stage, n_records in (("ingest", 2), ("fit", 2), ("combine", 1), ("export", 1)):
        process = start(path)
        last = kill_when(process, store, stage, n_records)
        if process.returncode == -signal.SIGKILL:
            killed_in.add(last)
        time.sleep(1)  # orphaned workers notice and end
        now = finished(store)
        assert {key: now[key] for key in done} == done, "a finished task was redone"
        done = now
    assert len(killed_in) >= 3, killed_in
    process = start(path)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output.decode()
    now = finished(store)
    assert {key: now[key] for key in done} == done
    assert images(digests_of(tmp_path / "results")) == images(undisturbed)


def images(digests: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in digests.items() if name.endswith(".nii.gz")}


@pytest.mark.slow  # the drills kill a worker too, on a cluster that is not ours
def test_killed_workers_do_not_show_in_the_result(pristine_study, tmp_path, analysis_of, digests_of, undisturbed):
    """A worker dies in the fit, and one in the group stage; the cluster replaces them."""
    import voxloom
    from voxloom.engine.cluster import connect
    from voxloom.engine.events import TaskFinished

    wanted, killed = ["fit", "group"], []
    analysis = analysis_of(pristine_study, tmp_path)
    with connect("local", workers=2, memory_budget=64 * 2**20) as client:

        def listen(event: object) -> None:
            if isinstance(event, TaskFinished) and event.stage in wanted:
                wanted.remove(event.stage)
                pid = next(iter(client.run(os.getpid).values()))
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

        result = voxloom.run(analysis, client, on_event=listen)
    assert len(set(killed)) == 2
    assert result.ok, result
    assert images(digests_of(result.output)) == images(undisturbed)


def test_second_process_is_refused_with_the_holders_name(pristine_study, tmp_path, analysis_of):
    from voxloom.engine.lock import StoreLock

    path = tmp_path / "analysis.json"
    path.write_text(json.dumps(analysis_of(pristine_study, tmp_path)))
    with StoreLock(Objects(str(tmp_path / "study.zarr"))):
        process = start(path)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"pid {os.getpid()}" in output.decode()


@pytest.mark.usefixtures("already_run")
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
