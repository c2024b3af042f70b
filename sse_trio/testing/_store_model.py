# A model of a store: the right answers, computed in a slow and obvious way from a list of everything ever appended.
#
# Rule 1: the model shares no technique with a store. It computes every answer anew from the list and the trimmed ids.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..stores import Retention
from ..stores._protocol import EventId
from ..stores._topic_limits import PerTopic
from ..stores._topics import TopicFilter

__all__ = ("Expected", "StoreModel")


class Expected(NamedTuple):
    """The right result of reading from an id to the tip."""

    events: list[tuple[int, str, bytes]]
    gap: bool


class StoreModel:
    """A list of events, and the ids of those that retention has trimmed."""

    def __init__(self, epoch: str, hub: Retention, topic: PerTopic) -> None:
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
        """Return the events of these topics that are still kept, the oldest first."""
        return [event for event in self.events if event[0] not in self.trimmed and topics.matches(event[1])]

    def appended(self, ids: Sequence[EventId], items: Sequence[tuple[str, bytes]]) -> None:
        """Add the events of an append, and trim as the store must."""
        self.events += [(id_.sequence, topic, payload) for id_, (topic, payload) in zip(ids, items, strict=True)]
        for topic in {topic for topic, _ in items}:
            self._trim(TopicFilter(topic), self._limits_of(topic))
        self._trim(TopicFilter("*"), self._hub)

    def _limits_of(self, topic: str) -> Retention:
        if isinstance(self._topic, Retention):
            return self._topic
        matching = [pattern for pattern in self._topic if TopicFilter(pattern).matches(topic)]
        longest = max(matching, key=lambda pattern: ("*" not in pattern, len(pattern)), default=None)
        return Retention() if longest is None else self._topic[longest]

    def _trim(self, topics: TopicFilter, limits: Retention) -> None:
        kept = self.kept(topics)
        count, size = len(kept), sum(len(event[2]) for event in kept)
        oldest = iter(kept)
        while limits.exceeded_by(count, size):
            sequence, _, payload = next(oldest)
            self.trimmed.add(sequence)
            count, size = count - 1, size - len(payload)

    def expected(self, topics: TopicFilter, after: EventId | None) -> Expected:
        """Return the right result for a reader that starts after ``after``."""
        if after is None:
            return Expected(self.kept(topics), gap=False)
        if after.epoch != self.epoch or not 0 <= after.sequence <= self.tip:
            return Expected(self.kept(topics), gap=True)
        newer = [event for event in self.events if event[0] > after.sequence and topics.matches(event[1])]
        left = [event for event in newer if event[0] not in self.trimmed]
        return Expected(left, gap=left != newer)

    def every_id(self) -> Iterable[EventId | None]:
        """Yield every kind of id that a client can name: none, given ones, the start, future and foreign ones."""
        yield None
        yield from (EventId(self.epoch, sequence) for sequence in range(self.tip + 3))
        yield EventId(self.epoch, 10**17)
        yield EventId("other", 1)
        yield EventId.parse("no id at all")
