# Turns: how long one task may go on writing before the other tasks of its loop must run.
#
# Rule 1: a write that is made inside a send() doesn't wait, so a producer that computes between its events, and awaits
#         nothing but send(), would stop the loop for ever. A turn begins with a task's first write and lasts 1 ms.
# Rule 2: the turn is over when the same task writes again later than that. It may have waited meanwhile, which nobody
#         can tell: then it gives others a turn for nothing, at every second event. With many streams, another task
#         nearly always writes in between, and no turn is ever given.

from __future__ import annotations

from typing import Literal, TypeAlias

__all__ = ("TURN_SECONDS", "Turn", "Turns")

TURN_SECONDS = 0.001

Turn: TypeAlias = Literal["has", "over", "elsewhere"]
"""Whether a task may write: it has its turn; it must yield first; or the caller isn't a task of this loop."""


class Turns:
    """The turns of the tasks of one loop."""

    __slots__ = ("_ends_at", "_task")

    def __init__(self) -> None:
        self._task = 0  # the id() of the task that wrote last: a reference would keep a task that has ended
        self._ends_at = 0.0

    def of(self, task: object | None, now: float) -> Turn:
        """Return whether this task, which is about to write, may do so. If its turn is over, the next one begins."""
        number = id(task)
        if number != self._task:
            if task is None:
                return "elsewhere"
            self._task = number
            self._ends_at = now + TURN_SECONDS
            return "has"
        if now < self._ends_at:
            return "has"
        self._task = 0
        return "over"
