# A hub's stream as every client reads it: with `retry`, pings, a named event, an end that makes the client reconnect.
#
# Rule: what is published waits for the client. The first stream, which has no id, makes three events, with pings before
#       and between them, and ends. The one that comes back makes three more, and ends. The third is a 204.

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from _report import report
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerBridge, ServerSentEvent, StreamGroup, last_event_id, open_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request


class Client:
    """One client, and how far it is."""

    def __init__(self) -> None:
        self.visits = 0
        self.group = StreamGroup()


async def stream(request: Request) -> Response:
    """What a client gets that has this name."""
    name, state = request.path_params["name"], request.state
    client = state.clients.setdefault(name, Client())
    client.visits += 1
    report("visit", f"{name}-{client.visits}", id=last_event_id(request))
    if client.visits > 2:
        return Response(status_code=204)
    subscription = state.hub.subscribe(name, after=last_event_id(request))
    state.nursery.start_soon(publish, state.hub, name, client, client.visits)
    return EventSourceResponse(subscription, ping=0.05, retry=20, group=client.group)


async def publish(hub, name: str, client: Client, visit: int) -> None:
    """Publish what this visit is to see, then end it."""
    for n in range(3):
        await anyio.sleep(0.15)  # three pings
        event = None if n % 2 == 0 else "named"
        await hub.publish(name, ServerSentEvent.json({"n": 10 * visit + n, "text": "line\u2026"}, event=event))
    await anyio.sleep(0.15)
    await client.group.kick()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, object]]:
    async with anyio.create_task_group() as nursery, open_hub() as hub:
        yield {"hub": hub, "nursery": nursery, "clients": {}}
        nursery.cancel_scope.cancel()


app = ServerBridge(Starlette(routes=[Route("/{name}", stream, methods=["GET", "POST"])], lifespan=lifespan))
