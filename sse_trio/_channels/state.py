# The state that the ends of one channel share, and every decision about it. The ends are in send_channel.py and
# receive_channel.py.
#
# Rule 1: an event is accepted, refused with an error, or counted as dropped (drop_*): exactly one of these. Accepted
#         means that it is in the buffer.
# Rule 2: a channel is open, then ending (the response is about to end the stream), then refusing (it accepts no more
#         events, and buffered ones are still received). It never goes back.
# Rule 3: waiters.py has the waiting tasks, pacer.py decides when a send() yields, buffer.py is the queue, and
#         overflow.py decides what goes when it is full.
#
# One class with many attributes (seven are those of every source), because nearly every decision looks at the queue, at
# both kinds of waiters and at whether the channel is ending. Parts would ask each other at every send(), and each part
# costs an idle stream a hundred bytes.

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, WouldBlock

from .._failures import BrokenChannelError
from .._loops.current import current_loop
from .._loops.loop import check_here
from .._wire.batch import Batch
from .buffer import Buffer, FifoBuffer, Queued, encode_queued, size_of
from .overflow import Overflow
from .pacer import SLICE_SECONDS, Pacer
from .source import Backlog, StreamSource
from .waiters import NO_RECEIVERS, NO_SENDS, IdleWriter, Receiver, WaitingReceivers, WaitingSend, WaitingSends

if TYPE_CHECKING:
    from .._loops.loop import Loop
    from .._reasons import CloseReason
    from .._wire.event import TextErrors

__all__ = ("ChannelState",)

TEXT_OVERHEAD = size_of("", "\n")
"""The bytes on the wire of a plain text beyond its own, with the usual line end."""


