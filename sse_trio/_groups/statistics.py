# Statistics of a stream: a snapshot on request, and the sums that it adds to its group's.
#
# Rule 1: nothing here is kept up to date. A stream updates a few counters per write; everything in a snapshot is read
#         from the stream, its source and its writer when you ask for the snapshot.
# Rule 2: an observer is called once for each stream, at its end, with the stream's last snapshot, which has what a
#         histogram or a span needs.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

from .._reasons import CloseReason

__all__ = ("STALL_SECONDS", "StreamObserver", "StreamStatistics", "StreamTotals")

STALL_SECONDS = 1.0
"""A write that takes this long is a stall: even a client on the slowest line takes 16 KiB in less time."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """A snapshot of a stream. Times are in seconds."""

    number: int
    """Its number in its group, from 1. ``StreamGroup.kick_stream()`` takes it."""
    path: str
    """The path of its request."""
    labels: Mapping[str, str]
    """The ``labels`` of the response."""
    topics: tuple[str, ...]
    """The topics and patterns of its subscription; empty for a stream without one."""
    age: float
    """Time since it was opened."""
    first_event_after: float | None
    """Time from its opening until its first event was given to the server; None before that."""
    written_events: int
    """Events given to the server, including those of the write in progress."""
    written_bytes: int
    """Bytes given to the server, after compression, including pings and the write in progress, without headers."""
    buffered_events: int
    """Events that the stream holds for its client. Events in a hub's ring are shared, and count as ``lag``."""
    buffered_bytes: int
    """Their bytes on the wire, before compression."""
    lag: int | None
    """Events that its subscription has yet to take from the ring, see ``SubscriptionStatistics``. None for other
    streams, and while it reads the store."""
    dropped: int
    """Events that its client missed because of the overflow policy of its channel or subscription."""
    writing_for: float | None
    """How long the write in progress has taken so far; None if there is none."""
    stalls: int
    """Writes that took a second or longer, including the one in progress."""
    close_reason: CloseReason | None
    """Why it is ending or has ended; None while it is open."""


class StreamTotals:
    """The sums of what the streams of a group have counted. Internal."""

    __slots__ = ("dropped", "stalled", "stalls", "written_bytes", "written_events")

    def __init__(self) -> None:
        self.written_events: int = 0
        self.written_bytes: int = 0
        self.dropped: int = 0
        self.stalls: int = 0
        self.stalled: int = 0

    def add_to(self, totals: StreamTotals) -> None:
        """Add these sums to others."""
        totals.written_events += self.written_events
        totals.written_bytes += self.written_bytes
        totals.dropped += self.dropped
        totals.stalls += self.stalls


class StreamObserver(Protocol):
    """Receives the last snapshot of each stream of a group. See ``StreamGroup.add_observer()``."""

    def stream_closed(self, stream: StreamStatistics, /) -> None:
        """Handle the end of a stream. Its producers have ended, and ``on_close`` was called.

        Called once for each stream, in the stream's own task and context. It must not block. If it raises, the
        exception is logged, and the stream is not affected.
        """
