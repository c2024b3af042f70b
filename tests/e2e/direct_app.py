# Streams whose events are far enough apart for direct writes, and how many of them were made, or sent.

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
from apps import report
from starlette.applications import Starlette
from starlette.routing import Route

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, ServerBridge, open_hub
from sse_trio._servers.direct_write import DirectWriter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import Message, Receive, Scope, Send

GAP = 0.01  # seconds between events
NOBODY = {"sent": -1}  # nobody counts: that would be somebody in between
written: list[bytes] = []  # what was written directly in a send()
try_event = DirectWriter.try_event


def try_event_counted(self: DirectWriter, body: bytes, /) -> bool:
    is_written = try_event(self, body)
    if is_written:
        written.append(body)
    return is_written


DirectWriter.try_event = try_event_counted


async def produce(send_channel: EventSendChannel, count: int, size: int) -> None:
    for n in range(count):
        await send_channel.send(f"{n} " + "x" * size)
        await anyio.sleep(GAP)


async def closed(name: str, state: dict[str, Any], reason: CloseReason) -> None:
    report("closed", name, reason=reason.value, sent=state["sent"], direct=len(written))
    written.clear()


async def stream(request: Request) -> EventSourceResponse:
    query = request.query_params
    return EventSourceResponse(
        produce,
        int(query["count"]),
        int(query.get("size", 0)),
        on_close=partial(closed, query["name"], request.scope.get("counted", NOBODY)),
        ping=float(query.get("ping", 15)),
    )


async def subscribe(request: Request) -> EventSourceResponse:
    name = request.query_params["name"]
    return EventSourceResponse(
        request.app.state.hub.subscribe("a"), on_close=partial(closed, name, request.scope.get("counted", NOBODY))
    )


async def publish(request: Request) -> EventSourceResponse:
    for n in range(int(request.query_params["count"])):
        await request.app.state.hub.publish("a", str(n))
        await anyio.sleep(GAP)
    return EventSourceResponse(produce, 1, 0)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with open_hub() as app.state.hub:
        yield


starlette = Starlette(
    routes=[Route("/stream", stream), Route("/subscribe", subscribe), Route("/publish", publish)], lifespan=lifespan
)


async def counted(scope: Scope, receive: Receive, send: Send) -> None:
    """Count the messages that go the whole way."""
    state = scope["counted"] = {"sent": 0}

    async def send_counted(message: Message) -> None:
        state["sent"] += 1
        await send(message)

    await starlette(scope, receive, send_counted)


async def either(scope: Scope, receive: Receive, send: Send) -> None:
    """Hand a request on as it is: to somebody in between if it asks for that, or to nobody."""
    between = b"somebody" in scope.get("query_string", b"")
    await (counted if between else starlette)(scope, receive, send)


app = ServerBridge(counted, express=True)
bridged = ServerBridge(either)
