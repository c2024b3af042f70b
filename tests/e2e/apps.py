# The application under test: an endpoint for each thing that can happen to a stream. It reports what happened.

from __future__ import annotations

import itertools
import os
import time
from functools import partial
from typing import TYPE_CHECKING

import anyio
from _report import report
from reach_app import reach_app
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route, WebSocketRoute

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent
from sse_trio._servers.discovery import find_connection

if TYPE_CHECKING:
    from starlette.middleware.base import RequestResponseEndpoint
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send
    from starlette.websockets import WebSocket


async def ticks(send_channel: EventSendChannel, name: str) -> None:
    """Send a number every 50 ms for ever."""
    try:
        for number in itertools.count():
            await send_channel.send(number)
            await anyio.sleep(0.05)
    finally:
        await clean_up(name)


async def idle(send_channel: EventSendChannel, name: str) -> None:
    """Send one event and nothing more."""
    try:
        await send_channel.send("open")
        await anyio.sleep_forever()
    finally:
        await clean_up(name)


async def silent(send_channel: EventSendChannel, name: str) -> None:
    """Have the head sent, and send no event."""
    try:
        send_channel.started()
        await anyio.sleep_forever()
    finally:
        await clean_up(name)


async def flood(send_channel: EventSendChannel, name: str) -> None:
    """Send as fast as the client takes it, and say once since when it has taken nothing for a while."""
    try:
        while True:
            since = time.monotonic()
            with anyio.move_on_after(0.3) as given_up:
                await send_channel.send("x" * 1024)
            if given_up.cancelled_caught:
                report("stuck", name, since=since)
                await send_channel.send("x" * 1024)
    finally:
        await clean_up(name)


async def hold(send_channel: EventSendChannel, name: str, request: Request) -> None:
    """Send until an asyncio server holds bytes of a stalled client back in its transport, below high water."""
    connection = find_connection(request.scope, request.receive, None)
    transport = connection._cycle.transport if hasattr(connection, "_cycle") else connection._server.writer.transport
    try:
        while not transport.get_write_buffer_size():
            await send_channel.send("x" * 30_000)
            await anyio.sleep(0.002)
        report("held", name, size=transport.get_write_buffer_size())
        await anyio.sleep_forever()
    finally:
        await clean_up(name)


async def count(send_channel: EventSendChannel, name: str) -> None:
    """Send three events and end."""
    for number in range(3):
        await send_channel.send(ServerSentEvent(number, id=str(number)))


async def fail(send_channel: EventSendChannel, name: str) -> None:
    """Send five events and fail."""
    for number in range(5):
        await send_channel.send(number)
    raise RuntimeError("on purpose, after five events")


async def missing(send_channel: EventSendChannel, name: str) -> None:
    """Find in the set-up that there is nothing to stream."""
    await anyio.sleep(0.01)
    raise HTTPException(404, "no such thing")


async def crash(send_channel: EventSendChannel, name: str) -> None:
    """Fail in the set-up."""
    raise RuntimeError("on purpose, before the first event")


async def echo(send_channel: EventSendChannel, name: str, request: Request) -> None:
    """Send the request's body back, piece by piece as it comes, and then wait for the client to go."""
    try:
        async for piece in request.stream():
            if piece:
                await send_channel.send(piece.decode())
        await send_channel.send("whole")
        await anyio.sleep_forever()
    finally:
        await clean_up(name)


async def clean_up(name: str) -> None:
    """Clean up as users are told to: shielded, for it awaits."""
    with anyio.move_on_after(5, shield=True):
        await anyio.sleep(0.01)
        report("cleaned", name)


async def stream(request: Request) -> Response:
    """Stream what the path names; the query names the stream, and its times."""
    query = request.query_params
    name = query.get("name", request.url.path)
    producer = PRODUCERS[request.path_params["producer"]]
    args = (name, request) if producer in {echo, hold} else (name,)
    return EventSourceResponse(
        producer,
        *args,
        ping=float(query.get("ping", 15)),
        send_timeout=float(query.get("send_timeout", 30)),
        max_lifetime=float(query.get("max_lifetime", "inf")),
        on_close=partial(closed, name),
        farewell=None if "no_farewell" in query else ServerSentEvent(event="bye", data="farewell"),
    )


async def closed(name: str, reason: CloseReason) -> None:
    report("closed", name, reason=reason.value)


async def through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


async def deny(websocket: WebSocket) -> None:
    """Answer a WebSocket's handshake with a stream."""
    await websocket.send_denial_response(EventSourceResponse(count, "denied", on_close=partial(closed, "denied")))


PRODUCERS = {
    producer.__name__: producer for producer in (ticks, idle, silent, flood, hold, count, fail, missing, crash, echo)
}

streams = [Route("/{producer}", stream, methods=["GET", "HEAD", "POST"])]
starlette = Starlette(
    routes=[
        WebSocketRoute("/denied", deny),
        Mount("/bare", app=reach_app),
        Mount("/wrapped", routes=streams, middleware=[Middleware(BaseHTTPMiddleware, dispatch=through)]),
        *streams,
    ]
)


async def pass_on(send: Send, message: Message) -> None:
    await send(message)


async def hidden(scope: Scope, receive: Receive, send: Send) -> None:
    """The same behind a middleware from whose `send` nothing leads to the server's."""
    await starlette(scope, receive, partial(pass_on, send))


inner = hidden if os.environ.get("SSE_E2E_HIDDEN") else starlette
bridge = os.environ["SSE_E2E_BRIDGE"]
app = inner if bridge == "none" else ServerBridge(inner, express=bridge == "express")