class ChannelState(StreamSource):
    """The state that the ends of one channel share."""

    __slots__ = (
        "buffer",
        "closing",
        "conflated",
        "ending",
        "errors",
        "fifo",
        "loop",
        "max_buffer_bytes",
        "max_buffer_size",
        "on_overflow",
        "open_receivers",
        "open_senders",
        "overflow",
        "overflowed",
        "pacer",
        "receivers",
        "senders",
        "sep",
        "text_overhead",
    )
    buffer: Buffer
    started: bool
    refusing: bool
    received: int
    dropped: int
    conflated: int
    ending: bool
    fifo: FifoBuffer
    max_buffer_bytes: float
    max_buffer_size: float
    open_receivers: int
    open_senders: int
    overflowed: bool
    pacer: Pacer
    receivers: WaitingReceivers
    senders: WaitingSends
    text_overhead: int

    def __init__(self, buffer: Buffer, max_buffer_size: float, max_buffer_bytes: float, overflow: Overflow) -> None:
        self.buffer = buffer
        # The queue to which send() appends on its fast path. A conflating channel has a dummy here: its pacer's limits
        # stay 0, so the fast path is never taken and nothing is appended.
        self.fifo = buffer if isinstance(buffer, FifoBuffer) else FifoBuffer()
        self.max_buffer_size = max_buffer_size
        self.max_buffer_bytes = max_buffer_bytes
        self.overflow: Overflow = overflow
        self.errors: TextErrors = "strict"
        self.sep: str = "\n"
        self.text_overhead = TEXT_OVERHEAD
        self.coalesce_after: float = SLICE_SECONDS
        self.loop: Loop | None = None
        self.pacer = Pacer()
        self.idle_writer: IdleWriter | None = None
        """send() looks at it first. It is there only while nothing is buffered, no other receiver waits, and the
        channel is open."""
        self.senders = NO_SENDS
        self.receivers = NO_RECEIVERS
        self.open_senders = 0
        self.open_receivers = 0
        self.started = False
        self.ending = False
        self.overflowed = False
        self.refusing = False
        self.on_overflow: Callable[[], None] | None = None
        self.closing: Event | None = None
        self.close_reason: CloseReason | None = None
        self.received = 0
        self.dropped = 0
        self.conflated = 0

    # --- the sending side

    def check_sendable(self, *, closed: bool) -> None:
        """Raise the error of a send on this channel now, if there is one. `closed`: whether its end is closed."""
        if closed:
            msg = (
                "this send channel is closed, by you or because its producer has returned, so you can't send on it; "
                "send before that, or keep a clone() open"
            )
            raise ClosedResourceError(msg)
        if not self.open_receivers or self.refusing:
            raise self.broken()
        if self.loop is not None:
            check_here(self.loop, "this send channel")

    def check_wakes(self, what: str) -> None:
        """Raise RuntimeError if a task waits that can't be woken from here, such as from another thread."""
        closing = self.closing
        waited_for = closing is not None and closing.statistics().tasks_waiting
        if self.loop is not None and (self.receivers.queue or self.senders.queue or waited_for):
            check_here(self.loop, what)

    def broken(self) -> BrokenResourceError:
        """Return the error of a send that will not be received."""
        why = "fell too far behind" if self.overflowed else "is gone"
        because = "" if self.close_reason is None else f" ({self.close_reason.value})"
        return BrokenChannelError(f"the receiver of this channel {why}{because}; stop sending", self)

    def accept(self, event: Queued, size: int, key: Hashable) -> bool:
        """Put the event in the buffer and return True, or return False if it must wait for room."""
        # Most events find nothing queued. Then there is room for any event, without a call.
        is_empty = self.max_buffer_size and not (self.buffer.size or self.senders.queue)
        if not (is_empty or (self._has_turn(key) and self.has_room(size, key))):
            return False
        self.put(event, size, key)
        if self.senders.queue:
            self._admit_waiting_sends()  # the replaced event may have been larger
        self.wake_receiver()
        return True

    def drop_first(self) -> None:
        """Drop the oldest buffered event, and count it."""
        self.buffer.pop(self.sep)
        self.dropped += 1

    def break_full(self) -> BrokenResourceError:
        """Accept no more events, end the stream, and return the error of this send."""
        self.overflowed = True
        self.refuse_sends()
        if self.on_overflow is not None:
            self.on_overflow()
        return self.broken()

    def begin_slice(self) -> None:
        """Begin a slice, unless one has begun, a task waits, or the channel is ending."""
        if self.pacer.is_slice() or self.ending or self.refusing or self.receivers.queue or self.senders.queue:
            return
        fifo = self.fifo if self.buffer is self.fifo else None
        self.pacer.begin(fifo, self.max_buffer_size, self.max_buffer_bytes)

    def owes_checkpoint(self) -> bool:
        """Return whether a send() must yield before it is decided."""
        return self.ending or self.pacer.owes_checkpoint(conflating=self.buffer is not self.fifo)

    async def wait_accepted(self, end: object, event: Queued, size: int, key: Hashable) -> None:
        """Wait until the event is in the buffer. Cancellation: atomic."""
        waiting = WaitingSend(end, event, size, key, self.bound_loop().new_parking())
        if self.senders is NO_SENDS:
            self.senders = WaitingSends()
        self.senders.add(waiting)
        self.pacer.end()
        try:
            await waiting.parking.park()
        except BaseException:
            self.senders.discard(waiting)
            self._admit_waiting_sends()  # a smaller event may have waited behind it
            raise
        if waiting.error is not None:
            raise waiting.error
        self.senders.resuming -= 1
        self.wake_receiver()

    def put(self, event: Queued, size: int, key: Hashable) -> None:
        """Append an event to the buffer, or replace the one with its key."""
        if self.buffer.put(event, size, key):
            self.conflated += 1

    def _has_turn(self, key: Hashable) -> bool:
        # An event may overtake waiting sends only if it replaces a buffered event and no waiting send has its key. That
        # send would replace it later, and the older value would be received.
        if not self.senders.queue or self.senders.first() is None:
            return True
        return self.buffer.size_at(key) is not None and not self.senders.has_key(key)

    def has_room(self, size: int, key: Hashable) -> bool:
        """Return whether the buffer has room for an event of this size under this key."""
        queued = len(self.buffer)
        replaced = self.buffer.size_at(key)
        if replaced is not None:
            return queued == 1 or self.buffer.size - replaced + size <= self.max_buffer_bytes
        # Without a buffer there is room for each receiver that waits: a rendezvous.
        room = self.max_buffer_size or self.receivers.able()
        return queued < room and (queued == 0 or self.buffer.size + size <= self.max_buffer_bytes)

    def _admit_waiting_sends(self) -> None:
        # Moves events of waiting sends into the buffer. take_batch() leaves them until their senders have run and sent
        # their next slice too; otherwise a flood would leave in batches of 64, 1, 64, 1.
        while (waiting := self.senders.first()) is not None and self.has_room(waiting.size, waiting.key):
            self.put(self.senders.admit_first(), waiting.size, waiting.key)

    # --- the receiving side

    def pop_event(self) -> Queued:
        """Remove the oldest event from the buffer or from a waiting send. Raises WouldBlock or EndOfStream."""
        if len(self.buffer):
            event = self.buffer.pop(self.sep)
            self._admit_waiting_sends()
        elif self.senders.first() is not None:
            event = self.senders.admit_first()
        elif self.at_end():
            raise EndOfStream
        else:
            raise WouldBlock
        self.pacer.end()
        self.received += 1
        return event

    def take_batch(self) -> Batch | None:
        """Remove all buffered events and return them joined; None if there are none to take yet."""
        if self.senders.resuming:
            return None  # they wake the receiver when they have run
        if self.buffer.size:  # cheap: checked before each ping of every channel, and every event has bytes
            taken = len(self.buffer)
            body = self.buffer.drain(self.sep)
            if self.senders.queue:
                self._admit_waiting_sends()
        elif self.senders.queue and self.senders.first() is not None:
            taken = 1
            body = encode_queued(self.senders.admit_first(), self.sep)
        else:
            return None
        self.pacer.end()
        self.received += taken
        return Batch(body)

    def backlog(self) -> Backlog:
        """Return how much has not been taken."""
        return Backlog(len(self.buffer), self.buffer.size, None, ())

    @property
    def needs_receiver(self) -> bool:
        """Whether it has room for an event only while its writer waits for one: a rendezvous."""
        return self.max_buffer_size == 0

    def is_ready(self) -> bool:
        """Return whether there is an event, buffered or in a waiting send."""
        return self.buffer.size > 0 or bool(self.senders.queue)

    def at_end(self) -> bool:
        """Return whether every event was received and no more can come."""
        if self.buffer.size or (self.senders.queue and self.senders.first() is not None):
            return False
        return not self.open_senders or self.refusing

    def wake_receiver(self) -> None:
        """Wake one receiver for each event that has none yet."""
        if self.receivers.queue:
            self.receivers.wake(self.buffer)

    def begin_waiting(self, waiting: Receiver) -> None:
        """Wake the receiver when there is an event, or when the last send end is closed."""
        self.idle_writer = None
        if self.receivers is NO_RECEIVERS:
            self.receivers = WaitingReceivers()
        self.receivers.add(waiting)
        self.pacer.end()

    def offer_idle(self, writer: IdleWriter) -> None:
        """Write events inside send() with this writer."""
        if self.buffer is self.fifo and len(self.receivers.queue) == 1 and not (self.ending or self.refusing):
            self.idle_writer = writer

    def end_waiting(self, waiting: Receiver) -> None:
        """Remove the receiver, which was woken or has stopped waiting."""
        self.idle_writer = None
        if self.receivers is not NO_RECEIVERS:
            self.receivers.discard(waiting)

    def keep_waiting(self, waiting: Receiver) -> None:
        """Queue the receiver again. It took the events inside a send(), and other tasks have not run since."""
        self.receivers.discard(waiting)
        self.receivers.add(waiting)
        self.pacer.keep_turn()

    # --- ends

    def close_sender(self, end: object) -> None:
        """Close an open send end: its waiting sends raise, and receivers are woken if it was the last one."""
        self.open_senders -= 1
        if self.senders.queue:
            self.senders.refuse_of(end)
        if not self.open_senders and self.receivers.queue:
            self.receivers.wake_all()

    def close_receiver(self, end: object) -> None:
        """Close an open receive end. If it was the last one, drop the buffer and refuse all sends."""
        self.open_receivers -= 1
        if self.receivers.queue:
            self.receivers.wake_of(end)
        if self.open_receivers:
            return
        self.refuse_sends()
        if self.buffer.size:
            self.buffer.drain(self.sep)

    def open_for_stream(self) -> None:
        """Have a stream be the receiver, without a receive end: nobody else could receive. It closes it by close()."""
        self.open_receivers = 1

    def close(self) -> None:
        """Refuse all sends, if it was opened for a stream."""
        if self.open_receivers:
            self.close_receiver(self)

    def start(self) -> None:
        """Let the response send its head without waiting for an event."""
        self.started = True
        self.receivers.wake_parked()

    def begin_ending(self, reason: CloseReason) -> None:
        """Note that the response is about to end the stream: the next send() yields, and wait_closing() returns."""
        self.close_reason = reason
        self.ending = True
        self._announce_closing()

    def refuse_sends(self) -> None:
        """Accept no more events. Buffered ones can still be received, and then comes the end."""
        self.refusing = True
        self._announce_closing()
        if self.senders.queue:
            self.senders.refuse_all(self.broken)
        if self.receivers.queue:
            self.receivers.wake_all()

    def _announce_closing(self) -> None:
        self.idle_writer = None
        self.pacer.end()
        if self.closing is not None:
            self.closing.set()

    def is_closing(self) -> bool:
        """Return whether wait_closing() returns at once."""
        return self.ending or self.refusing or not self.open_receivers

    # --- the stream that it belongs to

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Attach to a stream."""
        self.loop = loop
        if sep != self.sep:
            self._use_sep(sep)
        if self.buffer is self.fifo and not (self.refusing or self.receivers.queue):
            self.pacer.expect_first()
        if self.overflowed:
            on_overflow()
        elif self.overflow == "close":
            self.on_overflow = on_overflow

    def unbind(self) -> None:
        """Detach from the stream."""
        self.on_overflow = None

    def bound_loop(self) -> Loop:
        """Return the channel's loop: that of its first use. RuntimeError in another loop."""
        if self.loop is None:
            self.loop = current_loop()
        else:
            check_here(self.loop, "this channel")
        return self.loop

    def _use_sep(self, sep: str) -> None:
        # Encode with this line end from now on, also the buffered events.
        self.sep = sep
        self.text_overhead = size_of("", sep)
        self.pacer.end()
        self.buffer.measure(sep)
        self.senders.measure(lambda event: size_of(event, sep))
