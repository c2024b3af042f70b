# Iteration: an event source's steps, one after another, until there is an event, an end or a failure.
#
# Rule 1: no task runs in the background. Every step runs in the task that iterates, so cancelling that task stops
#         everything, and a slow consumer slows the server down instead of filling memory. The one exception: a
#         receive() with a timeout leaves its step to a task that outlives the timeout, and aclose() ends that task.
# Rule 2: events that were received are returned before anything else happens, so the server sends none of them twice.
# Rule 3: close() and restart() work from any task of the event loop: they interrupt the step, and the iterating task
#         does the rest.

from __future__ import annotations

from typing import NoReturn

import anyio
from anyio.lowlevel import checkpoint

from .._loops.current import current_loop
from .._loops.loop import check_here
from .._wire.received import ReceivedEvent
from ._connector import Connector
from ._interruptible import Interruptible
from ._lasting import LastingStep
from ._options import EventSourceOptions
from ._received import ReceivedEvents
from ._reconnect import Backoff
from ._request import StreamRequest
from ._state import ConnectionState, SourceState

__all__ = ("Iteration",)


class Iteration:
    """What an :class:`EventSource` runs on."""

    state: SourceState
    received: ReceivedEvents

    def __init__(
        self, request: StreamRequest, backoff: Backoff, options: EventSourceOptions, last_event_id: str
    ) -> None:
        self.request = request
        self.backoff = backoff
        self.state = SourceState()
        self.received = ReceivedEvents(request, options, last_event_id)
        self._waits = Interruptible()
        self._connector = Connector(request, backoff, options, self.state, self.received, self._waits)
        self._guard = anyio.ResourceGuard("reading from")
        self._lasting = LastingStep()
        self._loop = current_loop()

    async def open(self) -> None:
        """Connect as often as it takes until there is a stream, or a reason why there won't be one."""
        self.state.enter(ConnectionState.CONNECTING)
        while self.state.connection is ConnectionState.CONNECTING:
            await self._step(is_lasting=False)
        if self.state.failure is not None:
            await self._finish()

    async def next_event(self, *, is_lasting: bool) -> ReceivedEvent:
        """Return the next event. With ``is_lasting``, a cancellation doesn't end the step that is under way."""
        while not self.received.events:
            if self.state.is_closed and not self._lasting.is_pending:
                await self._finish()
            await self._step(is_lasting=is_lasting)
        return self.received.pop()

    def restart(self) -> None:
        """Have the next step drop the connection and connect again at once."""
        self._check_here()
        self._waits.interrupt()

    def close(self) -> None:
        """End the iteration: no event comes after this."""
        self._check_here()
        self.received.events.clear()
        self._waits.interrupt()
        self.state.close()

    async def aclose(self) -> None:
        """End the iteration and close the connection, unless another task still iterates: then that task closes it."""
        try:
            self.close()
        finally:  # whatever on_state_change raises
            self.state.on_change = None  # which refers to the event source, and that to this
            try:
                await self._lasting.aclose()
            finally:
                if not self._waits.is_waiting:
                    await self._connector.drop()

    def _check_here(self) -> None:
        if self._waits.is_waiting:
            check_here(self._loop, "this event source")

    async def _step(self, *, is_lasting: bool) -> None:
        """Do the next thing that takes time, here or in a task that goes on if this one is cancelled."""
        with self._guard:
            if is_lasting and not self._lasting.is_pending:
                self._lasting.start(self._advance)
            if self._lasting.is_pending:
                await self._lasting.wait()
            else:
                await self._advance()

    async def _advance(self) -> None:
        """Do the next thing that takes time: wait, connect or read."""
        if self._waits.is_interrupted:
            self._waits.clear()
            await self._connector.restart()
        elif self._connector.has_stream:
            await self._connector.read()
        elif anyio.current_time() < self.state.connect_at:
            with self._waits.scope():
                await anyio.sleep_until(self.state.connect_at)
        else:
            await self._connector.connect()

    async def _finish(self) -> NoReturn:
        await self._connector.drop()
        await checkpoint()  # before the failure is taken: a call that is cancelled here leaves it for the next one
        raise self.state.take_failure() or StopAsyncIteration
