# Compressed streams of a topic: read along in by all subscribers, or sent by a producer for each.

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, cast

from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, Hub, ServerBridge, open_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sse_trio._compression.codings import Coding

PING = 0.1  # seconds, so that many tests see some


async def relay(send_channel: EventSendChannel, hub: Hub, topic: str) -> None:
    async with hub.subscribe(topic, replay=1) as subscription:
        async for event in subscription:
            await send_channel.send(event)


async def stream(request: Request) -> EventSourceResponse:
    hub, topic = request.app.state.hub, request.path_params["topic"]
    compress = cast("list[Coding]", request.query_params["compress"].split(","))
    await hub.publish(topic, "hello")
    if request.path_params["kind"] == "shared":
        return EventSourceResponse(hub.subscribe(topic, replay=1), compress=compress, ping=PING)
    return EventSourceResponse(relay, hub, topic, compress=compress, ping=PING)


async def publish(request: Request) -> PlainTextResponse:
    await request.app.state.hub.publish(request.path_params["topic"], request.path_params["data"])
    return PlainTextResponse("published")


async def page(request: Request) -> HTMLResponse:
    return HTMLResponse("<!doctype html><title>compression</title><link rel=icon href=data:,>")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with open_hub() as app.state.hub:
        yield


routes = [
    Route("/", page),
    Route("/{kind}/{topic}", stream),
    Route("/publish/{topic}/{data}", publish),
]
app = ServerBridge(Starlette(routes=routes, lifespan=lifespan), express=True)
