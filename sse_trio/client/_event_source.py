# EventSource: what open_event_source() gives. It shows the state and returns events; _iteration.py does the work.

from __future__ import annotations

import anyio
import httpx
from anyio.lowlevel import checkpoint_if_cancelled

from .._arguments.checks import shown
from .._wire.received import ReceivedEvent
from ._arguments import check_seconds
from ._iteration import Iteration
from ._state import ConnectionState

__all__ = ("EventSource",)


class EventSource:
    """A stream of :class:`ReceivedEvent` that connects again when it breaks. Made by :func:`open_event_source`.

    Iterating gives the events. The iteration ends when the server says that there are no more (204), when the response
    ends and reconnecting is off, and after :meth:`close`.
    """

    def __init__(self, iteration: Iteration) -> None:
        self._iteration = iteration
        self._state = iteration.state

    def __repr__(self) -> str:
        what = f"{self._iteration.request.description}, {self.state.value}, attempt {self.attempt}"
        return f"<EventSource: {what}, last_event_id={shown(self.last_event_id)}>"

    @property
    def state(self) -> ConnectionState:
        """CONNECTING until there is a stream and after it broke, OPEN while there is one, and CLOSED at the end."""
        return self._state.connection

    @property
    def response(self) -> httpx.Response | None:
        """The latest response, for its status, headers and final URL; ``None`` before the first."""
        return self._state.response

    @property
    def last_event_id(self) -> str:
        """The id to go on from, as of the event that was returned last. Store it to resume later."""
        return self._iteration.received.last_event_id

    @property
    def retry(self) -> float:
        """The reconnection time in seconds: the one that the server set last, or the one that you gave."""
        return self._iteration.backoff.retry

    @property
    def attempt(self) -> int:
        """The number of the current connection, or of the next one if there is none; from 1."""
        return self._state.attempt

    @property
    def error(self) -> Exception | None:
        """Why the previous connection ended or failed; ``None`` if the server ended it, and before the first."""
        return self._state.error

    @property
    def connect_at(self) -> float:
        """When the current connection was made, or the next one will be, on the clock of ``anyio.current_time()``."""
        return self._state.connect_at

    @property
    def skipped(self) -> int:
        """How many events were skipped because they were larger than ``max_event_size``."""
        return self._iteration.received.skipped

    def restart(self) -> None:
        """Drop the connection and connect again at once. You can call it from any task of the event loop.

        It does nothing once the source is closed.
        """
        self._iteration.restart()

    def close(self) -> None:
        """End the iteration, whichever task iterates. You can call it from any task of the event loop.

        No event comes after this. No checkpoint. The iterating task, or leaving the ``async with`` block, closes the
        connection.
        """
        self._iteration.close()

    def __aiter__(self) -> EventSource:
        return self

    async def __anext__(self) -> ReceivedEvent:
        """Wait for the next event and return it.

        A cancellation point always, and a schedule point where it waits for the network, which is once for each chunk
        of bytes. Cancellation: no event is lost. While it waits for the network, the connection is closed; the next
        call then connects again, or raises :exc:`EventSourceError` if reconnecting is off.

        Raises:
            StopAsyncIteration: there are no more events.
            EventSourceError: the server's answer is final and not an event stream, or the stream broke and
                reconnecting is off.
            EventTooLargeError: the server sent an event larger than ``max_event_size``.
            BusyResourceError: another task is waiting for the next event.
        """
        await checkpoint_if_cancelled()
        return await self._iteration.next_event(is_lasting=False)

    async def receive(self, *, timeout: float | None = None) -> ReceivedEvent:  # noqa: ASYNC109 -- it ends no connection
        """Wait for the next event and return it; for at most ``timeout`` seconds if you give one.

        A timeout ends this call and nothing else: the connection stays open, and the next call goes on waiting. (A
        ``move_on_after()`` around the iteration closes the connection.) Between calls, a task of the source waits for
        the network; leaving the source's block ends it.

        A cancellation point always, and a schedule point where it waits. Cancellation: no event is lost. With a
        ``timeout``, the connection stays open then as well.

        Raises:
            TimeoutError: no event came in time.
            EndOfStream: there are no more events.
            TypeError: ``timeout`` is not a number.
            ValueError: ``timeout`` is negative, or not finite.
            EventSourceError, EventTooLargeError, BusyResourceError: as for an iteration.
        """
        check_seconds("timeout", timeout, zero=True, none="to wait for ever")
        await checkpoint_if_cancelled()
        try:
            with anyio.fail_after(timeout):
                return await self._iteration.next_event(is_lasting=timeout is not None)
        except StopAsyncIteration:
            raise anyio.EndOfStream from None
