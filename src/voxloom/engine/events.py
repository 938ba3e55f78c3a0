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
    """One task ended, well or not: see `record.status`.

    Of a task that made permutations, `record.details` holds ``permutations`` (those of a part of the voxels count as
    that part), ``n_perm`` that its test is to have, and the level ``alpha``.
    """

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


def monte_carlo_error(p: float, n_perm: float) -> float:
    """Standard error of a p that rests on so many random permutations."""
    return float((p * (1 - p) / n_perm) ** 0.5)


def ignore(event: Event) -> None:
    """Listen to nothing."""
