# The end for consumers: for their own code, or for a response.

from __future__ import annotations

from typing import TYPE_CHECKING, final

from anyio import ClosedResourceError, EndOfStream, WouldBlock
from anyio.lowlevel import checkpoint

from .._wire.event import ServerSentEvent, as_event
from .ends import End
from .pacer import SLICE_EVENTS
from .waiters import WaitingReceive

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ("EventReceiveChannel",)


@final
class EventReceiveChannel(End):
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
