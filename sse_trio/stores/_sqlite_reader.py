# Reading from the file: each answer from one snapshot. Blocks; runs in a thread.
#
# Rule 1: one transaction for one page, so that its events, its gap and its tip are of the same moment.
# Rule 2: a few topics are read by their index and merged; many are cheaper to pick out of the hub's log.

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from heapq import merge
from itertools import islice
from operator import itemgetter
from typing import final

from sse_trio._store import EventId, Page, StoredEvent
from sse_trio._topics import TopicFilter

from ._gaps import make_page, start_reading
from ._sqlite_file import transaction

__all__ = ("SQLiteReader",)

_MERGED = 64  # topics
_SCAN = 8192  # events of the hub looked at for one page: some ten milliseconds of the reader's thread

_Row = tuple[int, str, bytes]
_ID = itemgetter(0)


@final
class SQLiteReader:
    """A reader of the file, with a connection that nobody else uses."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        (epoch,) = self._execute("SELECT epoch FROM hub").fetchone()
        self.epoch: str = epoch

    def read(self, topics: TopicFilter, after: EventId | Page | None, limit: int) -> Page:
        """See :meth:`EventStore.read`. Raises :exc:`sqlite3.Error`."""
        with transaction(self.connection):
            tip, trimmed_to = self._ends(topics)
            start = start_reading(after, tip, trimmed_to)
            rows, last = self._select(topics, start.sequence, tip.sequence, limit, to_first=start.missed)
        return make_page(after, start, self._events(rows), last, tip, trimmed_to)

    def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :meth:`EventStore.read_last`. Raises :exc:`sqlite3.Error`."""
        with transaction(self.connection):
            tip, trimmed_to = self._ends(topics)
            rows = list(islice(self._newest_first(topics), count))
        return Page(self._events(reversed(rows)), tip, None, tip, EventId(self.epoch, trimmed_to))

    def _events(self, rows: Iterable[_Row]) -> tuple[StoredEvent, ...]:
        return tuple([StoredEvent(EventId(self.epoch, id_), topic, payload) for id_, topic, payload in rows])

    def _ends(self, topics: TopicFilter) -> tuple[EventId, int]:
        """Return the tip of the hub, and the newest sequence that is gone of these topics."""
        tip, trimmed_to, floor = self._execute(
            "SELECT seq, trimmed_to, floor FROM hub JOIN sqlite_sequence ON name = 'events'"
        ).fetchone()
        if not topics.matches_all and trimmed_to:
            ends = [self._end_of_prefix(prefix, floor) for prefix in topics.prefixes]
            trimmed_to = max([*ends, *(self._end_of_topic(name, floor) for name in topics.exact)])
        return EventId(self.epoch, tip), trimmed_to

    def _end_of_topic(self, name: str, floor: int) -> int:
        (end,) = self._execute("SELECT trimmed_to FROM topics WHERE name = ?", (name,)).fetchone() or (floor,)
        return int(end)

    def _end_of_prefix(self, prefix: str, floor: int) -> int:
        query = "SELECT coalesce(max(trimmed_to), 0) FROM topics WHERE name >= ? AND name < ?"
        (end,) = self._execute(query, _bounds(prefix)).fetchone()
        return max(floor, int(end))

    def _select(
        self, topics: TopicFilter, start: int, tip: int, limit: int, *, to_first: bool
    ) -> tuple[list[_Row], int]:
        """Return rows after ``start``, and up to where there are no others."""
        names = self._names(topics)
        if names is not None:
            query = "SELECT id, topic, payload FROM events WHERE topic = ? AND id > ? ORDER BY id"
            merged = merge(*(self._execute(query, (name, start)) for name in names), key=_ID)
            rows = list(islice(merged, limit))
            return rows, (rows[-1][0] if len(rows) == limit else tip)
        return self._scan(topics, start, tip, limit, to_first=to_first)

    def _scan(self, topics: TopicFilter, start: int, tip: int, limit: int, *, to_first: bool) -> tuple[list[_Row], int]:
        rows: list[_Row] = []
        hub = self._execute("SELECT id, topic, payload FROM events WHERE id > ? ORDER BY id", (start,))
        for looked_at, row in enumerate(hub, 1):
            if topics.matches(row[1]):
                rows.append(row)
            if len(rows) == limit or (looked_at >= _SCAN and not (to_first and not rows)):
                return rows, row[0]
        return rows, tip

    def _newest_first(self, topics: TopicFilter) -> Iterator[_Row]:
        names = self._names(topics)
        if names is not None:
            query = "SELECT id, topic, payload FROM events WHERE topic = ? ORDER BY id DESC"
            return merge(*(self._execute(query, (name,)) for name in names), key=_ID, reverse=True)
        hub = self._execute("SELECT id, topic, payload FROM events ORDER BY id DESC")
        return (row for row in hub if topics.matches(row[1]))

    def _names(self, topics: TopicFilter) -> list[str] | None:
        """Return the topics that are asked for, or None if it is all of them or too many to be merged."""
        if topics.matches_all or len(topics.exact) > _MERGED:
            return None
        names = [*topics.exact]
        query = "SELECT name FROM topics WHERE name >= ? AND name < ? AND events > 0 LIMIT ?"
        for prefix in topics.prefixes:
            names += [name for (name,) in self._execute(query, (*_bounds(prefix), _MERGED + 1))]
        return names if len(names) <= _MERGED else None


def _bounds(prefix: str) -> tuple[str, str]:
    """Return what all names below a prefix, which ends in "/", lie between; "0" is the character after "/"."""
    return prefix, f"{prefix[:-1]}0"
