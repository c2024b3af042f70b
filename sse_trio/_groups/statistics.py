# What a stream says of itself: a snapshot for whoever asks, and what it adds to its group's counters.
#
# Rule 1: nothing here is kept up to date. A stream counts what it writes, once a write, and what it is asked for is
#         read from that, from its source and from its writer, when it is asked for.
# Rule 2: who wants to be told is told once, at the end: what is known of a stream only then, and belongs in a
#         histogram or a span, is in its last snapshot.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, final

from .._reasons import CloseReason

__all__ = ("STALL_SECONDS", "StreamObserver", "StreamStatistics", "StreamTotals")

STALL_SECONDS = 1.0
"""From here on a write counts as a stall: a client on the slowest line takes a write of 16 KiB sooner."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamStatistics:
    """A snapshot of a stream. Times are in seconds."""

    number: int
    """Its number in its group, from 1; ``StreamGroup.kick_stream()`` takes it."""
    path: str
    """The path of its request."""
    labels: Mapping[str, str]
    """As given to the response."""
    topics: tuple[str, ...]
    """The topics and patterns of the subscription that it is made from; none for other streams."""
    age: float
    """Since it was opened."""
    first_event_after: float | None
    """From its opening until its first event was given to the server; None while there was none."""
    written_events: int
    """Events that were given to the server, those of the write under way included."""
    written_bytes: int
    """Bytes that were given to the server, compressed where the stream is; pings and the write under way included,
    headers not."""
    buffered_events: int
    """Events that the stream holds for its client. Those in a hub's ring it shares: they are its ``lag``."""
    buffered_bytes: int
    """Their bytes on the wire, before any compression."""
    lag: int | None
    """For a subscription in position, the events that it has yet to take, see ``SubscriptionStatistics``; else None."""
    dropped: int
    """Events that its client missed, by the overflow policy of its channel or subscription."""
    writing_for: float | None
    """How long the write under way has taken so far; None when there is none."""
    stalls: int
    """Writes that took a second or longer, the one under way included."""
    close_reason: CloseReason | None
    """Why it ends, or has ended; None before."""


class StreamTotals:
    """What the streams of a group have counted, in one place. Internal."""

    __slots__ = ("dropped", "stalled", "stalls", "written_bytes", "written_events")

    def __init__(self) -> None:
        self.written_events: int = 0
        self.written_bytes: int = 0
        self.dropped: int = 0
        self.stalls: int = 0
        self.stalled: int = 0

    def add_to(self, totals: StreamTotals) -> None:
        """Add what was counted to others."""
        totals.written_events += self.written_events
        totals.written_bytes += self.written_bytes
        totals.dropped += self.dropped
        totals.stalls += self.stalls


class StreamObserver(Protocol):
    """Is told of each stream of a group that has ended: see ``StreamGroup.add_observer()``."""

    def stream_closed(self, stream: StreamStatistics, /) -> None:
        """Take note of a stream that has ended, and why, when its producers are gone and ``on_close`` was called.

        Called once for each, in the stream's own task and context. It must not block. What it raises is logged, and
        changes nothing for the stream.
        """
