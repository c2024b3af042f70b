# The pair is yours: two producers feed one stream, each with a send channel of its own.
#
# The stream ends when every send channel is closed, so each producer closes the one that it was given. If either
# fails, the other is cancelled, and the events that were accepted before are still delivered.
#
#     python examples/explicit_pair.py
#     curl -N http://127.0.0.1:8000/desk

from __future__ import annotations

import random
from functools import partial

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, open_event_channel


async def quotes(send_channel: EventSendChannel, symbol: str) -> None:
    """Send a price a few times per second, for ever."""
    async with send_channel:
        price = 100.0
        while True:
            price += random.uniform(-1, 1)
            await send_channel.send(ServerSentEvent.json({"symbol": symbol, "price": round(price, 2)}, event="quote"))
            await sleep(0.25)


async def headlines(send_channel: EventSendChannel) -> None:
    """Send a headline every second, ten in all."""
    async with send_channel:
        for n in range(1, 11):
            await send_channel.send(ServerSentEvent(f"headline {n}", event="news"))
            await sleep(1)


async def endpoint(request: Request) -> EventSourceResponse:
    """Open the pair, and hand one end to the response and the other to two producers that it runs."""
    send_channel, receive_channel = open_event_channel(max_buffer_size=16)
    return EventSourceResponse(
        receive_channel,
        producers=[partial(quotes, send_channel, "ACME"), partial(headlines, send_channel.clone())],
    )


app = Starlette(routes=[Route("/desk", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
