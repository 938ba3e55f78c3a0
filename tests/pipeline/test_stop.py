"""Ctrl-C, or SIGTERM from a batch system, in the midst of long tasks: the end in two seconds with code 130."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest

from voxloom.engine.ledger import Ledger
from voxloom.engine.worker import execute
from voxloom.errors import Cancelled
from voxloom.io.store.objects import Objects
from voxloom.simulate import write_bids_study
from voxloom.spec import parse_analysis

if TYPE_CHECKING:
    from collections.abc import Callable

VOXLOOM = Path(sys.executable).with_name("voxloom")
#: Seconds from the signal to the end of the process; 0.8 on two cores under a load of 8.
AT_MOST = 2.0
#: About 4 s of ingest on an idle machine; NIfTI-1 counts to 32,767.
N_VOLUMES = 32_000


def start(path: Path) -> subprocess.Popen[str]:
    command = [VOXLOOM, "run", str(path), "--no-report"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def stop_when(path: Path, ready: Callable[[list[str]], bool], signum: int) -> tuple[float, str]:
    """Run; send the signal once `ready` says so of the lines on stderr.

    Returns how long the end took, on a machine that has a core for each process that wants one, and stderr.
    """
    process = start(path)
    said: list[str] = []
    assert process.stderr is not None
    reader = threading.Thread(target=said.extend, args=(process.stderr,))
    reader.start()
    while not ready(said):
        assert process.poll() is None, said
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    began = time.monotonic()
    process.send_signal(signum)
    code = process.wait(60)
    taken = (time.monotonic() - began) / max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    _, alive = psutil.wait_procs(workers, timeout=20)
    reader.join()
    assert code == 130, said
    assert not alive
    return taken, "".join(said)


def write_analysis(analysis: dict[str, Any], folder: Path) -> Path:
    path = folder / "analysis.json"
    path.write_text(json.dumps(analysis))
    return path


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose one run takes long to decode: 32,000 volumes of nothing, a file with a hole for most of it."""
    folder = tmp_path_factory.mktemp("long") / "bids"
    write_bids_study(folder, n_subjects=1, n_runs=1, shape=(26, 30, 24), n_volumes=20)
    bold = next(folder.rglob("*_desc-preproc_bold.nii.gz"))
    next(folder.rglob("*_desc-confounds_timeseries.tsv")).unlink()
    import nibabel as nib

    header = nib.load(bold).header.copy()
    header.set_data_shape((26, 30, 24, N_VOLUMES))
    header.set_data_dtype(np.int16)
    header["vox_offset"] = 352
    plain = bold.with_suffix("")
    plain.write_bytes(bytes(header.binaryblock) + bytes(4))
    with plain.open("r+b") as file:
        file.truncate(352 + 26 * 30 * 24 * N_VOLUMES * 2)
    bold.unlink()
    return folder


@pytest.mark.parametrize(("cluster", "signum"), [("local", signal.SIGINT), ("threads", signal.SIGTERM)])
def test_a_stop_in_a_long_ingest_takes_two_seconds_at_most(
    long_run: Path, tmp_path: Path, analysis_of: Callable[..., dict[str, Any]], cluster: str, signum: int
) -> None:
    analysis = analysis_of(long_run, tmp_path, cluster=cluster, memory_budget="192MiB") | {"group": {}}
    del analysis["first_level"]["confounds"]
    since: list[float] = []

    def has_begun(said: list[str]) -> bool:
        """Whether the ingest has had half a second."""
        if any(line.startswith("ingest: ") for line in said):
            since.append(time.monotonic())
        return bool(since) and since[-1] - since[0] > 0.5

    taken, said = stop_when(write_analysis(analysis, tmp_path), has_begun, signum)
    assert taken < AT_MOST
    assert said.endswith("stopped; run the same command again to go on\n")
    assert "Traceback" not in said
    assert not (tmp_path / "study.zarr" / "lock.json").exists()
    assert not list((tmp_path / "study.zarr").rglob("ledger/ingest/*"))


def test_a_stop_between_many_tasks_keeps_what_is_done(
    pristine_study: Path,
    tmp_path: Path,
    analysis_of: Callable[..., dict[str, Any]],
    digests_of: Callable[[Path], dict[str, str]],
    undisturbed: dict[str, str],
) -> None:
    import voxloom

    store = tmp_path / "study.zarr"
    path = write_analysis(analysis_of(pristine_study, tmp_path, cluster="local", workers=2), tmp_path)
    taken, said = stop_when(path, lambda _: bool(finished(store, "ingest")), signal.SIGINT)
    assert taken < AT_MOST
    assert said.endswith("stopped; run the same command again to go on\n")
    done = finished(store, "ingest")
    assert done
    assert digests_of(voxloom.run(analysis_of(pristine_study, tmp_path)).output) == undisturbed
    assert finished(store, "ingest").items() >= done.items()


def finished(store: Path, stage: str) -> dict[str, str]:
    """When each task of a stage was finished."""
    records = Ledger(Objects(str(store))).read(stage)
    return {key: record.finished for key, record in records.items() if record.status == "done"}


@pytest.mark.usefixtures("already_run")
def test_every_long_stage_looks_whether_to_stop(
    pristine_study: Path,
    tmp_path: Path,
    analysis_of: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task that is told to stop from its start leaves before its end, in each stage but the design (0.05 s)."""
    import voxloom
    from voxloom.pipeline.line import STAGES, recall
    from voxloom.pipeline.running import at_work

    monkeypatch.setattr("voxloom.pipeline.stages.spatial.map_fits", lambda *_: False)  # so that maps have a stage too
    sites = "\n".join(f"sub-{i:02d}\t{site}" for i, site in enumerate("aabb", 1))
    (tmp_path / "sites.tsv").write_text(f"participant_id\tsite\n{sites}\n")
    model = {"influence": True, "harmonise": "combat", "table": str(tmp_path / "sites.tsv")}
    group = {"mean": model | {"inference": {"n_perm": 16, "statistics": "tfce"}}}
    level = {"noise_smoothing_fwhm": 6}
    analysis = parse_analysis(analysis_of(pristine_study, tmp_path, first_level=level, group=group))
    assert voxloom.run(analysis).ok
    nowhere = Ledger(Objects(str(tmp_path / "nowhere")))
    left = []
    with at_work(analysis, None, None, STAGES) as (ws, _):
        for stage in STAGES:
            task = stage.tasks(ws)[-1]  # the first of spatial maps has none left to write
            try:
                execute(task, nowhere, retries=0, is_stopped=lambda: True)
            except Cancelled:
                left.append(stage.name)
            recall(ws, stage)
    assert left == [stage.name for stage in STAGES if stage.name != "design"]
