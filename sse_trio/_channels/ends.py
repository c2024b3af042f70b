# open_event_channel() and its two ends: trio's memory channel, for events that will be bytes.
#
# Rule 1: what an end may do is here, and how it is documented; what happens is decided in _channels/state.py.
# Rule 2: an event that can't be encoded is an error of send(), at the line of whoever sends it.
# Rule 3: close() never waits and is no checkpoint; aclose() is always one, as in trio.

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar, final

from anyio import ClosedResourceError, EndOfStream, Event, WouldBlock
from anyio.lowlevel import checkpoint

from .._arguments.checks import check_function, wrong
from .._wire.event import Sendable, ServerSentEvent, TextErrors, as_event, check_errors, is_plain
from .buffer import ConflatingBuffer, FifoBuffer, Queued, size_of
from .pacer import SLICE_EVENTS
from .state import OVERFLOWS, ChannelState, Overflow
from .waiters import WaitingReceive

if TYPE_CHECKING:
    from typing_extensions import Self

    from .._reasons import CloseReason

__all__ = (
    "EventChannelStatistics",
    "EventReceiveChannel",
    "EventSendChannel",
    "check_limits",
    "open_event_channel",
    "state_of",
)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class EventChannelStatistics:
    """A snapshot of a channel, for debugging and metrics."""

    current_buffer_used: int
    """Events in the buffer."""
    max_buffer_size: float
    """The most events that the buffer may hold."""
    current_buffer_bytes: int
    """Wire bytes in the buffer."""
    max_buffer_bytes: float
    """The most wire bytes that the buffer may hold, unless one event alone is larger."""
    open_send_channels: int
    """Send ends that are not closed, clones included."""
    open_receive_channels: int
    """Receive ends that are not closed, clones included."""
    tasks_waiting_send: int
    """Tasks that wait in ``send()`` for room."""
    tasks_waiting_receive: int
    """Tasks that wait for an event."""
    events_received: int
    """Events that left the channel at the receive end."""
    events_dropped: int
    """Events dropped by ``overflow="drop_oldest"`` or ``"drop_newest"``."""
    events_conflated: int
    """Events whose place a newer one with the same key has taken."""


def open_event_channel(
    max_buffer_size: float = 64,
    *,
    max_buffer_bytes: float = 65_536,
    overflow: Overflow = "wait",
    conflate: Callable[[ServerSentEvent], Hashable] | None = None,
    errors: TextErrors = "strict",
) -> tuple[EventSendChannel, EventReceiveChannel]:
    """Open a channel for events. Data flows from left to right.

    Args:
        max_buffer_size: how many events may wait in the channel. ``0`` is a rendezvous, as in trio: a send waits
            for a receive. ``math.inf`` is allowed when ``max_buffer_bytes`` is not infinite too.
        max_buffer_bytes: how many bytes, as on the wire, may wait. One event larger than this passes, alone.
        overflow: what a send does when there is no room: ``"wait"``; ``"drop_oldest"`` or ``"drop_newest"``, which
            are counted in ``statistics()``; or ``"close"``, which closes the channel: what is in it is still
            received, and senders get :exc:`anyio.BrokenResourceError`.
        conflate: called with each event that is sent, returns a key. An event takes the place of the one in the
            buffer with the same key, if there is one. ``None`` as key never conflates. For values of which only
            the latest counts.
        errors: for the text and the mappings that are sent, as in :class:`ServerSentEvent`: ``"replace"`` puts U+FFFD
            in the place of what UTF-8 can't carry. A :class:`ServerSentEvent` that is sent has passed that already.

    Returns:
        ``(send_channel, receive_channel)``, both to be closed by whoever has them.

    Raises:
        ValueError, TypeError: an argument that makes no sense; the message says what does.
    """
    check_limits(max_buffer_size, max_buffer_bytes, overflow)
    if conflate is not None:
        check_function("conflate", conflate, "a function of an event that returns its key")
    if errors != "strict":
        check_errors(errors)
    buffer = FifoBuffer() if conflate is None else ConflatingBuffer(conflate)
    state = ChannelState(buffer, max_buffer_size, max_buffer_bytes, overflow)
    state.errors = errors
    return _new_end(EventSendChannel, state), _new_end(EventReceiveChannel, state)


def check_limits(max_buffer_size: float, max_buffer_bytes: float, overflow: str = "wait") -> None:
    """Raise TypeError or ValueError for limits that make no sense."""
    if max_buffer_size == math.inf:
        if max_buffer_bytes == math.inf:
            raise wrong(ValueError, "max_buffer_size", "finite where max_buffer_bytes is math.inf", max_buffer_size)
    elif type(max_buffer_size) is not int or max_buffer_size < 0:
        _check_size(max_buffer_size)
    if type(max_buffer_bytes) is not int or max_buffer_bytes < 1:
        _check_bytes(max_buffer_bytes)
    if overflow not in OVERFLOWS:
        raise wrong(ValueError, "overflow", f"one of {', '.join(map(repr, OVERFLOWS))}", overflow)


