# What users have published in transactions of their own, and that is not in the log yet. Blocks.
#
# Rule 1: whoever moves has locked the hub before it looks. What is committed is then moved once, and what is not
#         committed yet is not seen, and moved by a later look.
# Rule 2: events come in the order in which their transactions committed, and those of one transaction stay together:
#         nothing else is appended while something waits.
# Rule 3: a transaction of ours moves a bounded number of them. One statement for a million would get no answer in time,
#         in any try, and the hub would stand still.

from __future__ import annotations

from typing import Any

from .._append import Append
from .connection import PostgresConnection
from .names import from_text

__all__ = ("OutboxAppend", "take_waiting")

_AT_ONCE = 10_000  # events
_BYTES_AT_ONCE = 16 * 1024 * 1024

_RANKED = (
    "SELECT id, octet_length(payload) AS size, row_number() OVER places AS n, "
    "sum(octet_length(payload)) OVER places AS upto, count(*) OVER () AS total FROM "
    "(SELECT id, payload, max(place) OVER (PARTITION BY transaction) AS newest FROM outbox WHERE hub = %s) AS waiting "
    "WINDOW places AS (ORDER BY newest, id)"
)
_TAKE = (
    f"WITH ranked AS ({_RANKED}), taken AS (DELETE FROM outbox o USING ranked r WHERE o.id = r.id AND n <= %s "
    "AND upto - size < %s RETURNING n, topic, payload, producer, number, total) "
    "SELECT topic, payload, producer, number, total FROM taken ORDER BY n"
)


class OutboxAppend(Append):
    """An append of one event, whose key's producer is a digest already."""

    __slots__ = ("digest",)

    def __init__(self, topic: str, payload: bytes, digest: bytes | None, number: int | None) -> None:
        super().__init__([(topic, payload)], None if number is None else ("", number))
        self.digest = digest


def take_waiting(connection: PostgresConnection, hub: str) -> tuple[list[Append], bool]:
    """Take out what waits, or as much as one transaction moves; and say whether that is all. The hub is locked."""
    rows: list[Any] = connection.run(_TAKE, (hub, _AT_ONCE, _BYTES_AT_ONCE)).fetchall()
    taken: list[Append] = [
        OutboxAppend(from_text(topic), payload, digest, number) for topic, payload, digest, number, _ in rows
    ]
    return taken, not rows or rows[0][-1] == len(rows)
