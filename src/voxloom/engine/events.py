"""What a listener is told while stages run; rendering is the caller's business."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from voxloom.engine.ledger import Record


@dataclass(frozen=True)
class StageStarted:
    """A stage begins: `total` tasks, of which `done` were finished by an earlier run."""

    stage: str
    total: int
    done: int


@dataclass(frozen=True)
class TaskFinished:
    """One task ended, well or not: see `record.status`."""

    stage: str
    record: Record


@dataclass(frozen=True)
class StageFinished:
    """A stage ended. `done` counts tasks of earlier runs too; `seconds` is the wall time of this one."""

    stage: str
    done: int
    failed: int
    quarantined: int
    seconds: float


@dataclass(frozen=True)
class Note:
    """One line for the user: something was assumed, taken over, or is being waited for."""

    text: str


Event = StageStarted | TaskFinished | StageFinished | Note
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
