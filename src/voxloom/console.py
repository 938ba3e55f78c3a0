"""What the command line shows: progress, notes, errors, exit codes. Only results go to stdout."""

from __future__ import annotations

import signal
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self

import typer

from voxloom.errors import Cancelled, InputError, VoxloomError, VoxloomWarning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from voxloom.engine.events import Event, StageFinished, StageStarted
    from voxloom.engine.ledger import Record

EXIT_FAILED, EXIT_USAGE, EXIT_STOPPED = 1, 2, 130
#: Without a terminal, a line of progress at every tenth of a stage, but not more than one a second,
#: and at the latest after ten seconds.
LINE_STEP, LINE_SOONEST, LINE_LATEST = 0.1, 1.0, 10.0


class Listener:
    """Receives the engine's events and shows what went wrong; the base of those that show more.

    Parameters
    ----------
    verbose : bool
        Show tracebacks of failed tasks.
    """

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose
        self._told: set[str] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def __call__(self, event: Event) -> None:
        """Hear of an event."""
        from voxloom.engine import events

        match event:
            case events.StageStarted():
                self.started(event)
            case events.TaskFinished(record=record):
                self.ended(record)
                self.advanced(record)
            case events.StageFinished():
                self.finished(event)
            case events.Note(text=text):
                self.note(text)

    def ended(self, record: Record) -> None:
        """Say why a task has no result; nothing for one that has, or that gives no reason, and nothing twice."""
        if record.status != "done" and record.reason:
            self.once(f"{record.status}: {record.stage} {record.key}: {record.reason}")
            if self.verbose and "traceback" in record.details:
                self.once(str(record.details["traceback"]).rstrip())

    def once(self, text: str) -> None:
        """Show a text, the first time it comes."""
        if text not in self._told:
            self._told.add(text)
            self.show(text)

    def show(self, text: str) -> None:
        """Write a line to stderr."""
        print(text, file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Hear of something the user should know."""

    def started(self, event: StageStarted) -> None:
        """Hear that a stage begins."""

    def advanced(self, record: Record) -> None:
        """Hear that a task ended."""

    def finished(self, event: StageFinished) -> None:
        """Hear that a stage ended."""


class Pace:
    """How far a stage is and how fast it goes; where its tasks make permutations, also how good p is by now."""

    def __init__(self, event: StageStarted) -> None:
        self.total, self.before, self.began = event.total, event.done, time.monotonic()
        self.now, self.permutations, self.details = 0, 0.0, dict[str, Any]()

    def count(self, record: Record) -> None:
        """Take in a task that ended."""
        self.now += 1
        self.permutations += record.details.get("permutations", 0)
        self.details = record.details

    @property
    def at(self) -> int:
        """Tasks done, those of earlier runs too."""
        return self.before + self.now

    @property
    def seconds(self) -> float:
        """Time since the stage began."""
        return max(time.monotonic() - self.began, 1e-6)

    @property
    def rate(self) -> float:
        """Tasks a second."""
        return self.now / self.seconds

    def __str__(self) -> str:
        if "permutations" not in self.details:
            return f"{self.rate:.3g} per s"
        from voxloom.engine.events import monte_carlo_error

        alpha, n_perm = self.details["alpha"], self.details["n_perm"] * self.at / self.total
        speed = f"{self.permutations / self.seconds:.3g} permutations per s"
        return f"{speed}, p = {alpha:g} good to {monte_carlo_error(alpha, n_perm):.2g}"


class Lines(Listener):
    """Plain lines, for logs: stage begins, about every tenth of it, stage ended."""

    def note(self, text: str) -> None:
        """Show a note, once."""
        self.once(f"note: {text}")

    def started(self, event: StageStarted) -> None:
        """Say what there is to do."""
        self.pace = Pace(event)
        self.told_at, self.told_time = event.done, self.pace.began
        before = f", {event.done} done before" if event.done else ""
        self.show(f"{event.stage}: {event.total} task{'s' * (event.total != 1)}{before}")

    def advanced(self, record: Record) -> None:
        """Say how far the stage is, when it is worth a line."""
        self.pace.count(record)
        moment, at, total = time.monotonic(), self.pace.at, self.pace.total
        waited = moment - self.told_time
        step = (at - self.told_at) / total >= LINE_STEP and waited >= LINE_SOONEST
        if at < total and (step or waited >= LINE_LATEST):
            self.told_at, self.told_time = at, moment
            left = duration((total - at) / self.pace.rate)
            self.show(f"{record.stage}: {at}/{total} ({at / total:.0%}), {self.pace}, {left} left")

    def finished(self, event: StageFinished) -> None:
        """Say how the stage ended; nothing where there was nothing to do."""
        if self.pace.before == self.pace.total:
            return
        bad = {"failed": event.failed, "quarantined": event.quarantined}
        text = "".join(f", {n} {status}" for status, n in bad.items() if n)
        self.show(f"{event.stage}: {event.done} done{text} in {duration(event.seconds)}")


class Bars(Lines):
    """Progress bars on a terminal: stage, bar, tasks done, rate, time left."""

    def __init__(self, verbose: bool = False) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        super().__init__(verbose)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(stderr=True),
        )
        self.bar = self.progress.add_task("", visible=False, rate="")

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.progress.stop()

    def show(self, text: str) -> None:
        """Write a line above the bars, as it is."""
        self.progress.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def started(self, event: StageStarted) -> None:
        """Add a bar."""
        self.pace = Pace(event)
        self.bar = self.progress.add_task(event.stage, total=event.total, completed=event.done, rate="")

    def advanced(self, record: Record) -> None:
        """Move the bar."""
        self.pace.count(record)
        self.progress.update(self.bar, advance=1, rate=str(self.pace))

    def finished(self, event: StageFinished) -> None:
        """Leave the bar as it is; failures were shown as they came."""


def listener(*, quiet: bool, verbose: bool) -> Listener:
    """Choose how to show progress: not at all, as bars on a terminal, else as lines."""
    if quiet:
        return Listener(verbose)
    return Bars(verbose) if sys.stderr.isatty() else Lines(verbose)


@contextmanager
def session(*, quiet: bool = False, verbose: bool = False) -> Iterator[Listener]:
    """Listen, show voxloom's warnings as notes, and turn its errors into one message and an exit code.

    Raises
    ------
    typer.Exit
        With 2 for wrong input or a store out of reach, 130 when stopped, 1 for another error of voxloom. Others
        pass: they are bugs.
    """
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with listener(quiet=quiet, verbose=verbose) as listening, _warnings_as_notes(listening):
            yield listening
    except (KeyboardInterrupt, Cancelled):
        print("stopped; run the same command again to go on", file=sys.stderr)
        raise typer.Exit(EXIT_STOPPED) from None
    except VoxloomError as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(EXIT_USAGE if isinstance(error, (InputError, OSError)) else EXIT_FAILED) from None
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(signum: int, frame: object) -> None:
    """SIGTERM, as batch systems send it, ends a run as Ctrl-C does."""
    raise KeyboardInterrupt


@contextmanager
def _warnings_as_notes(listening: Listener) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("always", VoxloomWarning)
        show = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, VoxloomWarning):
                listening.note(str(message))
            else:
                show(message, category, *where, **more)

        warnings.showwarning = note
        yield


def duration(seconds: float) -> str:
    """Seconds for people: ``4.2 s``, ``3:07 min``, ``2:05 h``."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    if seconds < 3599.5:
        return f"{round(seconds) // 60}:{round(seconds) % 60:02d} min"
    return f"{round(seconds) // 3600}:{round(seconds) % 3600 // 60:02d} h"
