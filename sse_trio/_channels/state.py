# The state that the ends of one channel share, and every decision about it. The ends are in ends.py.
#
# Rule 1: an event is accepted, refused with an error, or (drop_*) counted as dropped: exactly one of these. Accepted
#         means "in the buffer".
# Rule 2: the channel is open, then ending (the response is about to end the stream), then refusing (nothing more is
#         taken in; what is buffered is still received), and never goes back.
# Rule 3: who waits is in waiters.py, when a send() yields in pacer.py, what is queued in buffer.py.

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, WouldBlock

from .._failures import BrokenChannelError
from .._loops.current import current_loop
from .._loops.loop import check_here
from .._wire.batch import Batch
from .buffer import Buffer, FifoBuffer, Queued, encode_queued, size_of
from .pacer import SLICE_SECONDS, Pacer
from .source import Backlog, StreamSource
from .waiters import Receiver, WaitingReceivers, WaitingSend, WaitingSends

if TYPE_CHECKING:
    from .._loops.loop import Loop
    from .._reasons import CloseReason
    from .._wire.event import TextErrors

__all__ = ("OVERFLOWS", "ChannelState", "Overflow")

Overflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest", "close"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)


class ChannelState(StreamSource):
    """What the ends of one channel share."""

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

    def __init__(self, buffer: Buffer, max_buffer_size: float, max_buffer_bytes: float, overflow: Overflow) -> None:
        self.buffer = buffer
        # What send() adds to without asking anything else. One that conflates has to be asked, and its pacer's limits
        # stay 0; so this one is never added to.
        self.fifo = buffer if isinstance(buffer, FifoBuffer) else FifoBuffer()
        self.max_buffer_size = max_buffer_size
        self.max_buffer_bytes = max_buffer_bytes
        self.overflow: Overflow = overflow
        self.errors: TextErrors = "strict"
        self.sep: str = "\n"
        self.text_overhead = size_of("", "\n")
        self.coalesce_after: float = SLICE_SECONDS
        self.loop: Loop | None = None
        self.pacer = Pacer()
        self.senders = WaitingSends()
        self.receivers = WaitingReceivers()
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
        """Raise what a send on an end that is `closed` must raise now, if anything."""
        if closed:
            msg = "this send channel was closed, so nothing can be sent on it; send first, or keep a clone() open"
            raise ClosedResourceError(msg)
        if not self.open_receivers or self.refusing:
            raise self.broken()
        if self.loop is not None:
            check_here(self.loop, "this send channel")

    def check_wakes(self, what: str) -> None:
        """Raise RuntimeError where somebody waits who can't be woken from here: another thread, say."""
        closing = self.closing
        waited_for = closing is not None and closing.statistics().tasks_waiting
        if self.loop is not None and (self.receivers.queue or self.senders.queue or waited_for):
            check_here(self.loop, what)

    def broken(self) -> BrokenResourceError:
        """Return the error of a send that nobody will receive."""
        why = "fell too far behind" if self.overflowed else "is gone"
        because = "" if self.close_reason is None else f" ({self.close_reason.value})"
        return BrokenChannelError(f"the receiver of this channel {why}{because}; stop sending", self)

    def accept(self, event: Queued, size: int, key: Hashable) -> bool:
        """Put the event in the buffer if there is room for it; False when it must wait."""
        if not (self._has_turn(key) and self._has_room(size, key)):
            return False
        self._put(event, size, key)
        if self.senders.queue:
            self._admit_waiting_sends()  # the event that it replaced may have been larger
        self.wake_receiver()
        return True

    def accept_or_drop(self, event: Queued, size: int, key: Hashable) -> None:
        """Accept the event at the cost of another, or drop it, or close the channel, as `overflow` says."""
        if self.overflow == "drop_newest" or (self.overflow == "drop_oldest" and self.max_buffer_size == 0):
            self.dropped += 1
        elif self.overflow == "drop_oldest":
            while not self._has_room(size, key):
                self.buffer.pop(self.sep)
                self.dropped += 1
            self._put(event, size, key)
        else:
            self.overflowed = True
            self.refuse_sends()
            if self.on_overflow is not None:
                self.on_overflow()
            raise self.broken()

    def begin_slice(self) -> None:
        """Let sends return at once for a slice, if nothing stands against it."""
        if self.pacer.ends_at or self.ending or self.refusing or self.receivers.queue or self.senders.queue:
            return
        fifo = self.fifo if self.buffer is self.fifo else None
        self.pacer.begin(fifo, self.max_buffer_size, self.max_buffer_bytes)

    def owes_checkpoint(self) -> bool:
        """Return whether a send() has to yield before it is decided."""
        return self.ending or self.pacer.owes_checkpoint(conflating=self.buffer is not self.fifo)

    async def wait_accepted(self, end: object, event: Queued, size: int, key: Hashable) -> None:
        """Wait until the event is in the buffer. Cancellation: atomic."""
        waiting = WaitingSend(end, event, size, key, self.bound_loop().new_parking())
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

    def _put(self, event: Queued, size: int, key: Hashable) -> None:
        if self.buffer.put(event, size, key):
            self.conflated += 1

    def _has_turn(self, key: Hashable) -> bool:
        # An event overtakes waiting sends only by taking a place in the buffer, and none with its own key: that one
        # would replace it later, and the older value would be the one that is received.
        if not self.senders.queue or self.senders.first() is None:
            return True
        return self.buffer.size_at(key) is not None and not self.senders.has_key(key)

    def _has_room(self, size: int, key: Hashable) -> bool:
        queued = len(self.buffer)
        replaced = self.buffer.size_at(key)
        if replaced is not None:
            return queued == 1 or self.buffer.size - replaced + size <= self.max_buffer_bytes
        # With no buffer there is room for what receivers already wait for: a rendezvous.
        room = self.max_buffer_size or self.receivers.able()
        return queued < room and (queued == 0 or self.buffer.size + size <= self.max_buffer_bytes)

    def _admit_waiting_sends(self) -> None:
        # Events of waiting sends move up. The consumer leaves them until their senders have run (take_batch), or
        # a flood would leave as 64, 1, 64, 1: each send brings its sender's next slice along.
        while (waiting := self.senders.first()) is not None and self._has_room(waiting.size, waiting.key):
            self._put(self.senders.admit_first(), waiting.size, waiting.key)

    # --- the receiving side

    def pop_event(self) -> Queued:
        """Remove the oldest event, or take it out of the hands of a waiting send. WouldBlock, EndOfStream."""
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
        """Remove all that is buffered and return it joined; None when there is nothing to take yet."""
        if self.senders.resuming:
            return None  # they wake the receiver when they have run
        if self.buffer.size:  # asked of every channel before each ping, and no event is of no bytes
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
        """Return what there is to take."""
        return Backlog(len(self.buffer), self.buffer.size, None, ())

    def is_ready(self) -> bool:
        """Return whether an event was accepted, or is about to be."""
        return self.buffer.size > 0 or bool(self.senders.queue)

    def at_end(self) -> bool:
        """Return whether every event has been received and none can come."""
        if self.buffer.size or (self.senders.queue and self.senders.first() is not None):
            return False
        return not self.open_senders or self.refusing

    def wake_receiver(self) -> None:
        """Wake a receiver for each event that none was woken for yet."""
        if self.receivers.queue:
            self.receivers.wake(self.buffer)

    def begin_waiting(self, waiting: Receiver) -> None:
        """Have the receiver woken when an event comes, or the last sender goes."""
        self.receivers.add(waiting)
        self.pacer.end()

    def end_waiting(self, waiting: Receiver) -> None:
        """Take the receiver off the list, whether it was woken or left on its own."""
        self.receivers.discard(waiting)

    def keep_waiting(self, waiting: Receiver) -> None:
        """The receiver has taken what there was inside of a send(), and waits again. Other tasks have not run."""
        self.receivers.discard(waiting)
        self.receivers.add(waiting)
        self.pacer.keep_turn()

    # --- ends

    def close_sender(self, end: object) -> None:
        """An open send end is closed: its own waiting sends are refused, and the last one ends the stream."""
        self.open_senders -= 1
        if self.senders.queue:
            self.senders.refuse_of(end)
        if not self.open_senders and self.receivers.queue:
            self.receivers.wake_all()

    def close_receiver(self, end: object) -> None:
        """An open receive end is closed: with the last one go the buffer and everyone who sends."""
        self.open_receivers -= 1
        if self.receivers.queue:
            self.receivers.wake_of(end)
        if self.open_receivers:
            return
        self.refuse_sends()
        if len(self.buffer):
            self.buffer.drain(self.sep)

    def start(self) -> None:
        """Let the head be sent without waiting for an event."""
        self.started = True
        self.receivers.wake_all()

    def begin_ending(self, reason: CloseReason) -> None:
        """The response is about to end the stream: the next send sees it at once, and wait_closing() returns."""
        self.close_reason = reason
        self.ending = True
        self._tell_closing()

    def refuse_sends(self) -> None:
        """Accept nothing more: what is buffered is still there for the receivers, and then comes the end."""
        self.refusing = True
        self._tell_closing()
        if self.senders.queue:
            self.senders.refuse_all(self.broken)
        if self.receivers.queue:
            self.receivers.wake_all()

    def _tell_closing(self) -> None:
        self.pacer.end()
        if self.closing is not None:
            self.closing.set()

    def is_closing(self) -> bool:
        """Return whether wait_closing() has nothing to wait for."""
        return self.ending or self.refusing or not self.open_receivers

    # --- the stream that it belongs to

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream."""
        self.loop = loop
        self._use_sep(sep)
        if self.overflowed:
            on_overflow()
        elif self.overflow == "close":
            self.on_overflow = on_overflow

    def unbind(self) -> None:
        """Belong to no stream any more."""
        self.on_overflow = None

    def bound_loop(self) -> Loop:
        """Return the loop in which the channel is used, from its first use on. RuntimeError in another one."""
        if self.loop is None:
            self.loop = current_loop()
        else:
            check_here(self.loop, "this channel")
        return self.loop

    def _use_sep(self, sep: str) -> None:
        # Encode with this line end from now on, what is buffered included.
        if sep != self.sep:
            self.sep = sep
            self.text_overhead = size_of("", sep)
            self.pacer.end()
            self.buffer.measure(sep)
            self.senders.measure(lambda event: size_of(event, sep))
