# open_event_channel() and its two ends: like trio's memory channel, for events that will be sent as bytes.
#
# Rule 1: this file has the methods of both ends and their documentation; _channels/state.py makes the decisions.
# Rule 2: an event that can't be encoded is an error of send(), raised in the producer.
# Rule 3: close() never waits and is not a checkpoint; aclose() always is one, as in trio.
# Rule 4: the state of an end is private. Other folders get it from state_of().

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from time import perf_counter
from types import TracebackType
from typing import TYPE_CHECKING, final

from anyio import ClosedResourceError, EndOfStream, Event, WouldBlock
from anyio.lowlevel import checkpoint

from .._arguments.checks import check_function, wrong
from .._wire.event import Sendable, ServerSentEvent, TextErrors, as_event, check_errors, is_plain
from .buffer import ConflatingBuffer, FifoBuffer, Queued, size_of
from .overflow import OVERFLOWS, Overflow, accept_or_drop
from .pacer import SLICE_EVENTS
from .state import ChannelState
from .waiters import WaitingReceive

if TYPE_CHECKING:
    from typing_extensions import Self

    from .._reasons import CloseReason

__all__ = (
    "EventChannelStatistics",
    "EventReceiveChannel",
    "EventSendChannel",
    "check_limits",
    "new_channel_state",
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
    """The most wire bytes that the buffer may hold, unless a single event is larger."""
    open_send_channels: int
    """Open send ends, including clones."""
    open_receive_channels: int
    """Open receive ends, including clones."""
    tasks_waiting_send: int
    """Tasks that wait for room in ``send()``."""
    tasks_waiting_receive: int
    """Tasks that wait for an event."""
    events_received: int
    """Events that left the channel at the receive end."""
    events_dropped: int
    """Events dropped by ``overflow="drop_oldest"`` or ``"drop_newest"``."""
    events_conflated: int
    """Events that a newer event with the same key replaced."""


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
        max_buffer_size: how many events the channel may buffer. With ``0`` a send waits for a receive, as in trio; a
            response receives from before its producer runs, except while it writes. ``math.inf`` is allowed if
            ``max_buffer_bytes`` is finite.
        max_buffer_bytes: how many bytes, as on the wire, the channel may buffer. A larger event passes alone.
        overflow: what a send does when there is no room. ``"wait"`` waits; ``"drop_oldest"`` and ``"drop_newest"`` drop
            an event and count it in ``statistics()``; ``"close"`` closes the channel: buffered events are still
            received, and senders get :exc:`anyio.BrokenResourceError`.
        conflate: a function that gets each event that is sent and returns a key. A new event replaces the buffered
            event with the same key. An event with the key ``None`` replaces none. Use it for values of which only the
            latest counts.
        errors: how to treat text that UTF-8 can't encode, in each ``str`` and mapping that is sent, as in
            :class:`ServerSentEvent`: ``"replace"`` replaces it with U+FFFD.

    Returns:
        ``(send_channel, receive_channel)``. Close both when you are done.

    Raises:
        ValueError, TypeError: an argument is invalid; the message says what to write.
    """
    check_limits(max_buffer_size, max_buffer_bytes, overflow)
    if conflate is not None:
        check_function("conflate", conflate, "a function of an event that returns its key")
    if errors != "strict":
        check_errors(errors)
    state = new_channel_state(max_buffer_size, max_buffer_bytes, overflow, conflate, errors)
    return EventSendChannel(state), EventReceiveChannel(state)


def new_channel_state(
    max_buffer_size: float,
    max_buffer_bytes: float,
    overflow: Overflow,
    conflate: Callable[[ServerSentEvent], Hashable] | None,
    errors: TextErrors,
) -> ChannelState:
    """Open a channel with options that are checked already. Make its ends as you need them."""
    buffer = FifoBuffer() if conflate is None else ConflatingBuffer(conflate)
    state = ChannelState(buffer, max_buffer_size, max_buffer_bytes, overflow)
    state.errors = errors
    return state


def check_limits(max_buffer_size: float, max_buffer_bytes: float, overflow: str = "wait") -> None:
    """Raise TypeError or ValueError for invalid limits."""
    if max_buffer_size == math.inf:
        if max_buffer_bytes == math.inf:
            raise wrong(ValueError, "max_buffer_size", "finite if max_buffer_bytes is math.inf", max_buffer_size)
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
    # A float is allowed: the limit may be computed. An event larger than the limit still passes.
    wanted = "more than 0 bytes, or math.inf"
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise wrong(TypeError, "max_buffer_bytes", wanted, value)
    if not value > 0:
        raise wrong(ValueError, "max_buffer_bytes", wanted, value)


class _End:
    # The part that both ends have in common: a reference to the state, and whether this end is closed.

    __slots__ = ("__weakref__", "_closed", "_state")
    _state: ChannelState
    _closed: bool

    def __new__(cls, state: ChannelState | None = None) -> Self:
        if not isinstance(state, ChannelState):
            msg = f"{cls.__name__} has no public constructor; use open_event_channel() or clone()"
            raise TypeError(msg)
        end = object.__new__(cls)
        end._state = state
        end._closed = False
        end._opened()
        return end

    def __repr__(self) -> str:
        state = self._state
        held = "closed" if self._closed else f"{len(state.buffer)} of {state.max_buffer_size} events buffered"
        return f"<{type(self).__name__}: {held}>"

    def _opened(self) -> None: ...

    def close(self) -> None: ...

    async def aclose(self) -> None:
        """Close this end. A checkpoint; the end is closed even if the checkpoint is cancelled."""
        self.close()
        await checkpoint()

    def clone(self) -> Self:
        """Return another end of the same kind, which you close separately.

        Raises:
            ClosedResourceError: this end is closed.
        """
        if self._closed:
            msg = "this end of the channel is closed, so it can't be cloned; clone it before you close it"
            raise ClosedResourceError(msg)
        return type(self)(self._state)

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
        # An end that the user forgot to close must not make the other end wait for ever. This may run in any thread. It
        # closes first, because the warning may be turned into an error.
        loop = self._state.loop
        if loop is None:  # no task has waited yet
            close(None)
        else:
            loop.call_soon_threadsafe(partial(close, None))
        message = f"unclosed {type(self).__name__}: use it in `async with`, or close() it"
        warnings.warn(message, ResourceWarning, source=self, stacklevel=2)


state_of: Callable[[_End], ChannelState] = attrgetter("_state")
"""The state behind either end, for the response that writes from it."""


@final
class EventSendChannel(_End):
    """The end for producers. Get one from :func:`open_event_channel` or :meth:`clone`."""

    __slots__ = ()

    async def send(self, event: Sendable, /) -> None:
        """Send one event: a :class:`ServerSentEvent`, its data as ``str`` or ``int``, or a mapping of its fields.

        Waits while there is no room. An event that finds its stream idle is written before this returns, if that needs
        no waiting. It is a schedule point when it waits, and when a slice is used up: after 256 events, 16 KiB or a
        millisecond of sending during which the receiver did not run, or no other task wrote. It is a cancellation point
        whenever it is a schedule point, and at once when the response is ending its stream. So sends in a loop neither
        starve other tasks nor pay for a checkpoint each.

        Cancellation is atomic: either the event was accepted and the call returns, or it was not and the call raises.

        Raises:
            BrokenResourceError: there is no receiver any more. For the channel of a response: the stream has ended, or
                it cancelled its producers a second ago, so that a loop that sends in a shielded scope ends too.
            ClosedResourceError: you closed this end.
            ValueError, TypeError: the event is invalid; it was not sent, and the channel is as before.
        """
        state = self._state
        fifo = state.fifo
        # is_plain(), written out: this line runs for every event of a flood.
        if type(event) is str and event.isascii() and "\n" not in event and "\r" not in event:
            size = len(event) + state.text_overhead
        else:
            event = as_event(event, state.errors)
            size = len(event.encode(state.sep))
        writer = state.idle_writer
        if writer is not None and not self._closed:
            answer = writer.write_event(event, state.sep)
            if answer == "written":
                return
            if answer == "yield":
                await checkpoint()
                await self.send(event)
                return
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
                accept_or_drop(state, event, size, key)
        state.begin_slice()

    def send_nowait(self, event: Sendable, /) -> None:
        """Send one event if there is room. Not a checkpoint.

        Raises:
            WouldBlock: there is no room, and ``overflow`` is ``"wait"``. The event was not sent.
            BrokenResourceError, ClosedResourceError, ValueError, TypeError: as :meth:`send`.
            RuntimeError: you called it outside the channel's event loop, for example from a worker thread. The event
                was not sent; ``anyio.from_thread.run_sync(send_channel.send_nowait, event)`` sends it. In a thread that
                anyio has not started, add ``token=``, the ``anyio.lowlevel.current_token()`` of the event loop.
        """
        state = self._state
        held: Queued = event if type(event) is str and is_plain(event) else as_event(event, state.errors)
        size = size_of(held, state.sep)
        state.check_sendable(closed=self._closed)
        key = state.buffer.key_of(held)
        if not state.accept(held, size, key):
            if state.overflow == "wait":
                raise WouldBlock
            accept_or_drop(state, held, size, key)

    def started(self) -> None:
        """Announce that set-up is over: the response sends its status and headers without waiting for an event.

        Not a checkpoint. Until this call, the first event, or ``commit_within`` seconds, an exception from the producer
        can become an error response, such as a 404. A second call, or one after the headers, does nothing.
        """
        self._state.check_wakes("this send channel")
        self._state.start()

    async def wait_closing(self) -> None:
        """Wait until the stream is about to end or the last receive end is closed; return at once if it is so already.

        A checkpoint. With ``grace``, it returns when your producer has ``grace`` seconds left.
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
        """Why the response ends the stream; ``None`` until it does."""
        return self._state.close_reason

    def close(self) -> None:
        """Close this end. If it is the last one, the receiver gets the buffered events and then the end.

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
    """The end for consumers: a response or your own code. Get one from :func:`open_event_channel` or :meth:`clone`."""

    __slots__ = ("_received_at_once",)
    _received_at_once: int

    async def receive(self) -> ServerSentEvent:
        """Receive the oldest event, waiting while there is none.

        It is a schedule point and a cancellation point when it waits, and at every 256th event that was there at once.
        Cancellation is atomic: if it raises, no event was taken.

        Raises:
            EndOfStream: every send end is closed and every event was received. (``async for`` just ends.)
            ClosedResourceError: you closed this end.
        """
        if self._received_at_once >= SLICE_EVENTS:
            self._received_at_once = 0
            await checkpoint()
        while True:
            try:
                event = self.receive_nowait()
            except WouldBlock:
                pass  # wait below: in here, a cancellation would say "during handling of WouldBlock"
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
            msg = "this receive channel is closed, so you can't receive on it"
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
            state.wake_receiver()  # another end receives the event that this one was woken for

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None

    def close(self) -> None:
        """Close this end. If it is the last one, buffered events are dropped and senders get an error.

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
