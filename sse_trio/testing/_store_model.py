# What a store has to answer, computed the slow and obvious way: from a list of everything that was ever appended.
#
# Rule 1: no cleverness that a store might share. Every answer is derived anew from the list and from what was trimmed.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..stores import Retention
from ..stores._protocol import EventId
from ..stores._topics import TopicFilter

__all__ = ("Expected", "StoreModel")


class Expected(NamedTuple):
    """What reading from an id until the tip must give."""

    events: list[tuple[int, str, bytes]]
    gap: bool


class StoreModel:
    """A list of events, and which of them retention has taken."""

    def __init__(self, epoch: str, hub: Retention, topic: Retention) -> None:
        self.epoch = epoch
        self.events: list[tuple[int, str, bytes]] = []
        self.trimmed: set[int] = set()
        self._hub = hub
        self._topic = topic

    @property
    def tip(self) -> int:
        """The sequence of the newest event."""
        return self.events[-1][0] if self.events else 0

    def kept(self, topics: TopicFilter) -> list[tuple[int, str, bytes]]:
        """The events of these topics that are still there, the oldest first."""
        return [event for event in self.events if event[0] not in self.trimmed and topics.matches(event[1])]

    def appended(self, ids: Sequence[EventId], items: Sequence[tuple[str, bytes]]) -> None:
        """Note what a store said that it has kept, and trim as it must have."""
        self.events += [(id_.sequence, topic, payload) for id_, (topic, payload) in zip(ids, items, strict=True)]
        for topic in {topic for topic, _ in items}:
            self._trim(TopicFilter(topic), self._topic)
        self._trim(TopicFilter("*"), self._hub)

    def _trim(self, topics: TopicFilter, limits: Retention) -> None:
        kept = self.kept(topics)
        count, size = len(kept), sum(len(event[2]) for event in kept)
        oldest = iter(kept)
        while limits.exceeded_by(count, size):
            sequence, _, payload = next(oldest)
            self.trimmed.add(sequence)
            count, size = count - 1, size - len(payload)

    def expected(self, topics: TopicFilter, after: EventId | None) -> Expected:
        """Return what a reader from ``after`` gets."""
        if after is None:
            return Expected(self.kept(topics), gap=False)
        if after.epoch != self.epoch or not 0 <= after.sequence <= self.tip:
            return Expected(self.kept(topics), gap=True)
        newer = [event for event in self.events if event[0] > after.sequence and topics.matches(event[1])]
        left = [event for event in newer if event[0] not in self.trimmed]
        return Expected(left, gap=left != newer)

    def every_id(self) -> Iterable[EventId | None]:
        """Every id that a client can name: all that were given, the start, the future, foreign ones, none."""
        yield None
        yield from (EventId(self.epoch, sequence) for sequence in range(self.tip + 3))
        yield EventId(self.epoch, 10**17)
        yield EventId("other", 1)
        yield EventId.parse("no id at all")
