# What a writer knows of the file, from one transaction to the next: the counter, the figures of the hub and of topics,
# the tokens of held topics. Blocks.
#
# Rule 1: what was read or written in a transaction is known in the next one, unless another connection has committed in
#         between, which SQLite tells (PRAGMA data_version), or the transaction was not committed. So the appends of a
#         process that writes alone read nothing.
# Rule 2: the rows of the hub and of each topic are changed in memory, and written once in a transaction.
# Rule 3: the times at the two ends of the log are read again after anything was taken out of it.

from __future__ import annotations

import math
import sqlite3
from typing import final

from .._cuts import Cuts
from .holds import HoldsWriter
from .outbox import make_outbox
from .rows import write_rows

__all__ = ("Figures", "Totals")

_CUTS = "CREATE TABLE IF NOT EXISTS cuts (upto INTEGER PRIMARY KEY, time REAL NOT NULL)"  # not in older files
_REPLACE_FIGURES = """ON CONFLICT (name) DO UPDATE
SET events = excluded.events, bytes = excluded.bytes, trimmed_to = excluded.trimmed_to"""
_EXPIRIES = "CREATE TABLE IF NOT EXISTS expiries (due REAL, id INTEGER, PRIMARY KEY (due, id)) WITHOUT ROWID"
_KNOWN_TOPICS = 10_000  # about 3 MB
_FORGOTTEN_FROM = 1000  # expiries of events that are gone; fewer are not worth looking for


@final
class Totals:
    """The figures of the hub or of one topic: events, bytes, and the newest event that is gone."""

    __slots__ = ("events", "size", "trimmed_to")

    def __init__(self, events: int, size: int, trimmed_to: int) -> None:
        self.events = events
        self.size = size
        self.trimmed_to = trimmed_to

    def trim(self, sequence: int, size: int) -> None:
        """Count an event out."""
        self.events -= 1
        self.size -= size
        self.trimmed_to = max(self.trimmed_to, sequence)


@final
class Figures:
    """The figures of a file, for the one writer of a process.

    Args:
        connection: the writer's.
        ages: the shortest and the longest age of events, in seconds, or None.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self, connection: sqlite3.Connection, ages: tuple[float | None, float | None], remember_keys: float
    ) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._ages = (ages, remember_keys)
        self.next_due: float = math.inf
        """When the next event expires."""
        self._version: int | None = None  # of the file, when it was last as is known here
        self.holds = HoldsWriter(connection)

    # --- a transaction

    def begin(self) -> bool:
        """Begin a transaction, which SQLite has begun. Return whether another connection may have written before it."""
        (version,) = self._execute("PRAGMA data_version").fetchone()
        is_changed: bool = version != self._version
        if is_changed:
            self._read()
        self._version = None
        self._changed: set[str] = set()
        self._began_at = version
        return is_changed

    def committed(self) -> None:
        """Know the same in the next transaction."""
        self._version = self._began_at
        if len(self._topics) > _KNOWN_TOPICS:
            self._topics.clear()
        self.holds.forget_some()

    def _read(self) -> None:
        self._execute(_CUTS)
        self._execute(_EXPIRIES)
        self._read_next_due()
        self._new_expiries: list[tuple[float, int]] = []
        HoldsWriter.make_tables(self._connection)
        make_outbox(self._connection)
        self.cuts: Cuts = Cuts(self._execute("SELECT upto, time FROM cuts ORDER BY upto"), *self._ages)
        self._written_cuts = [*self.cuts.pairs]
        query = "SELECT seq, events, bytes, trimmed_to, floor FROM hub JOIN sqlite_sequence ON name = 'events'"
        self.sequence: int
        self.sequence, *totals, self._floor = self._execute(query).fetchone()
        self.hub: Totals = Totals(*totals)
        self._topics: dict[str, Totals] = {}
        self._ends: tuple[float, float] | None = None
        self.holds = HoldsWriter(self._connection)

    # --- topics

    def topic(self, name: str) -> Totals:
        """Return the figures of a topic, which are about to change."""
        self._changed.add(name)
        totals = self._topics.get(name)
        if totals is None:
            found = self._execute("SELECT events, bytes, trimmed_to FROM topics WHERE name = ?", (name,)).fetchone()
            totals = self._topics[name] = Totals(*(found or (0, 0, self._floor)))
        return totals

    def count(self, topic: str, size: int) -> None:
        """Count an event in."""
        totals, hub = self.topic(topic), self.hub
        totals.events += 1
        totals.size += size
        hub.events += 1
        hub.size += size

    def changed_topics(self) -> list[str]:
        """Return the topics whose figures this transaction has changed."""
        return [*self._changed]

    # --- times

    def newest_time(self) -> float:
        """Return the stamp of the newest event that is kept."""
        return self._times()[1]

    def latest_time(self) -> float:
        """Return the latest stamp of any event that is kept.

        That of the newest event, except in a file that an earlier release has written to.
        """
        return max(self._times())

    def _times(self) -> tuple[float, float]:
        if self._ends is None:
            self._ends = (self._time_of_end("ASC"), self._time_of_end("DESC"))
        return self._ends

    def _time_of_end(self, direction: str) -> float:
        query = f"SELECT time FROM events ORDER BY id {direction} LIMIT 1"  # noqa: S608 -- ASC or DESC
        (time,) = self._execute(query).fetchone() or (-math.inf,)
        return float(time)

    def was_stamped(self, time: float) -> None:
        """Note the stamp of the newest event."""
        self._ends = (self._times()[0], time)

    def was_trimmed(self) -> None:
        """Note that events are gone."""
        self._ends = None

    # --- events that expire

    def expires(self, sequence: int, due: float | None) -> None:
        """Note when an event expires, if it does."""
        if due is not None:
            self._new_expiries.append((due, sequence))
            self.next_due = min(self.next_due, due)

    def take_expired(self, now: float, most: int) -> list[int]:
        """Take out the ids of events that have expired, some of which may be gone already."""
        query = "SELECT due, id FROM expiries WHERE due <= ? ORDER BY due, id LIMIT ?"
        found = self._execute(query, (now, most)).fetchall()
        for pair in found:
            self._execute("DELETE FROM expiries WHERE due = ? AND id = ?", pair)
        self._read_next_due()
        return [id_ for _, id_ in found]

    def forget_expiries(self) -> None:
        """Forget when events expire that the limits have taken, where that may be most of them."""
        (count,) = self._execute("SELECT count(*) FROM expiries").fetchone()
        if count > 2 * self.hub.events + _FORGOTTEN_FROM:
            self._execute("DELETE FROM expiries WHERE id NOT IN (SELECT id FROM events)")
            self._read_next_due()

    def _read_next_due(self) -> None:
        (due,) = self._execute("SELECT min(due) FROM expiries").fetchone()
        self.next_due = math.inf if due is None else due

    # --- writing

    def write(self) -> None:
        """Write what has changed."""
        rows = [(name, t.events, t.size, t.trimmed_to) for name in self._changed for t in (self._topics[name],)]
        write_rows(self._connection, "topics (name, events, bytes, trimmed_to)", rows, on_conflict=_REPLACE_FIGURES)
        totals = (self.hub.events, self.hub.size, self.hub.trimmed_to)
        self._execute("UPDATE hub SET events = ?, bytes = ?, trimmed_to = ?", totals)
        write_rows(self._connection, "expiries (due, id)", self._new_expiries)
        self._new_expiries = []
        if self.cuts.pairs != self._written_cuts:
            self._execute("DELETE FROM cuts")
            write_rows(self._connection, "cuts (upto, time)", self.cuts.pairs)
            self._written_cuts = [*self.cuts.pairs]
