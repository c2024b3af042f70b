# Pacer: when a send() that finds room returns at once, and when it owes other tasks a turn.
#
# Rule 1: a slice begins with the first event that is sent after the receiver has run, and lasts for 256 events, 16 KiB
#         or 1 ms. Within it every send() returns at once; the send() after it is a checkpoint. So a flood fills a slice
#         and leaves as one message, and the event of a slow producer, the first since the receiver ran, leaves at once.
# Rule 2: outside of a slice all limits are 0. Then every send() takes the slow way, where everything else is decided.
# Rule 3: a receiver that takes events inside of send() (a direct write) gives other tasks no turn, so `turn_ends_at`
#         remembers that they are owed one.
#
# A checkpoint in every send() instead costs 955,000 -> 80,000 events/s on uvicorn, 994,000 -> 38,000 on hypercorn-trio.

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .buffer import FifoBuffer

__all__ = ("SLICE_EVENTS", "SLICE_SECONDS", "Pacer")

SLICE_EVENTS = 256
SLICE_BYTES = 16_384  # 64 KiB gave a p99 of 156 ms with 100 greedy producers
SLICE_SECONDS = 0.001


class Pacer:
    """The slice of one channel."""

    __slots__ = ("ends_at", "max_bytes", "max_events", "turn_ends_at")

    def __init__(self) -> None:
        self.ends_at = 0.0
        """When the slice is over, or 0 outside of one."""
        self.max_events = 0.0
        """How many events the buffer may hold for a send() to return at once."""
        self.max_bytes = 0.0
        """How many bytes it may hold then."""
        self.turn_ends_at = 0.0
        """From when on the next send() owes a checkpoint, where the receiver takes events inside of send()."""

    def begin(self, fifo: FifoBuffer | None, max_buffer_size: float, max_buffer_bytes: float) -> None:
        """Begin a slice. For a conflating channel (no ``fifo``), every send() goes on taking the slow way."""
        self.ends_at = perf_counter() + SLICE_SECONDS
        self.turn_ends_at = 0.0
        if fifo is not None:
            # With the event that has just come.
            self.max_events = min(len(fifo.events) - 1 + SLICE_EVENTS, max_buffer_size)
            self.max_bytes = min(fifo.size + SLICE_BYTES, max_buffer_bytes)

    def end(self) -> None:
        """End the slice: the receiver has run, or something has changed."""
        self.ends_at = self.max_events = self.max_bytes = self.turn_ends_at = 0.0

    def keep_turn(self) -> None:
        """Note that the receiver has taken what there was inside of a send(), and other tasks have not run."""
        self.turn_ends_at = perf_counter() + SLICE_SECONDS

    def owes_checkpoint(self, *, conflating: bool) -> bool:
        """Return whether a send() that takes the slow way owes a checkpoint."""
        if self.turn_ends_at:
            return self.turn_ends_at <= perf_counter()
        if conflating:  # time alone counts, as the slow way is the only one
            return 0.0 < self.ends_at <= perf_counter()
        return self.ends_at != 0.0
