# The statements of a transaction that writes to a hub. What they are for is decided in group.py. Blocks.
#
# Rule 1: a query for many names is one query. A group of a thousand appends costs about as many as one append.
# Rule 2: a topic is looked for by its first 600 characters too, which are what its index has.

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias, cast, final

from .connection import PostgresConnection
from .expiry import DUE, IS_MARKED
from .figures import Figures
from .names import OF_TOPIC

__all__ = ("HubRow", "Key", "Result", "Row", "Tables")

Key: TypeAlias = tuple[bytes, int]
"""The key of an append: the digest of its producer, and its number."""
Result: TypeAlias = tuple[int, int]
"""What came of an append: the first of its sequences, and how many there are."""
Row: TypeAlias = tuple[int, str, int, float, str | None]
"""An event: its sequence, its topic, its size, its time, and the token of its topic, if that is held."""


class HubRow(NamedTuple):
    """The row of a hub, and the server's clock."""

    id: int
    epoch: str
    sequence: int
    latest: float
    events: int
    size: int
    trimmed_to: int
    floor: int
    cut_upto: list[int]
    cut_time: list[float]
    now: float


@final
class Tables:
    """The rows of one hub. Topics are as they are kept."""

    __slots__ = ("_hub", "_run")

    def __init__(self, connection: PostgresConnection, hub: int) -> None:
        self._run = connection.run
        self._hub = hub

    # --- events

    def insert_events(self, rows: Sequence[tuple[int, str, bytes]], stamp: float) -> None:
        """Add events: sequence, topic, payload."""
        self._run(
            "INSERT INTO events (hub, id, topic, time, payload) SELECT %s, id, topic, %s, payload "
            "FROM unnest(%s::bigint[], %s::text[], %b::bytea[]) AS new (id, topic, payload)",
            (self._hub, stamp, *_columns(rows)),
        )

    def oldest(self, after: int, most: int) -> list[Row]:
        """Return the oldest events after this sequence."""
        rows = self._run(
            "SELECT e.id, e.topic, length(e.payload), e.time, h.token FROM events e LEFT JOIN holds h ON h.hub = e.hub "
            "AND left(h.topic, 600) = left(e.topic, 600) AND h.topic = e.topic "
            "WHERE e.hub = %s AND e.id > %s ORDER BY e.id LIMIT %s",
            (self._hub, after, most),
        ).fetchall()
        return cast("list[Row]", rows)

    def oldest_of(self, topic: str, after: int, most: int) -> list[tuple[int, int, float]]:
        """Return sequence, size and time of the oldest events of a topic."""
        query = f"SELECT id, length(payload), time FROM events WHERE {OF_TOPIC} AND id > %s ORDER BY id LIMIT %s"
        rows = self._run(query, (self._hub, topic, topic, after, most)).fetchall()
        return cast("list[tuple[int, int, float]]", rows)

    def delete_events(self, sequences: Sequence[int]) -> None:
        """Delete these events."""
        self._run("DELETE FROM events WHERE hub = %s AND id = ANY(%s)", (self._hub, sequences))

    def delete_up_to(self, last: int) -> None:
        """Delete the events up to this one."""
        self._run("DELETE FROM events WHERE hub = %s AND id <= %s", (self._hub, last))

    def delete_of(self, topic: str, last: int) -> None:
        """Delete the events of a topic up to this one."""
        self._run(f"DELETE FROM events WHERE {OF_TOPIC} AND id <= %s", (self._hub, topic, topic, last))

    def clear(self, topic: str) -> tuple[int, int, int]:
        """Delete the events of a topic, and return how many they were, their size, and the last of them."""
        found = self._run(
            f"WITH gone AS (DELETE FROM events WHERE {OF_TOPIC} RETURNING id, length(payload) AS size) "
            "SELECT count(*), coalesce(sum(size), 0)::bigint, coalesce(max(id), 0) FROM gone",
            (self._hub, topic, topic),
        ).fetchone()
        return cast("tuple[int, int, int]", found)

    def delete_expired(self, now: float, most: int) -> list[tuple[str, int]]:
        """Delete at most this many of the events that have expired, and return the topic and the size of each."""
        expired = f"SELECT id FROM events WHERE hub = %s AND {IS_MARKED} AND {DUE} <= %s LIMIT %s"
        rows = self._run(
            f"DELETE FROM events WHERE hub = %s AND id = ANY(ARRAY({expired})) RETURNING topic, length(payload)",
            (self._hub, self._hub, now, most),
        ).fetchall()
        return cast("list[tuple[str, int]]", rows)

    # --- topics

    def topics(self, names: Sequence[str]) -> dict[str, Figures]:
        """Return the figures of those topics that have any."""
        found = self._run(
            "SELECT t.name, t.events, t.bytes, t.trimmed_to, t.id FROM unnest(%s::text[]) AS asked (name) "
            'JOIN topics t ON t.hub = %s AND left(t.name, 600) = left(asked.name COLLATE "C", 600) '
            'AND t.name = asked.name COLLATE "C"',
            (names, self._hub),
        )
        return {name: Figures(*figures) for name, *figures in found}

    def write_topics(self, topics: Mapping[str, Figures]) -> None:
        """Write the figures of topics."""
        new = [(name, t.events, t.size, t.trimmed_to) for name, t in topics.items() if t.row is None]
        old = [(t.row, t.events, t.size, t.trimmed_to) for t in topics.values() if t.row is not None]
        if new:
            self._run(
                "INSERT INTO topics (hub, name, events, bytes, trimmed_to) SELECT %s, * "
                "FROM unnest(%s::text[], %s::bigint[], %s::bigint[], %s::bigint[])",
                (self._hub, *_columns(new)),
            )
        if old:
            self._run(
                "UPDATE topics SET events = new.events, bytes = new.bytes, trimmed_to = new.trimmed_to FROM "
                "unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[]) AS new (id, events, bytes, trimmed_to) "
                "WHERE topics.id = new.id",
                _columns(old),
            )

    def forget_topics(self, most: int) -> int:
        """Drop the oldest topics without events beyond this many, and return up to which event that may be; or 0."""
        found = self._run(
            "SELECT trimmed_to FROM topics WHERE hub = %s AND events = 0 ORDER BY trimmed_to DESC LIMIT 1 OFFSET %s",
            (self._hub, most),
        ).fetchone()
        if found is None:
            return 0
        (floor,) = cast("tuple[int]", found)
        self._run("DELETE FROM topics WHERE hub = %s AND events = 0 AND trimmed_to <= %s", (self._hub, floor))
        return floor

    # --- keys, writers, the hub

    def keys(self, keys: Sequence[Key]) -> dict[Key, Result]:
        """Return what came of the appends with these keys."""
        found = self._run(
            "SELECT k.producer, k.number, k.first, k.count "
            "FROM unnest(%b::bytea[], %s::bigint[]) AS asked (producer, number) "
            "JOIN keys k ON k.hub = %s AND k.producer = asked.producer AND k.number = asked.number",
            (*_columns(keys), self._hub),
        )
        return {(producer, number): (first, count) for producer, number, first, count in found}

    def insert_keys(self, rows: Sequence[tuple[bytes, int, int, int]], stamp: float) -> None:
        """Add keys, with what came of their appends."""
        self._run(
            "INSERT INTO keys (hub, producer, number, first, count, time) SELECT %s, *, %s "
            "FROM unnest(%b::bytea[], %s::bigint[], %s::bigint[], %s::bigint[])",
            (self._hub, stamp, *_columns(rows)),
        )

    def forget_keys(self, old: float, now: float, cut: int) -> None:
        """Drop the keys of before ``old``. Of those from a later time than now, the ones up to ``cut``."""
        self._run(
            "DELETE FROM keys WHERE hub = %s AND (time < %s OR (time > %s AND first <= %s))",
            (self._hub, old, now, cut),
        )

    def forget_writers(self, old: float) -> None:
        """Drop the writers of before ``old``."""
        self._run("DELETE FROM writers WHERE hub = %s AND time < %s", (self._hub, old))

    def results_of(self, writer: bytes, number: int) -> list[Result] | None:
        """Return what came of a group, if it was committed."""
        query = "SELECT firsts, counts FROM writers WHERE hub = %s AND writer = %s AND number = %s"
        found = self._run(query, (self._hub, writer, number)).fetchone()
        return None if found is None else [*zip(found[0], found[1], strict=True)]

    def write_results(self, writer: bytes, number: int, results: Sequence[Result], time: float) -> None:
        """Write what came of a group."""
        self._run(
            "INSERT INTO writers (hub, writer, number, firsts, counts, time) VALUES (%s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (hub, writer) DO UPDATE SET number = excluded.number, firsts = excluded.firsts, "
            "counts = excluded.counts, time = excluded.time",
            (self._hub, writer, number, [first for first, _ in results], [count for _, count in results], time),
        )

    def write_hub(
        self, epoch: str, sequence: int, latest: float, figures: Figures, floor: int, cuts: Sequence[tuple[int, float]]
    ) -> None:
        """Write the row of the hub."""
        self._run(
            "UPDATE hubs SET epoch = %s, sequence = %s, latest = %s, events = %s, bytes = %s, trimmed_to = %s, "
            "floor = %s, cut_upto = %s::bigint[], cut_time = %s::float8[] WHERE id = %s",
            (
                *(epoch, sequence, latest, figures.events, figures.size, figures.trimmed_to, floor),
                *([upto for upto, _ in cuts], [time for _, time in cuts], self._hub),
            ),
        )


def _columns(rows: Iterable[Sequence[object]]) -> list[list[object]]:
    return [[*column] for column in zip(*rows, strict=True)]
