# Quickstart on asyncio: a clock for every client, served by uvicorn.
#
#     pip install "sse-trio[uvicorn]"
#     python examples/quickstart_asyncio.py
#     curl -N http://127.0.0.1:8000/clock

from __future__ import annotations

import asyncio
import itertools
import os

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent


async def clock(send_channel: EventSendChannel) -> None:
    """Send one event per second. Cancelled when the client goes away or the server stops."""
    for n in itertools.count():
        await send_channel.send(ServerSentEvent(data=f"tick {n}", id=str(n)))
        await asyncio.sleep(1)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with a stream that `clock` feeds."""
    return EventSourceResponse(clock)


app = Starlette(routes=[Route("/clock", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))  # or: cd examples && uvicorn quickstart_asyncio:app
