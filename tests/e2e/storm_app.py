# Streams of a group with room for so many, all of them fed with the time, and what the group has counted.

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerBridge, ServerSentEvent, StreamGroup, open_hub

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from sse_trio import Hub

HZ = 20

group = StreamGroup(max_streams=int(os.environ["SSE_E2E_MAX_STREAMS"]))


async def publish(hub: Hub) -> None:
    while True:
        await hub.publish("time", ServerSentEvent(time.monotonic()))  # the same clock in every process
        await anyio.sleep(1 / HZ)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    async with open_hub() as app.state.hub, anyio.create_task_group() as task_group:
        task_group.start_soon(publish, app.state.hub)
        yield
        task_group.cancel_scope.cancel()


async def stream(request: Request) -> EventSourceResponse:
    return EventSourceResponse(request.app.state.hub.subscribe("time"), group=group)


async def counted(request: Request) -> JSONResponse:
    statistics = group.statistics()
    refused = {reason.value: count for reason, count in statistics.refused.items()}
    return JSONResponse({"open": statistics.open_streams, "opened": statistics.opened, "refused": refused})


app = ServerBridge(Starlette(routes=[Route("/", stream), Route("/counted", counted)], lifespan=lifespan))
