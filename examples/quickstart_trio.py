# Quickstart on trio: a clock for every client, served by hypercorn's trio worker.
#
#     pip install "sse-trio[hypercorn]"
#     python examples/quickstart_trio.py
#     curl -N http://127.0.0.1:8000/clock

from __future__ import annotations

import itertools

import trio
from _serve import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent


async def clock(send_channel: EventSendChannel) -> None:
    """Send one event per second. Cancelled when the client goes away or the server stops."""
    for n in itertools.count():
        await send_channel.send(ServerSentEvent(data=f"tick {n}", id=str(n)))
        await trio.sleep(1)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with a stream that `clock` feeds."""
    return EventSourceResponse(clock)


app = Starlette(routes=[Route("/clock", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)  # the same as: cd examples && hypercorn --worker-class trio quickstart_trio:app
