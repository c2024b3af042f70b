# What users have published in transactions of their own, and that is not in the log yet. Blocks.
#
# Rule 1: whoever moves has locked the hub before it looks. What is committed is then moved once, and what is not
#         committed yet is not seen, and moved by a later look.
# Rule 2: events come in the order in which their transactions committed, and those of one transaction stay together.

from __future__ import annotations

from typing import Any

from .._append import Append
from .connection import PostgresConnection
from .names import from_text

__all__ = ("OutboxAppend", "take_waiting")

_TAKE = (
    "WITH taken AS (DELETE FROM outbox WHERE hub = %s "
    "RETURNING id, topic, payload, producer, number, transaction, place) "
    "SELECT topic, payload, producer, number FROM taken ORDER BY max(place) OVER (PARTITION BY transaction), id"
)


class OutboxAppend(Append):
    """An append of one event, whose key's producer is a digest already."""

    __slots__ = ("digest",)

    def __init__(self, topic: str, payload: bytes, digest: bytes | None, number: int | None) -> None:
        super().__init__([(topic, payload)], None if number is None else ("", number))
        self.digest = digest


def take_waiting(connection: PostgresConnection, hub: str) -> list[Append]:
    """Take what waits out of the outbox. The hub is locked."""
    rows: list[Any] = connection.run(_TAKE, (hub,)).fetchall()
    return [OutboxAppend(from_text(topic), payload, digest, number) for topic, payload, digest, number in rows]
