# What a hub keeps in memory: the log of the hub, those of its topics, and what the limits take of them.
#
# Rule 1: no waiting. Each method is atomic.
# Rule 2: a topic loses its oldest events first. So one number, `trimmed_to`, says which of its events are gone, and an
#         entry of the hub's log is dead exactly if its sequence is not above its topic's number.
# Rule 3: an event that the limits of the hub reach stays in its topic if that is held.

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from itertools import islice
from typing import final

from .._ends import Ends, noted_prefix, prefixes_of, size_of_name
from .._expiry import EXPIRES
from .._holds import Claim
from .._protocol import EventId, StoredEvent, new_epoch
from .._retention import Retention
from .._scan import events_of_a_step
from .._topic_limits import TopicLimits
from .._topics import TopicFilter
from .aged import AgedLogs
from .expiries import Expiries
from .holds import Holds
from .log import Entry, Log

__all__ = ("HubLog",)

_SCAN = 4096  # entries of a log that are looked at in one turn of the event loop: about a millisecond
_LEAST_NAME_BYTES = 64 * 1024
_NAME_BYTES = 64 * 1024 * 1024  # without max_bytes
_COMPACT_FROM = 1024  # dead entries in the hub's log; fewer are not worth removing


@final
class HubLog:
    """The events of a hub, and which of them are gone.

    Args:
        limits: of the hub.
        topic_limits: of its topics.
    """

    def __init__(self, limits: Retention, topic_limits: TopicLimits) -> None:
        self.epoch = new_epoch()
        self.tip = 0
        """The sequence of the newest event."""
        self.holds = Holds()
        self._limits = limits
        self._topic_limits = topic_limits
        self._max_age = topic_limits.hub_age
        self._aged = AgedLogs(topic_limits) if topic_limits.ages else None
        self._hub = Log()  # with dead entries in it
        self._live = 0
        self._live_size = 0
        self._trimmed_to = 0  # the newest event of the hub that is gone
        self._topics: dict[str, Log] = {}  # those with events
        self._max_name_bytes = max(_LEAST_NAME_BYTES, limits.max_bytes or _NAME_BYTES)
        self._name_bytes = 0  # of those with events
        self._ends = Ends(self._max_name_bytes)  # of those without
        self._prefix_ends = Ends(self._max_name_bytes)
        self._expiries = Expiries()

    def __str__(self) -> str:
        return f"{self._live} events, {self._live_size} bytes, {len(self._topics)} topics"

    @property
    def tip_id(self) -> EventId:
        """The id of the newest event."""
        return EventId(self.epoch, self.tip)

    # --- appending

    def append(self, items: Sequence[tuple[str, bytes]], now: float) -> list[EventId]:
        """Add events, and trim."""
        ids = [EventId(self.epoch, self.tip + n) for n in range(1, len(items) + 1)]
        self.tip += len(items)
        for id_, (topic, payload) in zip(ids, items, strict=True):
            self._add(Entry(id_.sequence, now, StoredEvent(id_, topic, payload)))
        self.trim({topic for topic, _ in items}, now)
        return ids

    def take(self, claim: Claim, appended: int, now: float) -> None:
        """Do what a claim says that comes with this many events. HoldLostError if its topic has another token."""
        self.holds.check(claim)
        if claim.clear:
            self._clear(claim.topic)
        was_held = claim.topic in self.holds
        self.holds.change(claim, now, EventId(self.epoch, self.tip + appended))
        if claim.topic in self._topics and claim.topic in self.holds and not was_held:
            self._name_bytes -= size_of_name(claim.topic)

    def _add(self, entry: Entry) -> None:
        name = entry.event.topic
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Log(self._ends.pop(name))
            self._name_bytes += self._size_of_free(name)
        topic.append(entry)
        self._hub.append(entry)
        if self._aged is not None:
            self._aged.add(entry)
        self._live += 1
        self._live_size += len(entry.event.payload)
        if entry.event.payload[:9] == EXPIRES:  # not startswith(): this is done for every event
            self._expiries.add(entry)

    # --- reading

    def select(self, topics: TopicFilter, start: int, limit: int) -> tuple[tuple[StoredEvent, ...], int]:
        """Return events after ``start``, and the sequence up to which these are all."""
        if topics.prefixes:
            return self._scan(topics, start, limit)
        events = [entry.event for entry in islice(merge(*(log.after(start) for log in self._logs_of(topics))), limit)]
        return tuple(events), (events[-1].id.sequence if len(events) == limit else self.tip)

    def _logs_of(self, topics: TopicFilter) -> list[Log]:
        return [self._topics[name] for name in topics.exact if name in self._topics]

    def _scan(self, topics: TopicFilter, start: int, limit: int) -> tuple[tuple[StoredEvent, ...], int]:
        events: list[StoredEvent] = []
        most = events_of_a_step(_SCAN, topics)
        for looked_at, entry in enumerate(self._hub.after(start), 1):
            if topics.matches(entry.event.topic) and self._is_live(entry):
                events.append(entry.event)
            if len(events) == limit or looked_at == most:
                return tuple(events), entry.sequence
        return tuple(events), self.tip

    def newest_of(self, topics: TopicFilter) -> Iterator[StoredEvent]:
        """Yield the events of a choice without prefixes, the newest first. Valid until the log is changed."""
        logs = self._logs_of(topics)
        return (entry.event for entry in merge(*(log.newest_first() for log in logs), reverse=True))

    def scan_back(self, topics: TopicFilter, before: int, count: int, events: list[StoredEvent]) -> int | None:
        """Add to ``events`` those older than ``before``; return the sequence to go on from, or None at the start."""
        most = events_of_a_step(_SCAN, topics)
        for looked_at, entry in enumerate(self._hub.newest_first(before), 1):
            if topics.matches(entry.event.topic) and self._is_live(entry):
                events.append(entry.event)
            if len(events) == count or looked_at == most:
                return entry.sequence
        return None

    def end_of(self, topics: TopicFilter) -> int:
        """Return the newest sequence that was trimmed from these topics."""
        if topics.matches_all:
            return self._trimmed_to
        ends = [self._end_of_prefix(prefix) for prefix in topics.prefixes]
        return max([*ends, *(self._end_of_topic(name) for name in topics.exact)])

    def _end_of_topic(self, name: str) -> int:
        topic = self._topics.get(name)
        return self._ends.of(name) if topic is None else topic.trimmed_to

    def _end_of_prefix(self, prefix: str) -> int:
        return self._prefix_ends.of(noted_prefix(prefix))

    def _is_live(self, entry: Entry) -> bool:
        topic = self._topics.get(entry.event.topic)
        return topic is not None and entry.sequence > topic.trimmed_to

    # --- trimming

    def trim(self, grown: Iterable[str], now: float) -> None:
        """Take out what has expired, what is too old, and what is too much of the hub or of the topics that grew."""
        if self._expiries:
            self._expire(now)
        everywhere = self._topic_limits.everywhere
        for name in grown:
            log, limits = self._topics[name], everywhere or self._topic_limits.of(name)
            while name not in self.holds and limits.exceeded_by(len(log), log.size):
                self._drop_oldest_of(name)
        if self._aged is not None:
            self._trim_aged(self._aged, now)
        while self._limits.exceeded_by(self._live, self._live_size) or self._names_take_too_much():
            self._drop_oldest()
        if self._max_age is not None:
            while self._hub and self._hub.oldest.time < now - self._max_age:
                self._drop_oldest()
        if len(self._hub) > 2 * self._live + _COMPACT_FROM:
            self._hub.keep(self._is_live)

    def _expire(self, now: float) -> None:
        for sequence, name in self._expiries.take_over(now):
            log = self._topics.get(name)
            entry = None if log is None else log.remove(sequence)
            if log is not None and entry is not None:  # otherwise it was trimmed
                self._forget(entry, log)
        self._expiries.compact(self._is_kept)

    def _is_kept(self, sequence: int, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and sequence > topic.trimmed_to

    def _forget(self, entry: Entry, log: Log) -> None:
        if self._hub.remove(entry.sequence) is not None:  # otherwise it stayed in its topic alone, which is held
            self._live -= 1
            self._live_size -= len(entry.event.payload)
        if self._aged is not None:
            self._aged.remove(entry)
        if not log:
            self._end_topic(entry.event.topic, log)

    def _end_topic(self, name: str, log: Log) -> None:
        del self._topics[name]
        self._name_bytes -= self._size_of_free(name)
        self._ends.raise_to(name, log.trimmed_to)

    def _trim_aged(self, aged: AgedLogs, now: float) -> None:
        for entry in aged.take_old(now):
            topic = entry.event.topic
            while topic not in self.holds and self._is_live(entry):
                self._drop_oldest_of(topic)
        aged.compact(self._is_live)

    def _names_take_too_much(self) -> bool:
        return self._name_bytes > self._max_name_bytes and self._live > 1

    def _size_of_free(self, name: str) -> int:
        return 0 if name in self.holds else size_of_name(name)  # trimming frees no name that is held

    def _drop_oldest(self) -> None:
        oldest = self._hub.oldest
        if self._is_live(oldest):
            if oldest.event.topic in self.holds:
                self._count_gone(oldest)  # it stays in its topic
            else:
                self._drop_oldest_of(oldest.event.topic)
        self._hub.drop_oldest()

    def _count_gone(self, entry: Entry) -> None:
        self._trimmed_to = max(self._trimmed_to, entry.sequence)
        self._live -= 1
        self._live_size -= len(entry.event.payload)
        for prefix in prefixes_of(entry.event.topic):
            self._prefix_ends.raise_to(prefix, entry.sequence)

    def _clear(self, name: str) -> None:
        while name in self._topics:
            self._drop_oldest_of(name)

    def _drop_oldest_of(self, name: str) -> None:
        log = self._topics[name]
        entry = log.drop_oldest()
        if self._hub and entry.sequence >= self._hub.oldest.sequence:
            self._count_gone(entry)
        if not log:
            self._end_topic(name, log)
