# The events in memory that expire, by their moment.
#
# Rule 1: limits take most events before their moment. So the list is gone through when it has become twice as long, and
#         what is gone is forgotten: it is about as long as the log is.

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush
from typing import NamedTuple, final

from .._expiry import due_of
from .log import Entry

__all__ = ("Expiries",)

_COMPACT_FROM = 1024  # events


class _Expiry(NamedTuple):
    due: float
    sequence: int
    topic: str


@final
class Expiries:
    """Which events expire, and when."""

    __slots__ = ("_compact_at", "_heap")

    def __init__(self) -> None:
        self._heap: list[_Expiry] = []
        self._compact_at = _COMPACT_FROM

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, entry: Entry) -> None:
        """Add an event that may expire."""
        due = due_of(entry.event.payload)
        if due is not None:
            heappush(self._heap, _Expiry(due, entry.sequence, entry.event.topic))

    def take_over(self, now: float) -> Iterator[tuple[int, str]]:
        """Take out and yield the sequences and the topics of the events whose moment has come."""
        while self._heap and self._heap[0].due <= now:
            yield heappop(self._heap)[1:]

    def compact(self, is_kept: Callable[[int, str], bool]) -> None:
        """Forget the events that are gone, where there may be many. O(1) amortised."""
        if len(self._heap) > self._compact_at:
            self._heap = [expiry for expiry in self._heap if is_kept(expiry.sequence, expiry.topic)]
            heapify(self._heap)
            self._compact_at = 2 * len(self._heap) + _COMPACT_FROM
