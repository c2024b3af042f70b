# Writing to the file: a group of appends, and what retention takes, in one transaction. Blocks; runs in a thread.
#
# Rule 1: a topic's row, and the hub's, is read once in a transaction, changed in memory, and written once.
# Rule 2: ids are counted up from AUTOINCREMENT's counter and given explicitly: an insert of many rows tells no ids.
# Rule 3: time doesn't go back in a log: an event is not stamped as older than the one before it, whatever the clock
#         says. So what has been there longest is oldest. Stamps that turn out to be ahead of the clock are cut: it was
#         wrong when they were made.

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import final

from ._group_commit import Append
from ._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention, narrowest_age
from ._sqlite_file import transaction
from ._sqlite_place import Place

__all__ = ("SQLiteWriter",)

_AHEAD_SECONDS = 1.0  # how far back a clock may be set without more ado

_Row = tuple[int, str, float, bytes]


class _Totals:
    """What is known of the hub or of one topic: number, bytes, and the newest event that is gone."""

    __slots__ = ("events", "size", "trimmed_to")

    def __init__(self, events: int, size: int, trimmed_to: int) -> None:
        self.events = events
        self.size = size
        self.trimmed_to = trimmed_to

    def add(self, size: int) -> None:
        self.events += 1
        self.size += size

    def trim(self, sequence: int, size: int) -> None:
        self.events -= 1
        self.size -= size
        self.trimmed_to = max(self.trimmed_to, sequence)


