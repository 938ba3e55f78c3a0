"""No two processes write compiled code to one folder, and a process finds what those before it have compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

#: Claims a folder, says which, and holds it until its input ends.
CODE = """
import sys
from pathlib import Path
from voxloom.kernels import compiled
compiled._held.clear()  # the one that the import claimed
print(compiled.claim_folder(Path(sys.argv[1])), flush=True)
sys.stdin.read()
"""


def process(base: Path, **environment: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("NUMBA_CACHE_DIR", "VOXLOOM_NUMBA_CACHE")}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, str(base)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=kept | environment,
    )


def claimed(running: subprocess.Popen[str]) -> str:
    return running.stdout.readline().strip()


def test_processes_at_one_time_have_folders_of_their_own_and_later_ones_take_them_over(tmp_path):
    one, other = process(tmp_path), process(tmp_path)
    folders = {claimed(one), claimed(other)}
    assert len(folders) == 2
    assert all(str(tmp_path) in folder for folder in folders)
    for running in (one, other):
        running.communicate()
    with process(tmp_path) as later:
        assert claimed(later) in folders
        later.communicate()


def test_a_child_does_not_work_in_the_folder_it_inherits(tmp_path):
    with process(tmp_path) as parent:
        folder = claimed(parent)
        with process(tmp_path, NUMBA_CACHE_DIR=folder, VOXLOOM_NUMBA_CACHE=folder) as child:
            assert claimed(child) not in (folder, "None")
            child.communicate()
        parent.communicate()


def test_a_folder_that_the_user_names_is_left_alone(tmp_path):
    with process(tmp_path, NUMBA_CACHE_DIR=str(tmp_path / "mine")) as running:
        assert claimed(running) == "None"
        running.communicate()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_where_nothing_can_be_written_numba_does_as_it_does_alone(tmp_path):
    tmp_path.chmod(0o500)
    with process(tmp_path) as running:
        assert claimed(running) == "None"
        running.communicate()


def test_a_file_in_the_way_is_no_error(tmp_path):
    (tmp_path / "file").write_text("")
    with process(tmp_path / "file") as running:
        assert claimed(running) == "None"
        running.communicate()
