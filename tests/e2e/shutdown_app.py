# The application for tests of shutdowns: the streams of apps.py, an endpoint that is slow to open one, and who serves.

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from _report import report
from apps import stream
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sse_trio import ServerBridge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.responses import Response


async def late(request: Request) -> Response:
    """Read an upload before the stream opens."""
    report("at work", request.query_params["name"])
    await request.body()
    return await stream(request)


async def quick(request: Request) -> Response:
    """Complete a request at once."""
    return PlainTextResponse("quick")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    report("started", str(os.getpid()))
    yield
    report("stopped", str(os.getpid()))


routes = [
    Route("/quick", quick),
    Route("/late/{producer}", late, methods=["POST"]),
    Route("/{producer}", stream),
]
app = ServerBridge(Starlette(routes=routes, lifespan=lifespan))
