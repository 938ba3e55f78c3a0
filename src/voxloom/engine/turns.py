"""The order in which the tasks of a stage begin: as they are given, each once those that it comes after are done."""

from __future__ import annotations

from collections import defaultdict
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from voxloom.engine.task import Task


class Turns:
    """Tasks that wait for their turn.

    Parameters
    ----------
    tasks : sequence of Task
        Those still to do; others that they come after count as done.
    """

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks, self._after = tasks, dict[int, set[str]]()
        self._followers: dict[str, list[int]] = defaultdict(list)
        self._ready: list[int] = []
        waiting = {task.key for task in tasks}
        for place, task in enumerate(tasks):
            after = waiting.intersection(task.after)
            if not after:
                self._ready.append(place)
                continue
            self._after[place] = after
            for key in after:
                self._followers[key].append(place)

    def __bool__(self) -> bool:
        """Whether a task may begin."""
        return bool(self._ready)

    def take(self) -> Task | None:
        """Take the first task that may begin; None while all that are left wait for others."""
        return self._tasks[heappop(self._ready)] if self._ready else None

    def done(self, key: str) -> None:
        """Let those begin that waited for this task alone."""
        for place in self._followers.pop(key, ()):
            self._after[place].discard(key)
            if not self._after[place]:
                heappush(self._ready, place)
