# A pipeline: a coroutine of yours sits between two pairs and lets through what it likes.
#
# `receive` gives back the very events that were sent, so a stage can look at them, change them or drop them. Every
# stage runs in the response's nursery: when the client goes away, all of them end.
#
#     python examples/pipeline.py
#     curl -N http://127.0.0.1:8000/earthquakes/large

from __future__ import annotations

import json
import random
from functools import partial

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import (
    EventReceiveChannel,
    EventSendChannel,
    EventSourceResponse,
    ServerBridge,
    ServerSentEvent,
    open_event_channel,
)


async def earthquakes(send_channel: EventSendChannel) -> None:
    """Report every earthquake there is."""
    async with send_channel:
        while True:
            await send_channel.send(ServerSentEvent.json({"magnitude": round(random.uniform(1, 9), 1)}))
            await sleep(0.05)


async def only_large(receive_channel: EventReceiveChannel, send_channel: EventSendChannel) -> None:
    """Pass on those of magnitude 6 and more."""
    async with receive_channel, send_channel:
        async for event in receive_channel:
            if json.loads(event.data or "null")["magnitude"] >= 6:
                await send_channel.send(event)


async def endpoint(request: Request) -> EventSourceResponse:
    """Connect the stages: earthquakes -> only_large -> the client."""
    send_all, receive_all = open_event_channel(max_buffer_size=0)  # a rendezvous: no stage runs ahead of the next
    send_large, receive_large = open_event_channel()
    return EventSourceResponse(
        receive_large,
        producers=[partial(earthquakes, send_all), partial(only_large, receive_all, send_large)],
    )


app = Starlette(routes=[Route("/earthquakes/large", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
