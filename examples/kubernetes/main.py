# The application of docs/containers.md: a stream, and the two probes of Kubernetes.

from __future__ import annotations

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, StreamGroup

SHUTDOWN_GRACE = 2.0

group = StreamGroup(
    shutdown_grace=SHUTDOWN_GRACE,  # seconds that producers get to finish what they are doing
    farewell=ServerSentEvent("back soon", event="farewell"),
    reconnect_within=10.0,  # clients come back over the next 10 s, not all at once
    max_streams=5_000,
)


async def clock(send_channel: EventSendChannel) -> None:
    """Tick."""
    number = 0
    while True:
        await send_channel.send({"id": number, "data": f"tick {number}"})
        number += 1
        await anyio.sleep(1)


async def events(request: Request) -> EventSourceResponse:
    """Open a stream."""
    return EventSourceResponse(clock, group=group)


async def alive(request: Request) -> Response:
    """Answer the liveness probe: the event loop runs."""
    return PlainTextResponse("ok")


async def ready(request: Request) -> Response:
    """Answer the readiness probe: there is room for more streams."""
    open_streams = group.statistics().open_streams
    return PlainTextResponse("ok") if open_streams < 4_500 else PlainTextResponse("full", 503)


routes = [Route("/events", events), Route("/alive", alive), Route("/ready", ready)]
app = Starlette(routes=routes)
app.add_middleware(ServerBridge)
