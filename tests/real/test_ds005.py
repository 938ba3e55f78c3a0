"""A real BIDS tree whose images are empty files: all is found, and every image is set aside by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

import voxloom
from voxloom.cli import app
from voxloom.io.bids.run_table import index_runs

if TYPE_CHECKING:
    from pathlib import Path


def write_analysis(path: Path, data: dict[str, object]) -> Path:
    level = {"contrasts": {"task": "dummy"}}
    path.write_text(yaml.safe_dump({"data": data, "first_level": level, "cluster": "threads"}))
    return path


@pytest.mark.parametrize("derivatives", [None, []], ids=["preprocessed", "raw"])
def test_every_empty_image_is_named(voxloom_data, tmp_path, derivatives):
    root = voxloom_data / "data" / "ds005_bids_layout"
    runs = index_runs(root, derivatives)
    assert len(runs) == (6 if derivatives is None else 12)
    assert all(run.events is not None for run in runs)
    analysis = write_analysis(tmp_path / "a.yaml", {"bids_dir": str(root), "derivatives": derivatives})
    for command in ("plan", "run"):
        answer = CliRunner().invoke(app, [command, str(analysis)])
        assert answer.exit_code == 2, answer.output
        for run in runs:
            assert f"{run.bold}: " in answer.output
        assert "Traceback" not in answer.output


def test_empty_images_beside_a_good_one_are_named_and_it_is_done(voxloom_data, tmp_path):
    """The whole line, with one real run (16 volumes of the same study) at another site."""
    roots = {"empty": "ds005_bids_layout", "real": "ds005_bids_layout_truncated_real"}
    sites = {
        name: {"bids_dir": str(voxloom_data / "data" / folder), "derivatives": []} for name, folder in roots.items()
    }
    analysis = write_analysis(tmp_path / "a.yaml", {"sites": sites})
    empty = index_runs(sites["empty"]["bids_dir"], [], site="empty")
    planned = CliRunner().invoke(app, ["plan", str(analysis)])
    answer = CliRunner().invoke(app, ["run", str(analysis)])
    status = CliRunner().invoke(app, ["status", str(analysis)])
    assert (planned.exit_code, answer.exit_code) == (1, 1), answer.output
    assert "12 quarantined" in answer.output
    for text in (planned.output, answer.output, status.output):
        assert all(str(run.bold) in text for run in empty)
        assert "Traceback" not in text
    result = voxloom.run(analysis)
    assert {record.key for record in result.quarantined} == {run.id for run in empty}
    assert list(voxloom.open_study(result.store).runs.index) == ["site-real_sub-01_task-mixedgamblestask_run-01"]
    (z,) = result.output.glob("real/sub-01/func/*_contrast-task_stat-z_statmap.nii.gz")
    values = nibabel.load(z).get_fdata()
    assert np.isfinite(values).all()
    assert 0.5 < values[values != 0].std() < 3
