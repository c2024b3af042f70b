# Reading from the file: each answer from one snapshot. Blocks; runs in a thread.
#
# Rule 1: a page is read in one transaction, so that its events, its gap and its tip belong to the same moment.
# Rule 2: topics that are named are read by their index and merged, and so are topics below a prefix if they are few. If
#         they are many, the reader scans the hub's log; where they are rare in it, the index says where they are. So a
#         page costs at most one look at each index entry of its topics.

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from heapq import merge, nlargest
from itertools import chain, islice
from operator import itemgetter
from typing import final

from .._gaps import asked_for, make_page, start_reading
from .._protocol import EventId, Page, StoredEvent
from .._scan import events_of_a_step
from .._topics import TopicFilter
from .file import transaction
from .holds import HoldsReader, Record
from .outbox import has_waiting
from .place import OpenFiles

__all__ = ("SQLiteReader",)

_MERGED = 64  # topics below prefixes
_SCAN = 8192  # events that one page looks at: about 10 ms of the reader's thread

_Row = tuple[int, str, bytes]
_ID = itemgetter(0)
_OF_TOPIC = "FROM events INDEXED BY events_of_topic WHERE topic = ?"
_BELOW_PREFIX = "FROM events INDEXED BY events_of_topic WHERE topic >= ? AND topic < ?"


