"""What a stage cost: the summaries add up to the records, and Dask's report is there where it can be drawn."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from voxloom.engine import reports
from voxloom.engine.cluster import connect
from voxloom.engine.ledger import Ledger
from voxloom.io.store.objects import Objects

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_summaries_add_up_to_the_records(
    pristine_study: Path, tmp_path: Path, analysis_of: Callable[..., dict[str, Any]]
) -> None:
    import voxloom

    analysis, folder = analysis_of(pristine_study, tmp_path), tmp_path / "cost"
    result = voxloom.run(analysis, performance_report=folder)
    ledger = Ledger(Objects(result.store))
    found = {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert {"ingest", "fit", "export"} <= set(found)
    for stage, told in found.items():
        records = ledger.read(stage).values()
        assert told["tasks"] == told["done_now"] == len(records)
        assert told["bytes_written"] == sum(record.bytes_written for record in records)
        assert told["task_seconds"] == pytest.approx(sum(record.seconds for record in records), abs=1e-3)
        assert told["task_seconds"] <= told["wall_seconds_now"] + 1e-3
    assert not list(folder.glob("*.html"))  # no cluster, no report of Dask's
    voxloom.run(analysis, performance_report=folder)
    again = json.loads((folder / "fit.json").read_text())
    assert (again["done_before"], again["done_now"]) == (found["fit"]["tasks"], 0)
    assert again["bytes_read_per_second"] == found["fit"]["bytes_read_per_second"]


def test_dask_reports_each_stage_and_says_so_where_bokeh_is_missing(
    pristine_study: Path, tmp_path: Path, analysis_of: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import voxloom

    analysis, folder = analysis_of(pristine_study, tmp_path), tmp_path / "cost"
    with connect("local", workers=1, memory_budget=64 * 2**20) as client:
        voxloom.run(analysis, client, until="ingest", performance_report=folder)
        assert "ingest_run" in (folder / "ingest.html").read_text()
        monkeypatch.setattr(reports, "_has_bokeh", lambda: False)
        result = voxloom.run(analysis, client, until="ingest", performance_report=tmp_path / "no page")
    assert [path.name for path in (tmp_path / "no page").iterdir()] == ["ingest.json"]
    assert any("JSON only" in text and "voxloom[report]" in text for text in result.warnings)
