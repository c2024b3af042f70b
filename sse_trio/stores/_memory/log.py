# A log of events in memory: a list that grows at one end and loses its oldest entries at the other.
#
# Rule 1: entries are in the order of their sequences, so that bisection finds a position.
# Rule 2: dropping the oldest entry is O(1) amortised: the head moves, and the list is cut when half of it is dead.

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import NamedTuple

from .._protocol import StoredEvent

__all__ = ("Entry", "Log")

_CUT_FROM = 64  # entries: a shorter list is not worth cutting


class Entry(NamedTuple):
    """An event, with the sequence and the time that retention goes by."""

    sequence: int
    time: float
    event: StoredEvent


_SEQUENCE = attrgetter("sequence")


class Log:
    """Entries in order of their sequence."""

    __slots__ = ("_entries", "_head", "size", "trimmed_to")

    def __init__(self, trimmed_to: int = 0) -> None:
        self._entries: list[Entry] = []
        self._head = 0
        self.size = 0
        """Bytes of payload."""
        self.trimmed_to = trimmed_to
        """The sequence of the entry dropped last."""

    def __len__(self) -> int:
        return len(self._entries) - self._head

    @property
    def oldest(self) -> Entry:
        """The oldest entry. IndexError if there is none."""
        return self._entries[self._head]

    def append(self, entry: Entry) -> None:
        """Add the newest entry."""
        self._entries.append(entry)
        self.size += len(entry.event.payload)

    def drop_oldest(self) -> Entry:
        """Remove and return the oldest entry."""
        entry = self._entries[self._head]
        self._head += 1
        self.size -= len(entry.event.payload)
        self.trimmed_to = entry.sequence
        if self._head >= max(_CUT_FROM, len(self)):
            del self._entries[: self._head]
            self._head = 0
        return entry

    def remove(self, sequence: int) -> Entry | None:
        """Remove and return this entry, if it is here. ``trimmed_to`` stays. O(n), but fast."""
        index = bisect_left(self._entries, sequence, lo=self._head, key=_SEQUENCE)
        if index == len(self._entries) or self._entries[index].sequence != sequence:
            return None
        entry = self._entries.pop(index)
        self.size -= len(entry.event.payload)
        return entry

    def after(self, sequence: int) -> Iterator[Entry]:
        """Return the entries newer than ``sequence``, the oldest first. Valid until the log is changed."""
        start = bisect_right(self._entries, sequence, lo=self._head, key=_SEQUENCE)
        return (self._entries[index] for index in range(start, len(self._entries)))

    def newest_first(self, before: int | None = None) -> Iterator[Entry]:
        """Return the entries older than ``before``, or all, the newest first. Valid until the log is changed."""
        end = len(self._entries)
        if before is not None:
            end = bisect_left(self._entries, before, lo=self._head, key=_SEQUENCE)
        return (self._entries[index] for index in range(end - 1, self._head - 1, -1))

    def keep(self, wanted: Callable[[Entry], bool]) -> None:
        """Keep the wanted entries only. O(n)."""
        self._entries = [entry for entry in self._entries[self._head :] if wanted(entry)]
        self._head = 0
        self.size = sum(len(entry.event.payload) for entry in self._entries)
