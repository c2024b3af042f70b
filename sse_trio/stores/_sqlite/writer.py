# Writing to the file: a group of appends, and what retention takes, in one transaction. Blocks; runs in a thread.
#
# Rule 1: what the writer knows of the file it reads once, and not again while it writes alone (figures.py).
# Rule 2: what waits in the outbox goes into the log first. It comes from other connections, so the writer looks only
#         when one of them has written since its last group.

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import final

from .._append import Append
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention
from .._sweeps import Sweeps
from .._topic_limits import TopicLimits
from .figures import Figures
from .file import transaction
from .group import Group
from .outbox import take_waiting
from .place import OpenFiles

__all__ = ("SQLiteWriter",)


@final
class SQLiteWriter:
    """The one writer of a process.

    Args:
        connection: nothing else uses it.
        files: the names of the file that the connection has opened.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        files: OpenFiles,
        hub: Retention,
        topic: TopicLimits,
        clock: Callable[[], float],
        *,
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        self.connection = connection
        self._files = files
        self._limits = hub
        self._topic_limits = topic
        self._max_age = topic.hub_age
        self._sweeps = Sweeps(topic)
        self._clock = clock
        self._remember_keys = remember_keys
        self._figures = Figures(connection, topic.span, remember_keys)
        self.before: int = 0
        """The newest id before the last group."""
        self.has_moved: bool = False
        """Whether events came out of the outbox with the last group."""

    def commit(self, group: Sequence[Append]) -> list[tuple[int, int]]:
        """Append a group; return the first sequence and the number of events of each append; LOST as the number.

        Raises sqlite3.Error, and OSError if the file was deleted, replaced or moved.
        """
        self._files.check()
        with transaction(self.connection, "IMMEDIATE"):
            waiting = take_waiting(self.connection) if self._figures.begin() else []
            work = Group(self.connection, self._clock(), self._figures)
            work.append(waiting, self._topic_limits)
            before = self._figures.sequence
            results = work.append(group, self._topic_limits)
            work.finish(self._limits, self._max_age)
        self._figures.committed()
        self._files.check()  # otherwise it would be acknowledged in a file that no process opens again
        self.before, self.has_moved = before, bool(waiting)
        return results

    def maintain(self) -> None:
        """Trim what is too old: events, keys, the ends of topics beyond the number remembered, moments of expiry."""
        self._files.check()
        with transaction(self.connection, "IMMEDIATE"):
            self._figures.begin()
            work = Group(self.connection, self._clock(), self._figures)
            work.finish(self._limits, self._max_age)
            work.forget_keys(self._remember_keys)
            self._figures.forget_expiries()
            self._forget_topics()

    def sweep(self) -> bool:
        """Trim by the ages that some topics have and others have not. Return whether there is more to look at."""
        marks = self._sweeps.marks("")
        if not marks:
            return False
        self._files.check()
        with transaction(self.connection, "IMMEDIATE"):
            self._figures.begin()
            work = Group(self.connection, self._clock(), self._figures)
            steps = {age: work.sweep(self._sweeps.limits, age, after) for age, after in marks.items()}
            work.finish(self._limits, self._max_age)
        return self._sweeps.note(steps)

    def _forget_topics(self) -> None:
        ends = "SELECT {} FROM topics WHERE events = 0 ORDER BY trimmed_to DESC LIMIT 1 OFFSET ?"
        found = self.connection.execute(ends.format("trimmed_to"), (MAX_FORGOTTEN,)).fetchone()
        if found is not None:
            self.connection.execute("UPDATE hub SET floor = max(floor, ?)", found)
            self.connection.execute("DELETE FROM topics WHERE events = 0 AND trimmed_to <= ?", found)
