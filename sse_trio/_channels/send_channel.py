# The end for producers.
#
# Rule 1: an event that can't be encoded is an error of send(), raised in the producer.
# Rule 2: send() has a fast path for each of the two common cases, a stream that is idle and a slice that has begun.
#         Everything else is decided in state.py.

from __future__ import annotations

from time import perf_counter
from typing import TYPE_CHECKING, final

from anyio import Event, WouldBlock
from anyio.lowlevel import checkpoint

from .._wire.event import Sendable, as_event, is_plain
from .buffer import Queued, size_of
from .ends import End
from .overflow import accept_or_drop

if TYPE_CHECKING:
    from .._reasons import CloseReason

__all__ = ("EventSendChannel",)


@final
class EventSendChannel(End):
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
