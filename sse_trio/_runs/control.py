# Messages between the processes of one store: "stop this run", and "somebody watches it here".
#
# Rule 1: each open_runs() has a topic of its own in the hub. A message is an event without data, which
#         clients ignore if they have subscribed to everything. So a message is as durable and as ordered as any event,
#         and wakes its reader as any event does; nothing polls.
# Rule 2: a message names runs, and not only their keys: when it arrives, another run may have the key. One of a release
#         that did not say which run it means is for whichever has the key, and so is one for such a release's run.
# Rule 3: what is not understood is left alone: another release may have written it, or a program that publishes to
#         topics that are not its own.

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from itertools import chain, repeat
from typing import Literal, NamedTuple, TypeAlias, cast, final

from anyio.abc import TaskStatus

from .._hubs.hub import Hub
from .._wire.event import ServerSentEvent

__all__ = ("Control", "OnMessage", "Request", "RunRef")

Request: TypeAlias = Literal["stop", "watched"]
"""That the run is to stop, or that somebody watches it."""


class RunRef(NamedTuple):
    """Which run is meant."""

    key: str
    run: str
    """``RunRecord.run``; empty for whichever run has the key."""


OnMessage: TypeAlias = Callable[[Request, RunRef], None]


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

    async def send(self, owner: str, request: Request, refs: Collection[RunRef]) -> None:
        """Send a message to a process. Raises what ``publish()`` raises."""
        message = {request: [ref.key for ref in refs], "runs": [ref.run for ref in refs]}
        await self._hub.publish(self._topic(owner), ServerSentEvent(comment=json.dumps(message)))

    async def listen_for_messages(self, on_message: OnMessage, *, task_status: TaskStatus[None]) -> None:
        """Call the function with each message to this process, once for each run that it names."""
        async with self._hub.subscribe(self._topic(self._owner)) as subscription:
            task_status.started()
            async for event in subscription:
                for request, ref in _read(event.comment):
                    on_message(request, ref)


def _read(comment: str | None) -> Iterator[tuple[Request, RunRef]]:
    try:
        message: object = json.loads(comment or "{}")
    except (ValueError, RecursionError):
        return
    if isinstance(message, dict):
        fields = cast("dict[str, object]", message)
        runs = _texts(fields.get("runs"))
        requests: tuple[Request, ...] = ("stop", "watched")
        for request in requests:
            for key, run in zip(_texts(fields.get(request)), chain(runs, repeat("")), strict=False):
                yield request, RunRef(key, run)


def _texts(value: object) -> list[str]:
    texts = cast("list[str]", value) if isinstance(value, list) else []
    return texts if all(isinstance(cast("object", text), str) for text in texts) else []
