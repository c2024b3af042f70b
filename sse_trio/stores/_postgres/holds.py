# Held topics: their records, and their events that the limits of the hub would have taken. Blocks.
#
# Rule 1: when the limits of the hub reach an event of a held topic, it moves to `kept_events`, once. A read by topic
#         looks there first: what it has is older.
# Rule 2: for prefixes, an event that was moved is gone: `moved_to` is the newest of them in each topic.
# Rule 3: the clock of the server decides when a hold is due.

from __future__ import annotations

from typing import cast, final

from .._holds import ANYONE, Claim
from .connection import PostgresConnection
from .names import OF_TOPIC, from_text, to_text

__all__ = ("HoldsWriter", "Record", "read_due", "read_held")

Record = tuple[str, str, bytes, float, int]
"""Topic, token, value, the seconds until it is due, the newest sequence when its value was set."""

_NOW = "extract(epoch FROM clock_timestamp())::float8"
_RECORD = (
    f"SELECT topic, token, value, due - {_NOW}, upto FROM holds WHERE hub = (SELECT id FROM hubs WHERE name = %s) AND"
)


@final
class HoldsWriter:
    """The records of a hub, within one transaction. Topics are as they are kept."""

    __slots__ = ("_connection", "_hub", "_known")

    def __init__(self, connection: PostgresConnection, hub: int) -> None:
        self._connection = connection
        self._hub = hub
        self._known: dict[str, str | None] = {}

    def token_of(self, topic: str) -> str | None:
        """Return the token of a topic, if it is held."""
        if topic not in self._known:
            found = self._connection.run(
                f"SELECT token FROM holds WHERE {OF_TOPIC}", (self._hub, topic, topic)
            ).fetchone()
            self._known[topic] = None if found is None else from_text(found[0])
        return self._known[topic]

    def allows(self, claim: Claim) -> bool:
        """Whether the topic has the token that the claim expects."""
        return claim.expected in (ANYONE, self.token_of(to_text(claim.topic)))

    def change(self, claim: Claim, end: int) -> None:
        """Change the record as the claim says. ``end`` is the newest sequence of the hub after it."""
        topic, token = to_text(claim.topic), claim.token
        if token == ANYONE:
            return
        one = (self._hub, topic, topic)
        if token is None:
            self._connection.run(f"DELETE FROM holds WHERE {OF_TOPIC}", one)
        elif self.token_of(topic) is None:
            self._connection.run(
                f"INSERT INTO holds (hub, topic, token, value, due, upto) VALUES (%s, %s, %s, %s, {_NOW} + %s, %s)",
                (self._hub, topic, to_text(token), claim.value or b"", claim.seconds or 0.0, end),
            )
        else:
            self._connection.run(
                f"UPDATE holds SET token = %s, value = coalesce(%s, value), due = coalesce({_NOW} + %s::float8, due), "
                f"upto = coalesce(%s, upto) WHERE {OF_TOPIC}",
                (to_text(token), claim.value, claim.seconds, None if claim.value is None else end, *one),
            )
        self._known[topic] = token

    def keep(self, upto: int) -> None:
        """Copy the events up to this id that are of held topics, before they are deleted."""
        self._connection.run(
            "WITH kept AS (INSERT INTO kept_events (hub, id, topic, payload) SELECT e.hub, e.id, e.topic, e.payload "
            "FROM holds h JOIN events e ON e.hub = h.hub AND left(e.topic, 600) = left(h.topic, 600) "
            "AND e.topic = h.topic WHERE h.hub = %s AND e.id <= %s RETURNING topic, id) "
            "UPDATE holds SET moved_to = newest.id FROM (SELECT topic, max(id) AS id FROM kept GROUP BY topic) newest "
            "WHERE hub = %s AND holds.topic = newest.topic",
            (self._hub, upto, self._hub),
        )

    def clear(self, topic: str) -> int:
        """Delete what was kept of a topic; return the newest sequence of it, or 0."""
        (last,) = cast(
            "tuple[int]",
            self._connection.run(
                f"WITH gone AS (DELETE FROM kept_events WHERE {OF_TOPIC} RETURNING id) "
                "SELECT coalesce(max(id), 0) FROM gone",
                (self._hub, topic, topic),
            ).fetchone(),
        )
        return last


def read_held(connection: PostgresConnection, hub: str, topic: str) -> Record | None:
    """Return the record of a topic. Within a transaction."""
    name = to_text(topic)
    query = f"{_RECORD} left(topic, 600) = left(%s, 600) AND topic = %s"
    found = connection.run(query, (hub, name, name)).fetchone()
    return None if found is None else _as_record(cast("Record", found))


def read_due(connection: PostgresConnection, hub: str, prefix: str, limit: int) -> list[Record]:
    """Return the records below a prefix that are due first. Within a transaction."""
    query = f"{_RECORD} starts_with(topic, %s) ORDER BY due LIMIT %s"
    found = connection.run(query, (hub, to_text(prefix), limit)).fetchall()
    return [_as_record(cast("Record", record)) for record in found]


def _as_record(record: Record) -> Record:
    topic, token, value, due_in, upto = record
    return from_text(topic), from_text(token), value, due_in, upto
