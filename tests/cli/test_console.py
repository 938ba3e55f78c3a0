from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from voxloom import console
from voxloom.console import Bars, Lines, Listener, duration, listener
from voxloom.engine.events import Note, StageFinished, StageStarted, TaskFinished
from voxloom.engine.ledger import Record

if TYPE_CHECKING:
    from collections.abc import Iterator

DONE = Record(stage="fit", key="k", status="done", inputs="")
BAD = Record(stage="fit", key="run[1]", status="failed", inputs="", reason="ValueError: [red] is no colour")


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    clock = Clock()
    monkeypatch.setattr(console, "time", clock)
    return clock


def run(listening: Listener, clock: Clock, total: int, before: int, seconds: float) -> None:
    listening(StageStarted("fit", total, before))
    for _ in range(total - before):
        clock.now += seconds
        listening(TaskFinished("fit", DONE))
    listening(StageFinished("fit", total, 0, 0, clock.now))


def test_lines_come_at_every_tenth(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), clock, total=1000, before=500, seconds=0.05)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "fit: 1000 tasks, 500 done before"
    assert lines[1] == "fit: 600/1000 (60%), 20 per s, 20.0 s left"
    assert [line.split()[1] for line in lines[1:-1]] == ["600/1000", "700/1000", "800/1000", "900/1000"]
    assert lines[-1] == "fit: 1000 done in 25.0 s"


def test_lines_do_not_crowd_a_quick_stage(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), clock, total=10, before=0, seconds=0.05)
    assert capsys.readouterr().err.splitlines() == ["fit: 10 tasks", "fit: 10 done in 0.5 s"]


def test_a_stage_with_nothing_to_do_is_one_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), clock, total=3, before=3, seconds=1.0)
    assert capsys.readouterr().err == "fit: 3 tasks, 3 done before\n"


def test_a_failure_without_a_reason_is_told_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    Listener()(TaskFinished("verify", Record(stage="verify", key="a", status="failed", inputs="")))
    assert capsys.readouterr().err == ""


def test_lines_give_a_sign_in_a_slow_stage(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    run(Lines(), clock, total=100, before=0, seconds=6.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "fit: 2/100 (2%), 0.167 per s, 9:48 min left"
    assert len(lines) == 2 + 49


def test_permutations_tell_their_speed_and_how_good_p_is(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """Two tasks of 500 whole permutations in 10 s; a quarter of 10,000 done, sqrt(0.05 * 0.95 / 2500) = 0.0044."""
    lines = Lines()
    lines(StageStarted("infer", 8, 0))
    details = {"permutations": 500.0, "n_perm": 10_000, "alpha": 0.05}
    record = Record(stage="infer", key="a", status="done", inputs="", details=details)
    for _ in range(2):
        clock.now += 5
        lines(TaskFinished("infer", record))
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == "infer: 2/8 (25%), 100 permutations per s, p = 0.05 good to 0.0044, 30.0 s left"


def test_bars_end_full_and_take_text_as_it_is(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    with Bars() as bars:
        bars(StageStarted("fit", 3, 1))
        clock.now += 0.5
        bars(TaskFinished("fit", DONE))
        bars(TaskFinished("fit", BAD))
        bars(Note("[bold] is kept"))
        bars(StageFinished("fit", 2, 1, 0, 0.5))
    text = screen.getvalue()
    assert "3/3" in text
    assert "4 per s" in text
    assert "failed: fit run[1]: ValueError: [red] is no colour" in text
    assert "note: [bold] is kept" in text


def test_what_is_shown_follows_terminal_and_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    assert type(listener(quiet=False, verbose=False)) is Lines
    assert type(listener(quiet=True, verbose=False)) is Listener
    screen.isatty = lambda: True  # type: ignore[method-assign]
    assert type(listener(quiet=False, verbose=False)) is Bars
    assert type(listener(quiet=True, verbose=False)) is Listener


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1:00 min"),
        (3599.4, "59:59 min"),
        (3599.6, "1:00 h"),
        (7500, "2:05 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
