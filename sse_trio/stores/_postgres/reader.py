# Reading from the log: each answer from one snapshot. Blocks; runs in a thread.
#
# Rule 1: a page is read in one transaction (REPEATABLE READ), so that its events, its gap and its tip belong to the
#         same moment.
# Rule 2: topics that are named are read by their index, and so are topics below a prefix if they are few. If they are
#         many, the reader scans the hub's log, a bounded number of events at a time; where they are rare in it, the
#         index says where they are.
# Rule 3: an id that was lost with a primary is in no history (failover.py), whoever reads on from there.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast, final

from .._gaps import asked_for, make_page, start_reading
from .._protocol import EventId, Gap, Page, StoredEvent
from .._scan import events_of_a_step
from .._topics import TopicFilter
from .connection import PostgresConnection, PostgresServer, transaction
from .failover import Failovers
from .holds import Record, read_due, read_held
from .names import from_text, to_text
from .selection import Row, below, is_selected, names_of, newest_of_names, rows_of_names

__all__ = ("PostgresReader",)

_SCAN = 8192  # events that one page looks at
_INDEXED = 8192  # index entries that one page merges, for topics that are named

_STATE = (
    "SELECT id, epoch, sequence, trimmed_to, floor, EXISTS (SELECT FROM kept_events k WHERE k.hub = hubs.id), "
    "EXISTS (SELECT FROM outbox o WHERE o.hub = hubs.name) FROM hubs WHERE name = %s"
)


class _State(NamedTuple):
    """What the row of a hub says, and whether there are kept events and events in the outbox."""

    id: int
    epoch: str
    sequence: int
    trimmed_to: int
    floor: int
    has_kept: bool
    has_waiting: bool


@final
class PostgresReader:
    """Reads one hub.

    Args:
        server: for its statement that begins transactions.
        hub: its name.
        failovers: what the process knows of its history.
    """

    def __init__(self, server: PostgresServer, hub: str, failovers: Failovers) -> None:
        self._begin = server.begin_read
        self._hub = hub
        self._failovers = failovers
        self.has_waiting = False
        """Whether there was something in the outbox at the latest read."""

    def read(
        self, connection: PostgresConnection, topics: TopicFilter, after: EventId | Page | None, limit: int
    ) -> Page:
        """See :meth:`EventStore.read`."""
        self._failovers.look(connection)
        id_, _ = asked_for(after)
        if id_ is None or not self._failovers.has_lost(id_):
            return self._read(connection, topics, after, limit)
        page = self._read(connection, topics, id_._replace(sequence=-1), limit)
        return page._replace(gap=Gap(id_, page.events[0].id if page.events else None))

    def _read(
        self, connection: PostgresConnection, topics: TopicFilter, after: EventId | Page | None, limit: int
    ) -> Page:
        with transaction(connection, self._begin):
            read = self._start(connection, topics)
            tip, trimmed_to = read.ends(after)
            start = start_reading(after, tip, trimmed_to)
            rows, last = read.select(start.sequence, tip.sequence, limit, to_first=start.missed)
        return make_page(after, start, _events(tip.epoch, rows), last, tip, trimmed_to)

    def read_last(self, connection: PostgresConnection, topics: TopicFilter, count: int) -> Page:
        """See :meth:`EventStore.read_last`."""
        with transaction(connection, self._begin):
            read = self._start(connection, topics)
            tip, trimmed_to = read.ends(None)
            rows = read.find_newest(count) if count else []
        return Page(_events(tip.epoch, reversed(rows)), tip, None, tip, EventId(tip.epoch, trimmed_to))

    def held(self, connection: PostgresConnection, topic: str) -> tuple[str, list[Record]]:
        """Return the epoch, and the record of a held topic, if there is one."""
        with transaction(connection, self._begin):
            epoch = self._state(connection).epoch
            found = read_held(connection, self._hub, topic)
        return epoch, [] if found is None else [found]

    def held_due(self, connection: PostgresConnection, prefix: str, limit: int) -> tuple[str, list[Record]]:
        """Return the epoch, and the records below a prefix that are due first."""
        with transaction(connection, self._begin):
            return self._state(connection).epoch, read_due(connection, self._hub, prefix, limit)

    def epoch_of(self, connection: PostgresConnection) -> str:
        """Return the epoch of the hub."""
        with transaction(connection, self._begin):
            return self._state(connection).epoch

    def _start(self, connection: PostgresConnection, topics: TopicFilter) -> _Read:
        state = self._state(connection)
        self.has_waiting = state.has_waiting
        return _Read(connection, state, topics)

    def _state(self, connection: PostgresConnection) -> _State:
        found = connection.run(_STATE, (self._hub,)).fetchone()
        # Without a row the history is lost, and the next append starts another one: no id fits this epoch.
        return _State(*found) if found is not None else _State(0, "", 0, 0, 0, has_kept=False, has_waiting=False)


