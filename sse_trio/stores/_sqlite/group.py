# One transaction that writes to a file: appends, and what retention takes of the log. Blocks.
#
# Rule 1: ids are counted up from AUTOINCREMENT's counter and inserted explicitly, because an insert of many rows
#         returns no ids.
# Rule 2: the clock is read once in a transaction, and ages are computed as in _cuts.py.

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import final

from .._append import LOST, Append
from .._expiry import EXPIRES, due_of
from .._retention import Retention
from .._sweeps import SWEPT_AT_ONCE, Step, look_at
from .._topic_limits import TopicLimits
from .figures import Figures
from .rows import write_rows

__all__ = ("Group",)

_Row = tuple[int, str, float, bytes]

_EXPIRED_AT_ONCE = 1000  # events that one transaction deletes because they have expired


@final
class Group:
    """The state of a hub within one transaction.

    Args:
        connection: in a transaction, whose figures have begun.
        now: the time, in seconds since 1970.
        figures: of the file.
    """

    def __init__(self, connection: sqlite3.Connection, now: float, figures: Figures) -> None:
        self._execute = connection.execute
        self._connection = connection
        self._now = now
        self._figures = figures
        self._holds = figures.holds
        self._hub = figures.hub
        self._cuts = figures.cuts
        self._has_moved = False
        if figures.next_due <= now:
            self._expire()  # first, because they count no more against any limit
        self._stamp = max(now, figures.newest_time())

    def _expire(self) -> None:
        for id_ in self._figures.take_expired(self._now, _EXPIRED_AT_ONCE):
            found = self._execute("SELECT topic, length(payload) FROM events WHERE id = ?", (id_,)).fetchone()
            if found is not None:
                for totals in (self._figures.topic(found[0]), self._hub):
                    totals.events, totals.size = totals.events - 1, totals.size - found[1]
                self._execute("DELETE FROM events WHERE id = ?", (id_,))
                self._figures.was_trimmed()

    def append(self, group: Sequence[Append], topic_limits: TopicLimits) -> list[tuple[int, int]]:
        """Add the events of a group, and trim the topics that have grown."""
        rows: list[_Row] = []
        results = [self._append_one(append, rows) for append in group]
        self._insert(rows)
        everywhere = topic_limits.everywhere
        if everywhere is None or everywhere.limits_size:  # most hubs limit no topic
            for name in self._figures.changed_topics():
                self._trim_topic(name, topic_limits.of(name))
        return results

    def _insert(self, rows: list[_Row]) -> None:
        if rows:
            write_rows(self._connection, "events (id, topic, time, payload)", rows)
            self._figures.was_stamped(self._stamp)
            rows.clear()

    def finish(self, limits: Retention, max_age: float | None) -> None:
        """Trim the hub by size and age, and write the figures."""
        self._cuts.see(self._now, self._figures.latest_time(), self._figures.sequence)
        self._trim_hub(limits, self._oldest_time(max_age))
        self._cuts.forget(self._now)
        self._figures.write()

    def forget_keys(self, seconds: float) -> None:
        """Drop the keys that were used more than ``seconds`` ago."""
        old = self._now - seconds
        self._execute("DELETE FROM keys WHERE time < ?", (old,))
        self._execute("DELETE FROM keys WHERE time > ? AND first <= ?", (self._now, self._cuts.older_than(old)))

    def _append_one(self, append: Append, rows: list[_Row]) -> tuple[int, int]:
        if append.key is not None:
            known = self._execute("SELECT first, count FROM keys WHERE producer = ? AND sequence = ?", append.key)
            for first, count in known:
                return first, count
        claim = append.claim
        if claim is not None:
            if not self._holds.allows(claim):
                return 0, LOST
            if claim.clear:
                self._insert(rows)
                self._clear(claim.topic)
            self._holds.change(claim, self._now, self._figures.sequence + len(append.items))
        figures, stamp = self._figures, self._stamp
        first = figures.sequence + 1
        for sequence, (topic, payload) in enumerate(append.items, first):
            rows.append((sequence, topic, stamp, payload))
            figures.count(topic, len(payload))
            if payload.startswith(EXPIRES):
                figures.expires(sequence, due_of(payload))
        figures.sequence += len(append.items)
        if append.key is not None:
            row = (*append.key, first, len(append.items), self._stamp)
            self._execute("INSERT INTO keys (producer, sequence, first, count, time) VALUES (?, ?, ?, ?, ?)", row)
        return first, len(append.items)

    def _clear(self, name: str) -> None:
        query = "SELECT count(*), coalesce(sum(length(payload)), 0), coalesce(max(id), 0) FROM events WHERE topic = ?"
        events, size, last = self._execute(query, (name,)).fetchone()
        self._execute("DELETE FROM events WHERE topic = ?", (name,))
        last = max(last, self._holds.clear(name))
        self._hub.events -= events
        self._hub.size -= size
        self._hub.trimmed_to = max(self._hub.trimmed_to, last)
        totals = self._figures.topic(name)
        totals.events, totals.size, totals.trimmed_to = 0, 0, max(totals.trimmed_to, last)
        self._figures.was_trimmed()

    def _trim_topic(self, name: str, limits: Retention) -> None:
        totals, oldest = self._figures.topic(name), self._oldest_time(limits.max_age)

        def has_to_go(sequence: int, stamp: float) -> bool:
            return limits.exceeded_by(totals.events, totals.size) or self._is_older(sequence, stamp, oldest)

        is_aged = limits.max_age is not None
        if (is_aged or limits.exceeded_by(totals.events, totals.size)) and self._holds.token_of(name) is None:
            query = "SELECT id, topic, length(payload), time FROM events WHERE topic = ? ORDER BY id"
            last = self._trim(self._execute(query, (name,)), has_to_go)
            if last:
                self._execute("DELETE FROM events WHERE topic = ? AND id <= ?", (name, last))

    def _oldest_time(self, max_age: float | None) -> float:
        return -math.inf if max_age is None else self._now - max_age

    def _is_older(self, sequence: int, stamp: float, time: float) -> bool:
        return self._cuts.time_of(sequence, stamp, self._now) < time

    def sweep(self, limits: TopicLimits, age: float, after: int) -> Step:
        """Look at events after this id, and delete what is too old of the topics that have this age."""
        query = "SELECT id, topic, length(payload), time FROM events WHERE id > ? ORDER BY id LIMIT ?"
        rows = self._execute(query, (after, SWEPT_AT_ONCE)).fetchall()
        oldest = self._oldest_time(age)

        def goes(topic: str) -> bool:
            return limits.of(topic).max_age == age and self._holds.token_of(topic) is None

        step = look_at(rows, after, lambda sequence, stamp: self._is_older(sequence, stamp, oldest), goes)
        for sequence, topic, size in step.gone:
            self._figures.topic(topic).trim(sequence, size)
            self._hub.trim(sequence, size)
            self._figures.was_trimmed()
            self._execute("DELETE FROM events WHERE id = ?", (sequence,))
        return step

    def _trim_hub(self, limits: Retention, oldest_time: float) -> None:
        hub = self._hub
        if oldest_time == -math.inf and not limits.exceeded_by(hub.events, hub.size):
            return

        def has_to_go(sequence: int, stamp: float) -> bool:
            too_old = self._is_older(sequence, stamp, oldest_time)
            return too_old or limits.exceeded_by(hub.events, hub.size)

        last = self._trim(self._execute("SELECT id, topic, length(payload), time FROM events ORDER BY id"), has_to_go)
        if self._has_moved:
            self._holds.keep(last)
        if last:
            self._execute("DELETE FROM events WHERE id <= ?", (last,))

    def _trim(self, oldest: Iterable[tuple[int, str, int, float]], has_to_go: Callable[[int, float], bool]) -> int:
        """Count what has to go out of the figures, and return the last sequence of it."""
        last = 0
        for sequence, topic, size, time in oldest:
            if not has_to_go(sequence, time):
                break
            if self._holds.token_of(topic) is None:
                self._figures.topic(topic).trim(sequence, size)
            else:
                self._has_moved = True
            self._hub.trim(sequence, size)
            last = sequence
        if last:
            self._figures.was_trimmed()
        return last
