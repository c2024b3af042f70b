# Prices that change faster than some clients read: a slow client skips prices, and never gets an old one.
#
# Each client has a channel with `conflate`: a price that waits there is replaced by the next one of its symbol. So what
# a client is behind is at most one price for each symbol, and the producer never waits for it. The store keeps one
# price for each symbol, so `replay` is what a new client has to know, and a client that comes back is a new one.
#
#     python examples/price_ticker.py
#     curl -N --limit-rate 1k http://127.0.0.1:8000/prices

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TypedDict

from _serve import serve
from anyio import create_task_group, sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import (
    EventSendChannel,
    EventSourceResponse,
    Hub,
    ServerBridge,
    ServerSentEvent,
    open_event_channel,
    open_hub,
)
from sse_trio.stores import MemoryStore, Retention

SYMBOLS = ("ACME", "BOLT", "CORK")


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


async def trade(hub: Hub) -> None:
    """Stand for the exchange."""
    while True:
        symbol = random.choice(SYMBOLS)
        await hub.publish(f"prices/{symbol}", ServerSentEvent(f"{random.uniform(90, 110):.2f}", event=symbol))
        await sleep(0.01)


async def pass_on(send_channel: EventSendChannel, hub: Hub) -> None:
    """Move prices from the hub to one client's channel, where they replace each other."""
    latest = hub.subscribe("prices/*", replay=len(SYMBOLS), overflow="drop_oldest")
    async with send_channel, latest as subscription:
        async for price in subscription:
            await send_channel.send(price)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with prices, as many as the client can take."""
    send_channel, receive_channel = open_event_channel(conflate=lambda price: price.event)
    return EventSourceResponse(receive_channel, producers=[partial(pass_on, send_channel, request.state.hub)])


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Trade while the server runs."""
    store = MemoryStore(per_topic=Retention(max_events=1))
    async with open_hub(store) as hub, create_task_group() as task_group:
        task_group.start_soon(trade, hub)
        yield {"hub": hub}
        task_group.cancel_scope.cancel()


app = Starlette(routes=[Route("/prices", endpoint)], lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
