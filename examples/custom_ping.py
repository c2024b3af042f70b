# Pings of your own. By default a stream that was silent for 15 s sends the comment `: ping`, which no client sees.
#
# A ping that is an event lets the page notice a dead connection: `source.addEventListener("ping", ...)`.
#
#     python examples/custom_ping.py
#     curl -N http://127.0.0.1:8000/quiet

from __future__ import annotations

import time

from _serve import serve
from anyio import sleep_forever
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent


async def quiet(send_channel: EventSendChannel) -> None:
    """Say hello and nothing more."""
    await send_channel.send("hello")
    await sleep_forever()


def ping() -> ServerSentEvent:
    """Make the event that is sent after each second of silence."""
    return ServerSentEvent(int(time.time()), event="ping")


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with a stream that pings every second."""
    return EventSourceResponse(quiet, ping=1.0, ping_message_factory=ping)


app = Starlette(routes=[Route("/quiet", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
