# Writing to the file: a group of appends, and what retention takes, in one transaction. Blocks; runs in a thread.
#
# Rule 1: the rows of the hub and of each topic are read once in a transaction, changed in memory, and written once.
# Rule 2: ids are counted up from AUTOINCREMENT's counter and inserted explicitly, because an insert of many rows
#         returns no ids.
# Rule 3: the clock is read once in a transaction, and ages are computed as in _cuts.py.

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import final

from .._append import LOST, Append
from .._cuts import Cuts
from .._retention import KEY_SECONDS, MAX_FORGOTTEN, Retention, narrowest_age
from .file import transaction
from .holds import HoldsWriter
from .outbox import make_outbox, take_waiting
from .place import OpenFiles

__all__ = ("SQLiteWriter",)

_CUTS = "CREATE TABLE IF NOT EXISTS cuts (upto INTEGER PRIMARY KEY, time REAL NOT NULL)"  # not in older files

_Row = tuple[int, str, float, bytes]


class _Totals:
    """The figures of the hub or of one topic: events, bytes, and the newest event that is gone."""

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
        topic: Retention,
        clock: Callable[[], float],
        *,
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        self.connection = connection
        self._files = files
        self._limits = hub
        self._topic_limits = topic
        self._max_age = narrowest_age(hub, topic)
        self._clock = clock
        self._remember_keys = remember_keys
        self._has_holds = False  # of this file, by this process

    def commit(self, group: Sequence[Append]) -> list[tuple[int, int]]:
        """Append a group; return the first sequence and the number of events of each append; LOST as the number.

        Raises sqlite3.Error, and OSError if the file was deleted, replaced or moved.
        """
        self._files.check()
        with transaction(self.connection, "IMMEDIATE"):
            work = self._begin()
            work.append(take_waiting(self.connection), self._topic_limits)
            results = work.append(group, self._topic_limits)
            work.finish(self._limits, self._max_age)
        self._has_holds = True
        self._files.check()  # otherwise it would be acknowledged in a file that no process opens again
        return results

    def maintain(self) -> None:
        """Trim events and keys that are too old, and the ends of topics beyond the number remembered."""
        self._files.check()
        with transaction(self.connection, "IMMEDIATE"):
            work = self._begin()
            work.finish(self._limits, self._max_age)
            work.forget_keys(self._remember_keys)
            self._forget_topics()

    def _begin(self) -> _Transaction:
        self.connection.execute(_CUTS)
        if not self._has_holds:
            HoldsWriter.make_tables(self.connection)
            make_outbox(self.connection)
        cuts = Cuts(
            self.connection.execute("SELECT upto, time FROM cuts ORDER BY upto"), self._max_age, self._remember_keys
        )
        return _Transaction(self.connection, self._clock(), cuts)

    def _forget_topics(self) -> None:
        ends = "SELECT {} FROM topics WHERE events = 0 ORDER BY trimmed_to DESC LIMIT 1 OFFSET ?"
        found = self.connection.execute(ends.format("trimmed_to"), (MAX_FORGOTTEN,)).fetchone()
        if found is not None:
            self.connection.execute("UPDATE hub SET floor = max(floor, ?)", found)
            self.connection.execute("DELETE FROM topics WHERE events = 0 AND trimmed_to <= ?", found)


@final
class _Transaction:
    """The state of the hub within one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float, cuts: Cuts) -> None:
        self._execute = connection.execute
        self._executemany = connection.executemany
        self._now = now
        self._holds = HoldsWriter(connection)
        self._cuts = cuts
        self._cuts_before = [*cuts.pairs]
        self._stamp = max(now, self._time_of_end("DESC"))
        hub = self._execute(
            "SELECT seq, events, bytes, trimmed_to, floor FROM hub JOIN sqlite_sequence ON name = 'events'"
        ).fetchone()
        self._sequence: int = hub[0]
        self._hub = _Totals(*hub[1:4])
        self._floor: int = hub[4]
        self._topics: dict[str, _Totals] = {}
        self._has_moved = False

    def _time_of_end(self, direction: str) -> float:
        query = f"SELECT time FROM events ORDER BY id {direction} LIMIT 1"  # noqa: S608 -- ASC or DESC
        (time,) = self._execute(query).fetchone() or (-math.inf,)
        return float(time)

    def append(self, group: Sequence[Append], topic_limits: Retention) -> list[tuple[int, int]]:
        """Add the events of a group, and trim the topics that have grown."""
        rows: list[_Row] = []
        results = [self._append_one(append, rows) for append in group]
        self._insert(rows)
        for name in [*self._topics]:
            self._trim_topic(name, topic_limits)
        return results

    def _insert(self, rows: list[_Row]) -> None:
        self._executemany("INSERT INTO events (id, topic, time, payload) VALUES (?, ?, ?, ?)", rows)
        rows.clear()

    def finish(self, limits: Retention, max_age: float | None) -> None:
        """Trim the hub by size and age, and write the figures."""
        # The newest stamp is the latest, except in a file that an earlier release has written to.
        self._cuts.see(self._now, max(self._time_of_end("ASC"), self._time_of_end("DESC")), self._sequence)
        self._trim_hub(limits, -math.inf if max_age is None else self._now - max_age)
        rows = [(name, t.events, t.size, t.trimmed_to) for name, t in self._topics.items()]
        self._executemany("REPLACE INTO topics (name, events, bytes, trimmed_to) VALUES (?, ?, ?, ?)", rows)
        totals = (self._hub.events, self._hub.size, self._hub.trimmed_to)
        self._execute("UPDATE hub SET events = ?, bytes = ?, trimmed_to = ?", totals)
        self._cuts.forget(self._now)
        if self._cuts.pairs != self._cuts_before:
            self._execute("DELETE FROM cuts")
            self._executemany("INSERT INTO cuts (upto, time) VALUES (?, ?)", self._cuts.pairs)

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
            self._holds.change(claim, self._now, self._sequence + len(append.items))
        first = self._sequence + 1
        for topic, payload in append.items:
            self._sequence += 1
            rows.append((self._sequence, topic, self._stamp, payload))
            self._totals_of(topic).add(len(payload))
            self._hub.add(len(payload))
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
        totals = self._totals_of(name)
        self._topics[name] = _Totals(0, 0, max(totals.trimmed_to, last))

    def _totals_of(self, name: str) -> _Totals:
        totals = self._topics.get(name)
        if totals is None:
            found = self._execute("SELECT events, bytes, trimmed_to FROM topics WHERE name = ?", (name,)).fetchone()
            totals = self._topics[name] = _Totals(*(found or (0, 0, self._floor)))
        return totals

    def _trim_topic(self, name: str, limits: Retention) -> None:
        totals = self._topics[name]

        def has_to_go(_sequence: int, _stamp: float) -> bool:
            return limits.exceeded_by(totals.events, totals.size)

        if has_to_go(0, 0.0) and self._holds.token_of(name) is None:
            query = "SELECT id, topic, length(payload), time FROM events WHERE topic = ? ORDER BY id"
            last = self._trim(self._execute(query, (name,)), has_to_go)
            self._execute("DELETE FROM events WHERE topic = ? AND id <= ?", (name, last))

    def _trim_hub(self, limits: Retention, oldest_time: float) -> None:
        hub = self._hub

        def has_to_go(sequence: int, stamp: float) -> bool:
            too_old = self._cuts.time_of(sequence, stamp, self._now) < oldest_time
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
                self._totals_of(topic).trim(sequence, size)
            else:
                self._has_moved = True
            self._hub.trim(sequence, size)
            last = sequence
        return last
