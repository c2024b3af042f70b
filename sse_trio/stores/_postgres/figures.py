# The figures of a hub or of one topic, while a transaction changes them. No I/O.

from __future__ import annotations

from typing import final

__all__ = ("Figures",)


@final
class Figures:
    """Events, bytes, and the newest event that is gone."""

    __slots__ = ("events", "row", "size", "trimmed_to")

    def __init__(self, events: int, size: int, trimmed_to: int, row: int | None = None) -> None:
        self.events = events
        self.size = size
        self.trimmed_to = trimmed_to
        self.row = row
        """The row of a topic, or None if it has none yet."""

    def add(self, size: int) -> None:
        """Count an event."""
        self.events += 1
        self.size += size

    def trim(self, sequence: int, size: int) -> None:
        """Take an event out of the figures."""
        self.drop(1, size, sequence)

    def drop(self, events: int, size: int, last: int) -> None:
        """Take several events out, of which ``last`` is the newest."""
        self.events -= events
        self.size -= size
        self.trimmed_to = max(self.trimmed_to, last)