@final
class SQLiteReader:
    """A reader of the file, with a connection that nothing else uses.

    Its methods raise :exc:`sqlite3.Error`, and :exc:`OSError` if the file was deleted, replaced or moved.
    """

    def __init__(self, connection: sqlite3.Connection, files: OpenFiles) -> None:
        self.connection = connection
        self._files = files
        self._execute = connection.execute
        self._holds = HoldsReader(connection)
        (epoch,) = self._execute("SELECT epoch FROM hub").fetchone()
        self.epoch: str = epoch

    def read(self, topics: TopicFilter, after: EventId | Page | None, limit: int) -> Page:
        """See :meth:`EventStore.read`."""
        self._files.check()
        with transaction(self.connection):
            tip, trimmed_to = self._ends(topics, after)
            start = start_reading(after, tip, trimmed_to)
            rows, last = self._select(topics, start.sequence, tip.sequence, limit, to_first=start.missed)
        return make_page(after, start, self._events(rows), last, tip, trimmed_to)

    def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :meth:`EventStore.read_last`."""
        self._files.check()
        with transaction(self.connection):
            tip, trimmed_to = self._ends(topics, None)
            rows = self._find_newest(topics, count)
        return Page(self._events(reversed(rows)), tip, None, tip, EventId(self.epoch, trimmed_to))

    def has_waiting(self) -> bool:
        """Whether an event waits in the outbox."""
        return has_waiting(self.connection)

    def held(self, topic: str) -> Record | None:
        """Return the record of a held topic."""
        self._files.check()
        return self._holds.get(topic)

    def held_due(self, prefix: str, limit: int) -> list[Record]:
        """Return the records below a prefix that are due first."""
        self._files.check()
        return self._holds.due(_bounds(prefix), limit)

    def _events(self, rows: Iterable[_Row]) -> tuple[StoredEvent, ...]:
        return tuple([StoredEvent(EventId(self.epoch, id_), topic, payload) for id_, topic, payload in rows])

    def _ends(self, topics: TopicFilter, after: EventId | Page | None) -> tuple[EventId, int]:
        """Return the tip of the hub, and the newest sequence that is gone from these topics, if it matters."""
        sequence, trimmed_to, floor = self._execute(
            "SELECT seq, trimmed_to, floor FROM hub JOIN sqlite_sequence ON name = 'events'"
        ).fetchone()
        tip = EventId(self.epoch, sequence)
        if not start_reading(after, tip, trimmed_to).missed and after is not None:
            return tip, asked_for(after)[1]  # the reader has seen, or knows of, everything that is gone
        if not topics.matches_all and trimmed_to:
            ends = [self._end_of_prefix(prefix, floor) for prefix in topics.prefixes]
            trimmed_to = max([*ends, *(self._end_of_topic(name, floor) for name in topics.exact)])
        return tip, trimmed_to

    def _end_of_topic(self, name: str, floor: int) -> int:
        (end,) = self._execute("SELECT trimmed_to FROM topics WHERE name = ?", (name,)).fetchone() or (floor,)
        return int(end)

    def _end_of_prefix(self, prefix: str, floor: int) -> int:
        query = "SELECT coalesce(max(trimmed_to), 0) FROM topics WHERE name >= ? AND name < ?"
        (end,) = self._execute(query, _bounds(prefix)).fetchone()
        return max(floor, int(end), self._holds.moved_to(_bounds(prefix)))

    def _select(
        self, topics: TopicFilter, start: int, tip: int, limit: int, *, to_first: bool
    ) -> tuple[list[_Row], int]:
        """Return rows after ``start``, and the id up to which these are all."""
        names = self._names(topics)
        if names is not None:
            query = "SELECT id, topic, payload FROM events WHERE topic = ? AND id > ? ORDER BY id"
            kept = [self._holds.events_after(name, start) for name in topics.exact]
            merged = merge(*kept, *(self._execute(query, (name, start)) for name in names), key=_ID)
            rows = list(islice(merged, limit))
            return rows, (rows[-1][0] if len(rows) == limit else tip)
        return self._scan(topics, start, tip, limit, to_first=to_first)

    def _scan(self, topics: TopicFilter, start: int, tip: int, limit: int, *, to_first: bool) -> tuple[list[_Row], int]:
        rows: list[_Row] = []
        most = events_of_a_step(_SCAN, topics)
        hub = self._execute("SELECT id, topic, payload FROM events WHERE id > ? ORDER BY id", (start,))
        for looked_at, row in enumerate(hub, 1):
            if topics.matches(row[1]):
                rows.append(row)
            if len(rows) == limit or looked_at == most:
                if rows or not to_first:
                    return rows, row[0]
                return self._scan_from_first(topics, row[0], tip, limit)
        return rows, tip

    def _scan_from_first(self, topics: TopicFilter, after: int, tip: int, limit: int) -> tuple[list[_Row], int]:
        found = [self._execute(f"SELECT min(id) {_OF_TOPIC} AND id > ?", (name, after)) for name in topics.exact]
        found += [
            self._execute(f"SELECT min(id) {_BELOW_PREFIX} AND id > ?", (*_bounds(prefix), after))
            for prefix in topics.prefixes
        ]
        first = min((id_ for cursor in found for (id_,) in cursor if id_ is not None), default=None)
        return ([], tip) if first is None else self._scan(topics, first - 1, tip, limit, to_first=False)

    def _find_newest(self, topics: TopicFilter, count: int) -> list[_Row]:
        """Return the newest rows, the newest first."""
        names = self._names(topics)
        if names is not None:
            query = "SELECT id, topic, payload FROM events WHERE topic = ? ORDER BY id DESC"
            found: list[Iterable[_Row]] = [self._execute(query, (name,)) for name in names]
            found += [self._holds.newest_first(name) for name in topics.exact]
            return list(islice(merge(*found, key=_ID, reverse=True), count))
        hub = self._execute("SELECT id, topic, payload FROM events ORDER BY id DESC")
        if topics.matches_all:
            return list(islice(hub, count))
        lately = islice(hub, events_of_a_step(_SCAN, topics))
        rows = list(islice((row for row in lately if topics.matches(row[1])), count))
        return rows if len(rows) == count else self._find_newest_by_index(topics, count)

    def _find_newest_by_index(self, topics: TopicFilter, count: int) -> list[_Row]:
        newest = "ORDER BY id DESC LIMIT ?"
        found = [self._execute(f"SELECT id {_OF_TOPIC} {newest}", (name, count)) for name in topics.exact]
        found += [
            self._execute(f"SELECT id {_BELOW_PREFIX} {newest}", (*_bounds(prefix), count))
            for prefix in topics.prefixes
        ]
        ids = nlargest(count, chain.from_iterable(found))
        query = "SELECT id, topic, payload FROM events WHERE id = ?"
        return [self._execute(query, id_).fetchone() for id_ in ids]

    def _names(self, topics: TopicFilter) -> list[str] | None:
        """Return the selected topics, or None for all topics and for too many below prefixes to be merged."""
        if topics.matches_all:
            return None
        below: list[str] = []
        query = "SELECT name FROM topics WHERE name >= ? AND name < ? AND events > 0 LIMIT ?"
        for prefix in topics.prefixes:
            below += [name for (name,) in self._execute(query, (*_bounds(prefix), _MERGED + 1 - len(below)))]
            if len(below) > _MERGED:
                return None
        return [*topics.exact, *below]


def _bounds(prefix: str) -> tuple[str, str]:
    """Return the bounds of all names below a prefix, which ends in "/"; "0" is the character after "/"."""
    return prefix, f"{prefix[:-1]}0"
