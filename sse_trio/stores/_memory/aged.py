# The events of topics that have an age of their own, in memory: a log for each age, which begins with the oldest.
#
# Rule 1: an entry may be gone from its topic already. Those are dropped when they get old, or when a log has about as
#         many of them as of others.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import final

from .._topic_limits import TopicLimits
from .log import Entry, Log

__all__ = ("AgedLogs",)

_COMPACT_FROM = 1024  # entries


@final
class AgedLogs:
    """The events that go by an age of their topic's."""

    __slots__ = ("_compact_at", "_limits", "_logs")

    def __init__(self, limits: TopicLimits) -> None:
        self._limits = limits
        self._logs: dict[float, Log] = {age: Log() for age in limits.ages}
        self._compact_at = dict.fromkeys(limits.ages, _COMPACT_FROM)

    def add(self, entry: Entry) -> None:
        """Add the newest event, if its topic has an age of its own."""
        age = self._limits.of(entry.event.topic).max_age
        if age is not None:
            self._logs[age].append(entry)

    def remove(self, entry: Entry) -> None:
        """Remove an entry, if its topic has an age of its own."""
        age = self._limits.of(entry.event.topic).max_age
        if age is not None:
            self._logs[age].remove(entry.sequence)

    def take_old(self, now: float) -> Iterator[Entry]:
        """Take out and yield the entries that are too old."""
        for age, log in self._logs.items():
            while log and log.oldest.time < now - age:
                yield log.drop_oldest()

    def compact(self, is_live: Callable[[Entry], bool]) -> None:
        """Drop the entries that are gone, where there may be many. O(1) amortised."""
        for age, log in self._logs.items():
            if len(log) > self._compact_at[age]:
                log.keep(is_live)
                self._compact_at[age] = 2 * len(log) + _COMPACT_FROM
