# Messages between the processes of one store: "stop this run", and "somebody watches it here".
#
# Rule 1: each open_runs() has a topic of its own in the hub. A message is an event without data, which
#         clients ignore if they have subscribed to everything. So a message is as durable and as ordered as any event,
#         and wakes its reader as any event does; nothing polls.
#         What is not such a message, from whoever may publish there, is logged and changes nothing.
# Rule 2: a process that watches a run which stops when it is unwatched says so again and again. A process that is gone
#         says nothing.

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast, final

from anyio import Event, sleep
from anyio.abc import TaskStatus

from .._errors import StoreUnavailableError
from .._hubs.hub import Hub
from .._wire.event import ServerSentEvent

__all__ = ("Control", "Watchers")

MOST_OFTEN = 0.05
"""Seconds between two messages about watchers, at least."""

_logger = logging.getLogger("sse_trio")


@final
class Control:
    """Sends messages to other processes, and receives those to this one.

    Args:
        hub: the hub.
        prefix: of the runs.
        owner: the name of this process.
    """

    def __init__(self, hub: Hub, prefix: str, owner: str) -> None:
        self._hub = hub
        self._prefix = prefix
        self._owner = owner

    def _topic(self, owner: str) -> str:
        return f"{self._prefix}-control/{owner}"

    async def send(self, owner: str, **message: list[str]) -> None:
        """Send a message to a process. Raises what ``publish()`` raises."""
        await self._hub.publish(self._topic(owner), ServerSentEvent(comment=json.dumps(message)))

    async def listen_for_messages(
        self, on_message: Callable[[dict[str, list[str]]], None], *, task_status: TaskStatus[None]
    ) -> None:
        """Call the function with each message to this process."""
        async with self._hub.subscribe(self._topic(self._owner)) as subscription:
            task_status.started()
            async for event in subscription:
                if event.comment is not None:
                    on_message(_read_message(event.comment))


def _read_message(text: str) -> dict[str, list[str]]:
    try:
        message = cast("dict[str, list[object]]", json.loads(text))
        return {name: [key for key in keys if isinstance(key, str)] for name, keys in message.items()}
    except (ValueError, TypeError, AttributeError, RecursionError):
        _logger.warning("a message to the runs of this process makes no sense; was it sent by another version?")
        return {}


@final
class Watchers:
    """The watchers that this process has of runs in other processes, if those stop when they are unwatched."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._watched: Counter[tuple[str, str, float]] = Counter()
        self._came = Event()

    @contextmanager
    def watching(self, key: str, owner: str, seconds: float) -> Generator[None]:
        """Tell the owner about this watcher, while the body runs."""
        entry = (owner, key, seconds)
        self._watched[entry] += 1
        self._came.set()
        try:
            yield
        finally:
            self._watched[entry] -= 1
            self._watched += Counter[tuple[str, str, float]]()  # drop what is down to 0

    async def tell(self) -> None:
        """Tell the owners, three times in the shortest time that one waits."""
        while True:
            if not self._watched:
                self._came = Event()
                await self._came.wait()
            for owner in {owner for owner, _, _ in self._watched}:
                try:
                    await self._control.send(owner, watched=[key for one, key, _ in self._watched if one == owner])
                except StoreUnavailableError:
                    break  # said again soon
            shortest = min((seconds for _, _, seconds in self._watched), default=0.0)
            await sleep(max(MOST_OFTEN, shortest / 3))