def _events(epoch: str, rows: Iterable[Row]) -> tuple[StoredEvent, ...]:
    return tuple([StoredEvent(EventId(epoch, id_), from_text(topic), payload) for id_, topic, payload in rows])


@final
class _Read:
    """A read of some topics, within one transaction."""

    def __init__(self, connection: PostgresConnection, state: _State, topics: TopicFilter) -> None:
        self._connection = connection
        self._state = state
        self._topics = topics
        self._exact = [to_text(name) for name in topics.exact]
        self._prefixes = [to_text(prefix) for prefix in topics.prefixes]

    def ends(self, after: EventId | Page | None) -> tuple[EventId, int]:
        """Return the tip of the hub, and the newest sequence that is gone from these topics, if it matters."""
        state = self._state
        tip = EventId(state.epoch, state.sequence)
        if after is not None and not start_reading(after, tip, state.trimmed_to).missed:
            return tip, asked_for(after)[1]  # the reader has seen, or knows of, everything that is gone
        if self._topics.matches_all or not state.trimmed_to:
            return tip, state.trimmed_to
        return tip, max([*map(self._end_of_prefix, self._prefixes), *self._ends_of_topics()])

    def _ends_of_topics(self) -> Sequence[int]:
        if not self._exact:
            return ()
        found = self._connection.run(
            "SELECT t.trimmed_to FROM unnest(%s::text[]) AS asked (name) JOIN topics t ON t.hub = %s "
            'AND left(t.name, 600) = left(asked.name COLLATE "C", 600) AND t.name = asked.name COLLATE "C"',
            (self._exact, self._state.id),
        ).fetchall()
        ends = [int(end) for (end,) in found]
        return ends if len(ends) == len(self._exact) else [*ends, self._state.floor]

    def _end_of_prefix(self, prefix: str) -> int:
        condition, bounds = below("name", prefix)
        of_topics = self._one_number(f"SELECT max(trimmed_to) FROM topics WHERE hub = %s AND {condition}", bounds)
        condition, bounds = below("topic", prefix)
        of_holds = self._one_number(f"SELECT max(moved_to) FROM holds WHERE hub = %s AND {condition}", bounds)
        return max(self._state.floor, of_topics or 0, of_holds or 0)

    def _one_number(self, query: str, values: Sequence[object]) -> int | None:
        found = self._connection.run(query, (self._state.id, *values)).fetchone()
        return cast("tuple[int | None]", found)[0]

    def select(self, start: int, tip: int, limit: int, *, to_first: bool) -> tuple[list[Row], int]:
        """Return rows after ``start``, and the id up to which these are all."""
        names = names_of(self._connection, self._state.id, self._topics, self._exact, self._prefixes)
        if names is None:
            return self._scan(start, tip, limit, to_first=to_first)
        limit = min(limit, max(1, _INDEXED // max(1, len(names))))
        rows = rows_of_names(self._connection, self._state.id, "events", names, start, limit)
        if self._state.has_kept:
            rows += rows_of_names(self._connection, self._state.id, "kept_events", self._exact, start, limit)
            rows = sorted(rows)[:limit]
        return rows, (rows[-1][0] if len(rows) == limit else tip)

    def _scan(self, start: int, tip: int, limit: int, *, to_first: bool) -> tuple[list[Row], int]:
        if self._topics.matches_all:
            rows = self._rows("id > %s ORDER BY id LIMIT %s", start, limit)
            return rows, (rows[-1][0] if len(rows) == limit else tip)
        most = events_of_a_step(_SCAN, self._topics)
        upto = self._one_number(
            "SELECT max(id) FROM (SELECT id FROM events WHERE hub = %s AND id > %s ORDER BY id OFFSET %s LIMIT 1) AS o",
            (start, most - 1),
        )
        condition, values = is_selected(self._exact, self._prefixes)
        last = tip if upto is None else upto
        rows = self._rows(f"id > %s AND id <= %s AND {condition} ORDER BY id LIMIT %s", start, last, *values, limit)
        if len(rows) == limit:
            return rows, rows[-1][0]
        if rows or not to_first or upto is None:
            return rows, last
        return self._scan_from_first(upto, tip, limit)

    def _scan_from_first(self, after: int, tip: int, limit: int) -> tuple[list[Row], int]:
        firsts = rows_of_names(self._connection, self._state.id, "events", self._exact, after, 1)
        found = [first[0] for first in firsts]
        for prefix in self._prefixes:
            condition, bounds = below("topic", prefix)
            query = f"SELECT min(id) FROM events WHERE hub = %s AND {condition} AND id > %s"
            first = self._one_number(query, (*bounds, after))
            found += [] if first is None else [first]
        return self._scan(min(found) - 1, tip, limit, to_first=False) if found else ([], tip)

    def _rows(self, condition: str, *values: object) -> list[Row]:
        query = f"SELECT id, topic, payload FROM events WHERE hub = %s AND {condition}"
        return cast("list[Row]", self._connection.run(query, (self._state.id, *values)).fetchall())

    def find_newest(self, count: int) -> list[Row]:
        """Return the newest rows, the newest first."""
        if self._topics.matches_all:
            return self._rows("true ORDER BY id DESC LIMIT %s", count)
        names = names_of(self._connection, self._state.id, self._topics, self._exact, self._prefixes)
        if names is None:
            return self._scan_back(count)
        rows = newest_of_names(self._connection, self._state.id, "events", names, count)
        if self._state.has_kept:
            rows += newest_of_names(self._connection, self._state.id, "kept_events", self._exact, count)
        return sorted(rows, reverse=True)[:count]

    def _scan_back(self, count: int) -> list[Row]:
        """Look at the newest events of the hub; where the selected ones are rare, the index says where they are."""
        condition, values = is_selected(self._exact, self._prefixes)
        most = events_of_a_step(_SCAN, self._topics)
        oldest = self._one_number(
            "SELECT max(id) FROM (SELECT id FROM events WHERE hub = %s ORDER BY id DESC OFFSET %s LIMIT 1) AS o",
            (most,),
        )
        rows = self._rows(f"id > %s AND {condition} ORDER BY id DESC LIMIT %s", oldest or 0, *values, count)
        if len(rows) == count or oldest is None:
            return rows
        ids: list[Any] = [
            row[0] for row in newest_of_names(self._connection, self._state.id, "events", self._exact, count)
        ]
        for prefix in self._prefixes:
            of_prefix, bounds = below("topic", prefix)
            query = f"SELECT id FROM events WHERE hub = %s AND {of_prefix} ORDER BY id DESC LIMIT %s"
            ids += [id_ for (id_,) in self._connection.run(query, (self._state.id, *bounds, count))]
        return self._rows("id = ANY(%s) ORDER BY id DESC LIMIT %s", ids, count)
