# The state that the ends of one channel share, and every decision about it. The ends are in _channels/ends.py.
#
# Rule 1: an event is accepted, refused with an error, or (drop_*) counted as dropped: exactly one of these.
#         Accepted means "in the buffer"; a send that waits is moved there by whoever makes room, never by itself,
#         so that nobody overtakes it.
# Rule 2: unparked means decided (_loops/loop.py, rule 2). A wait that raises was not decided yet, and only has to leave. It
#         is passed over from the moment of its cancellation, not only when its task has run.
# Rule 3: a receiver is woken for each event and takes it itself when it runs; until then the event is in the
#         buffer, so a receiver that is cancelled loses nothing. Who can't take it any more is not called to it.
# Rule 4: slices. A send that finds room goes on at once until 256 events, 16 KiB or 1 ms have gone by since the
#         consumer last ran; the next one is a checkpoint. A flood so fills a slice and leaves as one message, and
#         a slow producer's event, the first since the consumer ran, goes out at once.
#         `slice_end` is 0.0 while no slice is open: then every send takes the slow way, where all else is decided.
#         A receiver that takes an event inside of its send (_servers/express.py) is not a turn for other tasks: `turn_end` says
#         when they are owed one.

from __future__ import annotations

from collections.abc import Callable, Hashable
from time import perf_counter
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, WouldBlock

from .._loops.current import current_loop
from .._loops.loop import Loop, check_here
from .._wire.batch import Batch
from .._wire.event import TextErrors
from .buffer import Buffer, FifoBuffer, Held, encode_held, size_of
from .source import Backlog, StreamSource
from .waiters import Receiver, WaitingSend

if TYPE_CHECKING:
    from .._reasons import CloseReason

__all__ = ("OVERFLOWS", "ChannelState", "Overflow")

Overflow: TypeAlias = Literal["wait", "drop_oldest", "drop_newest", "close"]
OVERFLOWS: tuple[Overflow, ...] = get_args(Overflow)

SLICE_EVENTS = 256
SLICE_BYTES = 16_384  # 64 KiB gave a p99 of 156 ms with 100 greedy producers
SLICE_SECONDS = 0.001
SLICE_STEP = 8
"""The clock, a tenth of a send's cost, is read at the 1st, 2nd, 4th and then at every 8th event of a slice."""


