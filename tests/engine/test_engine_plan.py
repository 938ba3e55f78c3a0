from __future__ import annotations

import re

import engine_tasks as work
import pytest

from voxloom.engine.ledger import Record
from voxloom.engine.lock import Holder
from voxloom.engine.plan import Plan, Problem, StagePlan, duration, size
from voxloom.engine.status import StageStatus, Status
from voxloom.errors import MemoryBudgetError

MiB = 2**20
PLAN = Plan(
    stages=(
        StagePlan(name="ingest", n_tasks=12, n_done=3, bytes_read=5 * 2**30, peak_memory=90 * MiB),
        StagePlan(name="fit", n_tasks=240, bytes_written=300 * MiB, peak_memory=700 * MiB),
    ),
    problems=(
        Problem(level="error", where="sub-01", what="no events.", remedy="Add them."),
        Problem(level="warning", where="sub-02", what="late onset."),
    ),
    files=tuple(f"map-{i:02d}.nii.gz" for i in range(20)),
)


def test_plan_that_fits_passes_and_one_that_does_not_names_the_budget_that_would() -> None:
    PLAN.require_fits(700 * MiB)
    Plan(stages=()).require_fits(0)
    with pytest.raises(MemoryBudgetError, match=r"stage fit: a task needs 700 MiB, but .* 512 MiB") as refused:
        PLAN.require_fits(512 * MiB)
    enough = re.search(r"memory_budget: (\d+)MiB", refused.value.remedy)
    assert enough is not None
    PLAN.require_fits(int(enough[1]) * MiB)


def test_plan_says_what_where_and_how_much() -> None:
    lines = PLAN.render().splitlines()
    assert lines[1].split() == ["ingest", "12", "3", "5", "GiB", "-", "90", "MiB", "-"]
    assert lines[2].split() == ["fit", "240", "0", "-", "300", "MiB", "700", "MiB", "-"]
    assert len({len(line) for line in lines[:3]}) == 1
    assert "writes 20 files:" in lines
    assert "  ... and 8 more" in lines
    assert lines[-2:] == ["error: sub-01: no events. Add them.", "warning: sub-02: late onset."]
    assert [problem.where for problem in PLAN.errors] == ["sub-01"]


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [(0, "-"), (17, "17 B"), (1023, "0.999 KiB"), (1536, "1.5 KiB"), (3 * 2**50, "3.07e+03 TiB")],
)
def test_size(n_bytes: int, text: str) -> None:
    assert size(n_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "-"), (0.034, "0.034 s"), (99.0, "99 s"), (200.0, "3.3 min"), (11_520.0, "3.2 h")],
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_cpu_time_is_added_up_and_shared_by_the_workers() -> None:
    stages = [StagePlan(name=name, n_tasks=1, cpu_seconds=7200.0) for name in ("ingest", "fit")]
    assert "about 4 h of CPU time; 30 min on 8 workers" in Plan(stages=stages, workers=8).render()
    assert "about 4 h of CPU time\n" in Plan(stages=stages).render() + "\n"
    assert "CPU time" not in PLAN.render()


def test_status_counts_only_what_is_done_with_these_inputs(tmp_path) -> None:  # type: ignore[no-untyped-def]
    tasks = work.make_tasks(work.nothing, 5, tmp_path, "fit")

    def record(i: int, **changes: str) -> Record:
        values = {"stage": "fit", "key": tasks[i].key, "status": "done", "inputs": "v1"} | changes
        return Record(**values, seconds=1.5)  # type: ignore[arg-type]

    ended = [record(0), record(1, inputs="v0"), record(2, status="failed", reason="boom")]
    ended += [record(3, status="quarantined", reason="x.nii: torn.")]
    stage = StageStatus.of("fit", tasks, {r.key: r for r in ended})
    assert (stage.total, stage.done, stage.seconds) == (5, 1, 1.5)
    status = Status(stages=[stage], holder=Holder.this_process("voxloom run"))
    assert not status.complete
    text = status.render()
    assert "fit  1 of 5 done (1.5 s), 1 failed, 1 quarantined" in text
    assert "failed: fit task/0002" in text
    assert "x.nii: torn." in text
    assert "running: voxloom run (pid" in text
