# The recorder of a run: it has what the producer sends kept by the store, event by event, in order.
#
# Rule 1: an event that finds nothing under way is given to the store in the send() that brings it, and the store calls
#         back when it has it. No task runs for it. What comes meanwhile waits in the channel, and is appended at once.
# Rule 2: one append at a time: if it fails, nothing that follows it can have been kept.
# Rule 3: only the task raises: what goes wrong in a send(), or in the call of the store, it is woken for.
# Rule 4: a store that can't call back (`append_held_soon`) is waited for by the task, for each event.

from __future__ import annotations

from typing import TYPE_CHECKING, final

from .._channels.ends import state_of
from .._channels.receive_channel import EventReceiveChannel
from .._channels.waiters import WaitingReceive
from .._errors import StoreUnavailableError
from ..stores._protocol import EventId, pack_event
from .limits import RunSize
from .log import RunLog

if TYPE_CHECKING:
    from .._channels.buffer import Queued
    from .._channels.waiters import Answer
    from .._wire.event import ServerSentEvent

__all__ = ("BATCH", "Recorder")

BATCH = 256
"""Events that are appended to the store at once."""


@final
class Recorder:
    """Keeps what is sent on a channel (``IdleWriter``).

    Args:
        receive_channel: the end to receive from. Nobody else does.
        size: of the run.
        log: of the run.
    """

    def __init__(self, receive_channel: EventReceiveChannel, size: RunSize, log: RunLog) -> None:
        self._receive_channel = receive_channel
        self._state = state_of(receive_channel)
        self._size = size
        self._log = log
        self._loop = self._state.bound_loop()
        self._parking = self._loop.new_parking()
        self._under_way: list[tuple[str, bytes]] | None = None
        self._error: Exception | None = None

    async def run(self) -> None:
        """Keep what is sent, until it is the end, however long the store is down.

        Raises HoldLostError, RunTooLargeError, and ValueError or TypeError for an event that can't be kept.
        """
        while True:
            await self._finish()
            if events := self._take():
                await self.keep(events)
            elif self._state.at_end():
                return
            else:
                await self._wait()

    # --- in a task

    async def _finish(self) -> None:
        # Wait for what is under way, and see to what went wrong.
        while self._under_way is not None and self._error is None:
            await self._parking.park()
        items, self._under_way = self._under_way, None
        error, self._error = self._error, None
        if items is not None and isinstance(error, StoreUnavailableError):
            await self._log.append_patiently(items, error)
        elif error is not None:
            raise error

    def _take(self) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        while len(events) < BATCH and self._state.is_ready():
            events.append(self._receive_channel.receive_nowait())
        return events

    async def keep(self, events: list[ServerSentEvent]) -> None:
        """Append these events, and wait for it. Raise the error of one that can't be kept, after those before it."""
        payloads: list[bytes] = []
        try:
            for event in events:
                payload = pack_event(event)
                self._size.add(len(payload))
                payloads.append(payload)
        finally:
            if payloads:
                await self._log.append(payloads)

    async def _wait(self) -> None:
        waiting = WaitingReceive(self._receive_channel, self._parking)
        self._state.begin_waiting(waiting)
        self._offer()
        try:
            await self._parking.park()
        finally:
            self._state.end_waiting(waiting)

    # --- without a task

    def _offer(self) -> None:
        if self._log.can_append_soon:
            self._state.offer_idle(self)

    def write_event(self, event: Queued, sep: str) -> Answer:
        """Begin to append an event, inside its send()."""
        if not self._loop.is_here():
            return "queue"  # which raises
        del sep  # payloads have LF
        self._state.idle_writer = None
        self._state.received += 1
        try:
            payload = f"data: {event}\n\n".encode() if isinstance(event, str) else pack_event(event)
            self._size.add(len(payload))
            self._under_way = self._log.append_soon(payload, self._on_done)
        except Exception as exc:  # noqa: BLE001 -- the run fails, not this send()
            self._fail(exc)
        return "written"

    def _on_done(self, outcome: list[EventId] | Exception) -> None:
        if isinstance(outcome, Exception):
            self._fail(outcome)
            return
        self._under_way = None
        self._log.kept(outcome)
        self._offer()  # unless the task is on its way
        if self._state.idle_writer is None:
            self._parking.unpark()

    def _fail(self, error: Exception) -> None:
        self._error = error
        self._parking.unpark()