@final
class SQLiteWriter:
    """The one writer of a process.

    Args:
        connection: used by nobody else.
        place: of the file that it has opened.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        place: Place,
        hub: Retention,
        topic: Retention,
        clock: Callable[[], float],
    ) -> None:
        self.connection = connection
        self._place = place
        self._limits = hub
        self._topic_limits = topic
        self._max_age = narrowest_age(hub, topic)
        self._clock = clock

    def commit(self, group: Sequence[Append]) -> list[tuple[int, int]]:
        """Keep a group of appends; return the first sequence and the number of each.

        Raises sqlite3.Error, and OSError where the file is not in its place any more.
        """
        self._place.check()
        with transaction(self.connection, "IMMEDIATE"):
            work = _Transaction(self.connection, self._stamp(self._clock()))
            results = work.append(group, self._topic_limits)
            work.finish(self._limits, self._oldest_time())
        self._place.check()  # else it would be acknowledged, and be in a file that nobody will open again
        return results

    def maintain(self) -> None:
        """Let go of what is too old: events, keys, and the ends of topics that nobody uses any more."""
        self._place.check()
        now = self._clock()
        with transaction(self.connection, "IMMEDIATE"):
            self._cut_oldest(now)
            _Transaction(self.connection, self._stamp(now)).finish(self._limits, self._oldest_time())
            self.connection.execute("UPDATE keys SET time = :now WHERE time > :now", {"now": now})
            self.connection.execute("DELETE FROM keys WHERE time < ?", (now - KEY_SECONDS,))
            self._forget_topics()

    def _stamp(self, now: float) -> float:
        """Return the time of what is appended now, and cut the stamps that are ahead of it."""
        query = "SELECT time FROM events ORDER BY id DESC LIMIT 1"
        (newest,) = self.connection.execute(query).fetchone() or (now,)
        if newest <= now + _AHEAD_SECONDS:
            return max(now, newest)
        right = "SELECT id FROM events WHERE time <= :now ORDER BY id DESC LIMIT 1"  # looks at those that are ahead
        update = f"UPDATE events SET time = :now WHERE id > coalesce(({right}), 0)"  # noqa: S608 -- no text of others
        self.connection.execute(update, {"now": now})
        return now

    def _cut_oldest(self, now: float) -> None:
        # In a log that is older than rule 3 they can be ahead though the newest is not.
        right = "SELECT id FROM events WHERE time <= :now ORDER BY id LIMIT 1"
        update = f"UPDATE events SET time = :now WHERE id < ({right})"  # noqa: S608 -- no text of others
        self.connection.execute(update, {"now": now})

    def _oldest_time(self) -> float:
        return -math.inf if self._max_age is None else self._clock() - self._max_age

    def _forget_topics(self) -> None:
        ends = "SELECT {} FROM topics WHERE events = 0 ORDER BY trimmed_to DESC LIMIT 1 OFFSET ?"
        found = self.connection.execute(ends.format("trimmed_to"), (MAX_FORGOTTEN,)).fetchone()
        if found is not None:
            self.connection.execute("UPDATE hub SET floor = max(floor, ?)", found)
            self.connection.execute("DELETE FROM topics WHERE events = 0 AND trimmed_to <= ?", found)


@final
class _Transaction:
    """The state of the hub within one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._now = now
        hub = self._execute(
            "SELECT seq, events, bytes, trimmed_to, floor FROM hub JOIN sqlite_sequence ON name = 'events'"
        ).fetchone()
        self._sequence: int = hub[0]
        self._hub = _Totals(*hub[1:4])
        self._floor: int = hub[4]
        self._topics: dict[str, _Totals] = {}

    def append(self, group: Sequence[Append], topic_limits: Retention) -> list[tuple[int, int]]:
        """Add the events of a group, and trim the topics that have grown."""
        rows: list[_Row] = []
        results = [self._append_one(append, rows) for append in group]
        self._executemany("INSERT INTO events (id, topic, time, payload) VALUES (?, ?, ?, ?)", rows)
        for name in [*self._topics]:
            self._trim_topic(name, topic_limits)
        return results

    def finish(self, limits: Retention, oldest_time: float) -> None:
        """Trim the hub and what is older than ``oldest_time``, and write down what is left."""
        self._trim_hub(limits, oldest_time)
        rows = [(name, t.events, t.size, t.trimmed_to) for name, t in self._topics.items()]
        self._executemany("REPLACE INTO topics (name, events, bytes, trimmed_to) VALUES (?, ?, ?, ?)", rows)
        totals = (self._hub.events, self._hub.size, self._hub.trimmed_to)
        self._execute("UPDATE hub SET events = ?, bytes = ?, trimmed_to = ?", totals)

    def _append_one(self, append: Append, rows: list[_Row]) -> tuple[int, int]:
        if append.key is not None:
            known = self._execute("SELECT first, count FROM keys WHERE producer = ? AND sequence = ?", append.key)
            for first, count in known:
                return first, count
        first = self._sequence + 1
        for topic, payload in append.items:
            self._sequence += 1
            rows.append((self._sequence, topic, self._now, payload))
            self._totals_of(topic).add(len(payload))
            self._hub.add(len(payload))
        if append.key is not None:
            row = (*append.key, first, len(append.items), self._now)
            self._execute("INSERT INTO keys (producer, sequence, first, count, time) VALUES (?, ?, ?, ?, ?)", row)
        return first, len(append.items)

    def _totals_of(self, name: str) -> _Totals:
        totals = self._topics.get(name)
        if totals is None:
            found = self._execute("SELECT events, bytes, trimmed_to FROM topics WHERE name = ?", (name,)).fetchone()
            totals = self._topics[name] = _Totals(*(found or (0, 0, self._floor)))
        return totals

    def _trim_topic(self, name: str, limits: Retention) -> None:
        totals = self._topics[name]
        if limits.exceeded_by(totals.events, totals.size):
            query = "SELECT id, topic, length(payload), time FROM events WHERE topic = ? ORDER BY id"
            last = self._trim(self._execute(query, (name,)), lambda _: limits.exceeded_by(totals.events, totals.size))
            self._execute("DELETE FROM events WHERE topic = ? AND id <= ?", (name, last))

    def _trim_hub(self, limits: Retention, oldest_time: float) -> None:
        hub = self._hub
        oldest = self._execute("SELECT id, topic, length(payload), time FROM events ORDER BY id")
        last = self._trim(oldest, lambda time: time < oldest_time or limits.exceeded_by(hub.events, hub.size))
        self._execute("DELETE FROM events WHERE id <= ?", (last,))

    def _trim(self, oldest: Iterable[tuple[int, str, int, float]], has_to_go: Callable[[float], bool]) -> int:
        """Count off what has to go, and return the last of it."""
        last = 0
        for sequence, topic, size, time in oldest:
            if not has_to_go(time):
                break
            self._totals_of(topic).trim(sequence, size)
            self._hub.trim(sequence, size)
            last = sequence
        return last
