"""The `voxloom` command as a user meets it: real processes, exit codes, what goes to which stream."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from voxloom.simulate import write_bids_study

VOXLOOM = Path(sys.executable).with_name("voxloom")
ANALYSIS = """\
data: {bids_dir: bids}
first_level:
  confounds: ["trans_?"]
  contrasts: {face - house: face - house}
group: {mean: {}}
cluster: threads
"""
BOLD = "derivatives/fmriprep/sub-02/func/sub-02_task-faces_run-1_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
#: All that a run without a terminal may say.
PROGRESS = re.compile(
    r"\w+: (\d+ tasks?(, \d+ done before)?|\d+ done.* in .*|\d+/\d+ \(.*left)|note: .*|quarantined: .*"
)


def voxloom(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([VOXLOOM, *args], cwd=folder, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "bids"
    write_bids_study(folder, n_subjects=4, n_runs=1, shape=(9, 11, 8), n_volumes=60)
    return folder


def study(folder: Path, dataset: Path) -> Path:
    """A folder with a data set of its own and an analysis file."""
    shutil.copytree(dataset, folder / "bids")
    (folder / "a.yaml").write_text(ANALYSIS)
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, dataset: Path) -> Path:
    folder = study(tmp_path_factory.mktemp("finished"), dataset)
    assert voxloom(folder, "run", "a.yaml", "--quiet", "--no-report").returncode == 0
    return folder


def test_a_run_says_what_it_does_and_nothing_else(tmp_path: Path, dataset: Path) -> None:
    study(tmp_path, dataset)
    before = voxloom(tmp_path, "status", "a.yaml")
    assert (before.returncode, before.stdout) == (0, "nothing is done yet: voxloom run a.yaml\n")
    done = voxloom(tmp_path, "run", "a.yaml")
    assert done.returncode == 0
    output = tmp_path / "a-results"
    assert done.stdout == f"report {output / 'reports/index.html'}\nmaps   {output}\nstore  {tmp_path / 'a.zarr'}\n"
    assert [line for line in done.stderr.splitlines() if not PROGRESS.fullmatch(line)] == []


def test_quiet_is_quiet(finished: Path) -> None:
    for command in ("run", "verify", "export"):
        done = voxloom(finished, command, "a.yaml", "--quiet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_typo_is_named_with_line_and_nearest_key(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(ANALYSIS.replace("confounds", "confunds"))
    short = voxloom(tmp_path, "run", "a.yaml")
    assert (short.returncode, short.stdout) == (2, "")
    assert short.stderr.startswith(
        "error: a.yaml:3: first_level.confunds: is not a known key. Did you mean `confounds`?"
    )
    assert short.stderr.count("\n") == 1
    long = voxloom(tmp_path, "run", "a.yaml", "-v")
    assert (long.returncode, long.stderr.splitlines()[0]) == (2, "Traceback (most recent call last):")
    assert long.stderr.endswith(short.stderr)


def test_a_torn_file_is_set_aside_and_shown_until_it_is_whole(tmp_path: Path, dataset: Path) -> None:
    study(tmp_path, dataset)
    torn, whole = tmp_path / "bids" / BOLD, dataset / BOLD
    torn.write_bytes(whole.read_bytes()[:20_000])
    done = voxloom(tmp_path, "run", "a.yaml", "--no-report")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.endswith("0 failed, 1 quarantined; what was done is kept\n")
    reason = re.search(r"quarantined: ingest sub-02_task-faces_run-1.*: ends after volume \d+ of 60\. .*", done.stderr)
    assert reason
    state = voxloom(tmp_path, "status", "a.yaml").stdout
    assert "3 of 4 done" in state
    assert reason[0].partition(": ends ")[2] in state
    shutil.copy(whole, torn)
    assert voxloom(tmp_path, "run", "a.yaml", "--quiet", "--no-report").returncode == 0
    assert "quarantined" not in voxloom(tmp_path, "status", "a.yaml").stdout


def test_a_flipped_byte_is_found_and_the_remedy_works(tmp_path: Path, finished: Path) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    victim = next((tmp_path / "a.zarr" / "runs").glob("*/bold/c/0/0"))
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 4
    victim.write_bytes(content)
    found = voxloom(tmp_path, "verify", "a.yaml")
    assert found.returncode == 1
    assert "does not match its checksums (voxel 0:" in found.stdout
    assert victim.parents[3].name in found.stdout
    assert found.stderr.endswith("1 damaged, missing or different; mend it: voxloom verify a.yaml --repair\n")
    mended = voxloom(tmp_path, "verify", "a.yaml", "--repair", "--against-source", "--quiet")
    assert (mended.returncode, mended.stdout) == (0, "")
    assert voxloom(tmp_path, "verify", "a.zarr").stdout == "a.zarr: sound\n"
