# Pacer: when a send() that finds room returns at once, and when it first yields to other tasks.
#
# Rule 1: a slice begins with the first event that is sent after the receiver has run, and lasts for 256 events, 16 KiB
#         or 1 ms. Within it every send() returns at once; the next send() is a checkpoint. So a fast producer fills a
#         slice, which is sent as one message, and a slow producer's event is sent at once.
# Rule 2: outside a slice all limits are 0, so that every send() takes the slow path, which decides everything else.
# Rule 3: a receiver that takes events inside send() (a direct write) gives other tasks no turn, so `turn_ends_at` notes
#         when a send() must give them one.
#
# Rule 4: before a stream's first event there is nothing to decide: nothing is queued, and nobody waits. So a slice for
#         that one event is open, with no time limit, until its producer first waits. Many streams are one event.
#
# With a checkpoint in every send() instead, throughput falls from 955,000 to 80,000 events/s on uvicorn, and from
# 994,000 to 38,000 on hypercorn-trio.

from __future__ import annotations

from math import inf
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
    ends_at: float
    max_bytes: float
    max_events: float
    turn_ends_at: float

    def __init__(self) -> None:
        self.ends_at = 0.0
        """When the slice ends; 0 outside a slice."""
        self.max_events = 0.0
        """A send() returns at once while the buffer holds fewer events than this."""
        self.max_bytes = 0.0
        """A send() returns at once while the buffer, with its event, holds no more bytes than this."""
        self.turn_ends_at = 0.0
        """When the next send() must be a checkpoint, if the receiver takes events inside send(); otherwise 0."""

    def begin(self, fifo: FifoBuffer | None, max_buffer_size: float, max_buffer_bytes: float) -> None:
        """Begin a slice. In a conflating channel (no ``fifo``) every send() still takes the slow path."""
        self.ends_at = perf_counter() + SLICE_SECONDS
        self.turn_ends_at = 0.0
        if fifo is not None:
            # The slice includes the event that has just been buffered.
            self.max_events = min(len(fifo.events) - 1 + SLICE_EVENTS, max_buffer_size)
            self.max_bytes = min(fifo.size + SLICE_BYTES, max_buffer_bytes)

    def expect_first(self) -> None:
        """Let one event pass, of any size. The next one takes the slow path, and begins a slice."""
        self.ends_at = self.max_bytes = inf
        self.max_events = 1.0

    def is_slice(self) -> bool:
        """Return whether a slice has begun."""
        return 0.0 < self.ends_at < inf

    def end(self) -> None:
        """End the slice, because the receiver has run or the channel has changed."""
        self.ends_at = self.max_events = self.max_bytes = self.turn_ends_at = 0.0

    def keep_turn(self) -> None:
        """Note that the receiver took the events inside send(), and other tasks have not run since."""
        self.turn_ends_at = perf_counter() + SLICE_SECONDS

    def owes_checkpoint(self, *, conflating: bool) -> bool:
        """Return whether a send() on the slow path must be a checkpoint."""
        if self.turn_ends_at:
            return self.turn_ends_at <= perf_counter()
        if conflating:  # only time counts, because every send() takes the slow path
            return 0.0 < self.ends_at <= perf_counter()
        return self.is_slice()
