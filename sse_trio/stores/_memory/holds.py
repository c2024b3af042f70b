# The records of held topics, in memory. No events: the store has those.

from __future__ import annotations

from collections.abc import Container
from heapq import nsmallest
from typing import final

from ..._errors import HoldLostError
from .._holds import ANYONE, Claim, Held
from .._protocol import EventId

__all__ = ("Holds",)


@final
class Holds(Container[str]):
    """The records, by topic."""

    __slots__ = ("_records",)

    def __init__(self) -> None:
        self._records: dict[str, tuple[str, bytes, float, EventId]] = {}

    def __contains__(self, topic: object) -> bool:
        return topic in self._records

    def check(self, claim: Claim) -> None:
        """Raise HoldLostError if the topic has another token than the claim expects."""
        record = self._records.get(claim.topic)
        token = None if record is None else record[0]
        if claim.expected not in (ANYONE, token):
            raise HoldLostError(claim.topic)

    def change(self, claim: Claim, now: float, end: EventId) -> None:
        """Change the record as a claim says that was checked. ``end`` is the newest event of the store."""
        record = self._records.get(claim.topic)
        if claim.token is None:
            self._records.pop(claim.topic, None)
        elif claim.token != ANYONE:
            _, value, due, old_end = record or ("", b"", now, end)
            due = due if claim.seconds is None else now + claim.seconds
            value, end = (value, old_end) if claim.value is None else (claim.value, end)
            self._records[claim.topic] = (claim.token, value, due, end)

    def get(self, topic: str, now: float) -> Held | None:
        """Return the record of a topic."""
        record = self._records.get(topic)
        if record is None:
            return None
        token, value, due, end = record
        return Held(topic, token, value, due - now, end)

    def due(self, prefix: str, limit: int, now: float) -> list[Held]:
        """Return the records below a prefix that are due first."""
        below = [topic for topic in self._records if topic.startswith(prefix)]
        first = nsmallest(limit, below, key=lambda topic: self._records[topic][2])
        return [held for topic in first if (held := self.get(topic, now)) is not None]
