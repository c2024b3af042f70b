# A shutdown in three steps: producers are told, they finish what they are at, the client gets a farewell.
#
# Without `shutdown_grace` a producer is cancelled at once; the farewell and the final frame are sent in any case.
# `reconnect_within=10` tells each client to come back after a random time of up to 10 s, so that a deploy with ten
# thousand clients is no stampede.
#
#     python examples/graceful_shutdown.py
#     curl -N http://127.0.0.1:8000/batches     # and Ctrl+C in the server's terminal

from __future__ import annotations

import itertools

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, StreamGroup

GROUP = StreamGroup(
    shutdown_grace=1.0,
    reconnect_within=10.0,
    farewell=ServerSentEvent("the server restarts", event="farewell"),
)


async def batches(send_channel: EventSendChannel) -> None:
    """Send batches of three that nobody wants to see torn apart."""
    for batch in itertools.count():
        for part in range(3):
            await send_channel.send(ServerSentEvent(f"batch {batch}, part {part}", event="part"))
            await sleep(0.1)
        if send_channel.close_reason is not None:  # the stream is ending, and this is a good place to stop
            return


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with batches."""
    return EventSourceResponse(batches, group=GROUP)


app = Starlette(routes=[Route("/batches", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