class ChannelState(StreamSource):
    """What the ends of one channel share."""

    __slots__ = (
        "buffer",
        "called_receivers",
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
        "resuming_sends",
        "sep",
        "slice_begin",
        "slice_bytes",
        "slice_end",
        "slice_events",
        "slice_step",
        "text_overhead",
        "turn_end",
        "waiting_receives",
        "waiting_sends",
    )

    def __init__(self, buffer: Buffer, max_buffer_size: float, max_buffer_bytes: float, overflow: Overflow) -> None:
        self.buffer = buffer
        self.fifo = buffer if isinstance(buffer, FifoBuffer) else FifoBuffer()
        self.max_buffer_size = max_buffer_size
        self.max_buffer_bytes = max_buffer_bytes
        self.overflow: Overflow = overflow
        self.errors: TextErrors = "strict"
        self.sep: str = "\n"
        self.gathered_after: float = SLICE_SECONDS
        self.text_overhead = size_of("", "\n")
        self.loop: Loop | None = None
        self.open_senders = 0
        self.open_receivers = 0
        # Nobody ever waits in most channels, and a list for it would be a part of each idle stream's memory.
        self.waiting_sends: list[WaitingSend] = cast("list[WaitingSend]", ())
        self.waiting_receives: list[Receiver] = []  # an empty deque is ten times as large
        # Called to an event and not yet running; moved into the buffer and not yet running.
        self.called_receivers = 0
        self.resuming_sends = 0
        self.slice_end = 0.0
        self.turn_end = 0.0
        self.slice_begin = 0
        self.slice_step = 0.0
        self.slice_events = 0.0
        self.slice_bytes = 0.0
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
        if self.loop is not None and (self.waiting_receives or self.waiting_sends or waited_for):
            check_here(self.loop, what)

    def broken(self) -> BrokenResourceError:
        """Return the error of a send to nobody. It knows its channel, so that a response can tell its own."""
        why = "fell too far behind" if self.overflowed else "is gone"
        because = "" if self.close_reason is None else f" ({self.close_reason.value})"
        error = BrokenResourceError(f"the receiver of this channel {why}{because}; stop sending")
        error.sse_trio_channel = self  # type: ignore[attr-defined]
        return error

    def accept(self, event: Held, size: int, key: Hashable) -> bool:
        """Put the event in the buffer if there is room for it; False when it must wait."""
        if not (self._has_turn(key) and self._has_room(size, key)):
            return False
        self._put(event, size, key)
        if self.waiting_sends:
            self._admit_waiting_sends()  # the event that it replaced may have been larger
        self.call_receiver()
        return True

    def accept_or_drop(self, event: Held, size: int, key: Hashable) -> None:
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

    def _put(self, event: Held, size: int, key: Hashable) -> None:
        if self.buffer.put(event, size, key):
            self.conflated += 1

    def _has_turn(self, key: Hashable) -> bool:
        # An event overtakes waiting sends only by taking a place in the buffer, and none with its own key: that one
        # would replace it later, and the older value would be the one that is received.
        if self._first_waiting_send() is None:
            return True
        return self.buffer.size_at(key) is not None and all(waiting.key != key for waiting in self.waiting_sends)

    def _has_room(self, size: int, key: Hashable) -> bool:
        held = len(self.buffer)
        replaced = self.buffer.size_at(key)
        if replaced is not None:
            return held == 1 or self.buffer.size - replaced + size <= self.max_buffer_bytes
        # With no buffer there is room for what receivers already wait for: a rendezvous.
        room = self.max_buffer_size or self.called_receivers + sum(w.is_parked() for w in self.waiting_receives)
        return held < room and (held == 0 or self.buffer.size + size <= self.max_buffer_bytes)

    async def wait_accepted(self, end: object, event: Held, size: int, key: Hashable) -> None:
        """Wait until the event is in the buffer. Cancellation: atomic."""
        waiting = WaitingSend(end, event, size, key, self.bound_loop().new_parking())
        self.waiting_sends = [*self.waiting_sends, waiting]
        self.end_slice()
        try:
            await waiting.parking.park()
        except BaseException:
            if waiting in self.waiting_sends:
                self.waiting_sends.remove(waiting)
            self._admit_waiting_sends()  # a smaller event may have waited behind it
            raise
        if waiting.error is not None:
            raise waiting.error
        self.resuming_sends -= 1
        self.call_receiver()

    def _admit_waiting_sends(self) -> None:
        # Events of waiting sends move up. The consumer leaves them until their senders have run (take_batch), or
        # a flood would leave as 64, 1, 64, 1: each send brings its sender's next slice along.
        while (waiting := self._first_waiting_send()) is not None and self._has_room(waiting.size, waiting.key):
            self._put(self._admit_first(), waiting.size, waiting.key)

    def _first_waiting_send(self) -> WaitingSend | None:
        waiting = self.waiting_sends
        while waiting and not waiting[0].parking.is_parked():
            waiting.pop(0)
        return waiting[0] if waiting else None

    def _admit_first(self) -> Held:
        waiting = self.waiting_sends.pop(0)
        self.resuming_sends += 1
        waiting.parking.unpark()
        return waiting.event

    def _refuse(self, waiting: WaitingSend, error: Exception) -> None:
        waiting.error = error
        waiting.parking.unpark()

    # --- slices

    def begin_slice(self) -> None:
        """Let sends go the fast way, if nothing stands against it, until the slice is used up."""
        if self.slice_end or self.ending or self.refusing or self.waiting_receives or self.waiting_sends:
            return
        self.slice_end = perf_counter() + SLICE_SECONDS
        self.turn_end = 0.0
        if self.buffer is self.fifo:  # else the limits stay 0: the fast way knows nothing of keys
            held = len(self.fifo)
            self.slice_begin = held
            self.slice_events = min(held - 1 + SLICE_EVENTS, self.max_buffer_size)  # with the event that has just come
            self.slice_step = min(held + 1, self.slice_events)
            self.slice_bytes = min(self.fifo.size + SLICE_BYTES, self.max_buffer_bytes)

    def slice_goes_on(self) -> bool:
        """Whether one more event fits the slice, by their number and by the clock."""
        held = len(self.fifo)
        if held >= self.slice_events or perf_counter() >= self.slice_end:
            return False
        self.slice_step = min(held + min(held - self.slice_begin + 1, SLICE_STEP), self.slice_events)
        return True

    def end_slice(self) -> None:
        """Have the next send take the slow way."""
        self.slice_end = 0.0
        self.slice_step = 0.0
        self.turn_end = 0.0

    def slice_is_used_up(self) -> bool:
        """Whether a send that takes the slow way owes a checkpoint. A conflating channel counts time alone.

        So does one whose receiver takes each event inside of its send: that is no turn for other tasks.
        """
        if self.turn_end:
            return self.turn_end <= perf_counter()
        if self.buffer is self.fifo:
            return self.slice_end != 0.0
        return 0.0 < self.slice_end <= perf_counter()

    # --- the receiving side

    def pop_event(self) -> Held:
        """Remove the oldest event, or take it out of the hands of a waiting send. WouldBlock, EndOfStream."""
        if len(self.buffer):
            event = self.buffer.pop(self.sep)
            self._admit_waiting_sends()
        elif self._first_waiting_send() is not None:
            event = self._admit_first()
        elif self.at_end():
            raise EndOfStream
        else:
            raise WouldBlock
        self.end_slice()
        self.received += 1
        return event

    def take_batch(self) -> Batch | None:
        """Remove all that is buffered and return it joined; None when there is nothing to take yet."""
        if self.resuming_sends:
            return None  # they call the receiver when they have run
        if self.buffer.size:  # asked of every channel before each ping, and no event is of no bytes
            held = len(self.buffer)
            body = self.buffer.drain(self.sep)
            if self.waiting_sends:
                self._admit_waiting_sends()
        elif self.waiting_sends and self._first_waiting_send() is not None:
            held = 1
            body = encode_held(self._admit_first(), self.sep)
        else:
            return None
        self.end_slice()
        self.received += held
        return Batch(body)

    def backlog(self) -> Backlog:
        """Return what there is to take."""
        return Backlog(len(self.buffer), self.buffer.size, None, ())

    def at_end(self) -> bool:
        """Whether every event has been received and none can come."""
        if self.buffer.size or (self.waiting_sends and self._first_waiting_send() is not None):
            return False
        return not self.open_senders or self.refusing

    def call_receiver(self) -> None:
        """Wake a receiver for each event that none was called to yet."""
        while self.waiting_receives and len(self.buffer) > self.called_receivers:
            self._call(self.waiting_receives.pop(0))

    def begin_waiting(self, waiting: Receiver) -> None:
        """Have the receiver called when an event comes, or the last sender goes."""
        if waiting not in self.waiting_receives:
            self.waiting_receives.append(waiting)
        self.end_slice()

    def end_waiting(self, waiting: Receiver) -> None:
        """Take the receiver off the list, whether it was called or left by itself."""
        if waiting.called:
            waiting.called = False
            self.called_receivers -= 1
        elif waiting in self.waiting_receives:
            self.waiting_receives.remove(waiting)

    def wait_on(self, waiting: Receiver) -> None:
        """The receiver has taken what there was inside of a send, and waits again. Other tasks have not run yet."""
        self.end_waiting(waiting)
        self.waiting_receives.append(waiting)
        self.turn_end = perf_counter() + SLICE_SECONDS

    def call_all_receivers(self) -> None:
        """Wake every receiver, to find out for itself what has changed."""
        while self.waiting_receives:
            self._call(self.waiting_receives.pop(0))

    def _call(self, waiting: Receiver) -> None:
        if waiting.is_parked():
            waiting.called = True
            self.called_receivers += 1
            waiting.unpark()

    # --- ends

    def close_sender(self, end: object) -> None:
        """An open send end is closed: its own waiting sends are refused, and the last one ends the stream."""
        self.open_senders -= 1
        for waiting in [w for w in self.waiting_sends if w.end is end]:
            self.waiting_sends.remove(waiting)
            self._refuse(waiting, ClosedResourceError("this send channel was closed while it was sending"))
        if not self.open_senders:
            self.call_all_receivers()

    def close_receiver(self, end: object) -> None:
        """An open receive end is closed: with the last one go the buffer and everyone who sends."""
        self.open_receivers -= 1
        for waiting in [w for w in self.waiting_receives if w.end is end]:
            self.waiting_receives.remove(waiting)
            waiting.unpark()
        if self.open_receivers:
            return
        self.refuse_sends()
        if len(self.buffer):
            self.buffer.drain(self.sep)

    def refuse_sends(self) -> None:
        """Accept nothing more: what is buffered is still there for the receivers, and then comes the end."""
        self.refusing = True
        self.end_slice()
        self.set_closing()
        while self.waiting_sends:
            self._refuse(self.waiting_sends.pop(0), self.broken())
        self.call_all_receivers()

    def begin_ending(self, reason: CloseReason) -> None:
        """The response is about to end the stream: the next send sees it at once, and wait_closing() returns."""
        self.close_reason = reason
        self.ending = True
        self.end_slice()
        self.set_closing()

    def set_closing(self) -> None:
        """Let wait_closing() return."""
        if self.closing is not None:
            self.closing.set()

    def is_closing(self) -> bool:
        """Whether wait_closing() has nothing to wait for."""
        return self.ending or self.refusing or not self.open_receivers

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream."""
        self.loop = loop
        self.use_sep(sep)
        if self.overflowed:
            on_overflow()
        elif self.overflow == "close":
            self.on_overflow = on_overflow

    def unbind(self) -> None:
        """Belong to no stream any more."""
        self.on_overflow = None

    def is_ready(self) -> bool:
        """Whether an event was accepted, or is about to be."""
        return self.buffer.size > 0 or len(self.waiting_sends) > 0

    def use_sep(self, sep: str) -> None:
        """Encode with this line end from now on, what is buffered included."""
        if sep != self.sep:
            self.sep = sep
            self.text_overhead = size_of("", sep)
            self.end_slice()
            self.buffer.measure(sep)
            for waiting in self.waiting_sends:
                waiting.size = size_of(waiting.event, sep)

    def bound_loop(self) -> Loop:
        """Return the loop in which the channel is used, from its first use on. RuntimeError in another one."""
        if self.loop is None:
            self.loop = current_loop()
        else:
            check_here(self.loop, "this channel")
        return self.loop