def _check_size(value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong(TypeError, "max_buffer_size", "an int or math.inf, 0 or more events", value)
    if value < 0:
        raise wrong(ValueError, "max_buffer_size", "0 or more events, or math.inf", value)


def _check_bytes(value: object) -> None:
    # A float was always taken, of a computation say. One event that is larger than the limit still passes.
    wanted = "more than 0 bytes, or math.inf"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, "max_buffer_bytes", wanted, value)
    if not value > 0:
        raise wrong(ValueError, "max_buffer_bytes", wanted, value)


class _End:
    # What both ends are: a share of the state, closed once.

    __slots__ = ("__weakref__", "_closed", "_state")

    def __new__(cls) -> Self:
        msg = f"{cls.__name__} has no public constructor; use open_event_channel(), or clone()"
        raise TypeError(msg)

    def __init__(self, state: ChannelState) -> None:
        self._state = state
        self._closed = False
        self._opened()

    def __repr__(self) -> str:
        state = self._state
        held = "closed" if self._closed else f"{len(state.buffer)} of {state.max_buffer_size} events buffered"
        return f"<{type(self).__name__}: {held}>"

    def _opened(self) -> None: ...

    def close(self) -> None: ...

    async def aclose(self) -> None:
        """Close this end, and be a checkpoint. It is closed even when that is cancelled."""
        self.close()
        await checkpoint()

    def clone(self) -> Self:
        """Return another end of the same kind, to be closed by itself.

        Raises:
            ClosedResourceError: this end was closed; clone it first.
        """
        if self._closed:
            msg = "this end of the channel was closed, so it can't be cloned; clone it before it is closed"
            raise ClosedResourceError(msg)
        return _new_end(type(self), self._state)

    def statistics(self) -> EventChannelStatistics:
        """Return a snapshot of the channel."""
        state = self._state
        return EventChannelStatistics(
            current_buffer_used=len(state.buffer),
            max_buffer_size=state.max_buffer_size,
            current_buffer_bytes=state.buffer.size,
            max_buffer_bytes=state.max_buffer_bytes,
            open_send_channels=state.open_senders,
            open_receive_channels=state.open_receivers,
            tasks_waiting_send=len(state.senders.queue),
            tasks_waiting_receive=len(state.receivers.queue),
            events_received=state.received,
            events_dropped=state.dropped,
            events_conflated=state.conflated,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()

    def _close_late(self, close: Callable[[object], None]) -> None:
        # Whoever forgot to close an end must not keep the other one waiting for ever. Collected in any thread. First
        # the closing, since a warning may be an error.
        loop = self._state.loop
        if loop is None:  # nobody has waited yet
            close(None)
        else:
            loop.call_soon_threadsafe(partial(close, None))
        message = f"unclosed {type(self).__name__}: write `async with` around its use, or close() it"
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


_EndT = TypeVar("_EndT", bound=_End)

state_of: Callable[[_End], ChannelState] = attrgetter("_state")
"""The state behind either end, for the response that writes from it."""


def _new_end(kind: type[_EndT], state: ChannelState) -> _EndT:
    end = object.__new__(kind)  # calling the class raises
    _End.__init__(end, state)
    return end


@final
class EventSendChannel(_End):
    """The end for producers. Made by :func:`open_event_channel` and :meth:`clone`."""

    __slots__ = ()

    async def send(self, event: Sendable, /) -> None:
        """Send one event: a :class:`ServerSentEvent`, its data as ``str`` or ``int``, or a mapping of its fields.

        Waits while there is no room. Schedule point: when it waits, and otherwise when a slice is used up, which
        is after 256 events, 16 KiB or a millisecond of sending without the receiver having run. Cancellation point:
        whenever it is a schedule point, and at once when its stream is being ended by the response. So sends in a
        loop neither starve other tasks nor pay for a checkpoint each.

        Cancellation: atomic. The event was accepted and the call returns, or it was not and the call raises.

        Raises:
            BrokenResourceError: nobody receives any more; for the channel of a response, the stream has ended, or it
                cancelled its producers a second ago: so a loop that sends in a shielded scope ends, too.
            ClosedResourceError: you closed this end.
            ValueError, TypeError: what was sent is no legal event; it was not sent, the channel is as before.
        """
        state = self._state
        fifo = state.fifo
        # is_plain(), written out: this is the one line of the library that runs for every event of a flood.
        if type(event) is str and event.isascii() and "\n" not in event and "\r" not in event:
            size = len(event) + state.text_overhead
        else:
            event = as_event(event, state.errors)
            size = len(event.encode(state.sep))
        total = fifo.size + size
        pacer = state.pacer
        if (
            total <= pacer.max_bytes
            and len(fifo.events) < pacer.max_events
            and perf_counter() < pacer.ends_at
            and not self._closed
        ):
            fifo.size = total
            fifo.events.append(event)
        else:
            await self._send_slowly(event, size)

    async def _send_slowly(self, event: Queued, size: int) -> None:
        state = self._state
        state.check_sendable(closed=self._closed)
        if state.owes_checkpoint():
            state.pacer.end()
            await checkpoint()
            state.check_sendable(closed=self._closed)
        key = state.buffer.key_of(event)
        if not state.accept(event, size, key):
            if state.overflow == "wait":
                await state.wait_accepted(self, event, size, key)
            else:
                state.accept_or_drop(event, size, key)
        state.begin_slice()

    def send_nowait(self, event: Sendable, /) -> None:
        """Send one event if there is room. Not a checkpoint.

        Raises:
            WouldBlock: there is no room, and ``overflow`` is ``"wait"``. The event was not sent.
            BrokenResourceError, ClosedResourceError, ValueError, TypeError: as :meth:`send`.
            RuntimeError: it was called from outside of the event loop that the channel is used in, from a worker
                thread, say. The event was not sent; ``anyio.from_thread.run_sync(send_channel.send_nowait, event)``
                sends it.
        """
        state = self._state
        held: Queued = event if type(event) is str and is_plain(event) else as_event(event, state.errors)
        size = size_of(held, state.sep)
        state.check_sendable(closed=self._closed)
        key = state.buffer.key_of(held)
        if not state.accept(held, size, key):
            if state.overflow == "wait":
                raise WouldBlock
            state.accept_or_drop(held, size, key)

    def started(self) -> None:
        """Say that set-up is over: the response sends its status and headers now, without waiting for an event.

        Not a checkpoint. Until then, or the first event, or ``commit_within`` seconds, an exception from the
        producer becomes a response of its own, a 404 say. More than one call, or one too late, does nothing.
        """
        self._state.check_wakes("this send channel")
        self._state.start()

    async def wait_closing(self) -> None:
        """Wait until the stream is about to end, or nobody receives any more; return at once if it is so already.

        A checkpoint. With ``grace`` this is how a producer learns that it has ``grace`` seconds left.
        """
        state = self._state
        if state.is_closing():
            await checkpoint()
            return
        state.bound_loop()
        if state.closing is None:
            state.closing = Event()
        await state.closing.wait()

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the response ends the stream, from the moment that it does; ``None`` before."""
        return self._state.close_reason

    def close(self) -> None:
        """Close this end; when it is the last one, the receiver gets what is buffered and then the end.

        Not a checkpoint. A ``send()`` that waits on this end in another task gets
        :exc:`anyio.ClosedResourceError`. Closing twice does nothing.
        """
        if not self._closed:
            self._state.check_wakes("this send channel")
            self._closed = True
            self._state.close_sender(self)

    def _opened(self) -> None:
        self._state.open_senders += 1

    def __del__(self) -> None:
        if not self._closed and self._state.open_receivers:
            self._close_late(self._state.close_sender)


@final
class EventReceiveChannel(_End):
    """The end for consumers: a response, or a coroutine of yours. Made by :func:`open_event_channel`, `clone()`."""

    __slots__ = ("_received_at_once",)
    _received_at_once: int

    async def receive(self) -> ServerSentEvent:
        """Receive the oldest event, waiting while there is none.

        Schedule point and cancellation point: when it waits, and at every 256th event that it finds there at once.
        Cancellation: atomic. When it raises, no event was taken.

        Raises:
            EndOfStream: every send end was closed and everything was received. (``async for`` just ends.)
            ClosedResourceError: you closed this end.
        """
        if self._received_at_once >= SLICE_EVENTS:
            self._received_at_once = 0
            await checkpoint()
        while True:
            try:
                event = self.receive_nowait()
            except WouldBlock:
                pass  # and wait outside of here, or a cancellation would say "during handling of WouldBlock"
            else:
                self._received_at_once += 1
                return event
            await self._wait_readable()

    def receive_nowait(self) -> ServerSentEvent:
        """Receive the oldest event if there is one. Not a checkpoint.

        Raises:
            WouldBlock: there is none now.
            EndOfStream, ClosedResourceError: as :meth:`receive`.
        """
        if self._closed:
            msg = "this receive channel was closed, so nothing can be received on it"
            raise ClosedResourceError(msg)
        if self._state.senders.queue:
            self._state.check_wakes("this receive channel")
        return as_event(self._state.pop_event())

    async def _wait_readable(self) -> None:
        state = self._state
        parking = state.bound_loop().new_parking()
        self._received_at_once = 0
        waiting = WaitingReceive(self, parking)
        state.begin_waiting(waiting)
        try:
            await parking.park()
        finally:
            state.end_waiting(waiting)
        if self._closed:
            state.wake_receiver()  # the event that this end was woken for is another's now

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Close this end; when it is the last one, what is buffered is dropped and senders get an error.

        Not a checkpoint. A ``receive()`` that waits on this end in another task gets
        :exc:`anyio.ClosedResourceError`. Closing twice does nothing.
        """
        if not self._closed:
            self._state.check_wakes("this receive channel")
            self._closed = True
            self._state.close_receiver(self)

    def _opened(self) -> None:
        self._received_at_once = 0
        self._state.open_receivers += 1

    def __del__(self) -> None:
        if not self._closed and self._state.open_senders:
            self._close_late(self._state.close_receiver)
