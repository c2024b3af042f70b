# Several machines share a hub: their servers use the same Redis, or Valkey.
#
# Here two servers of one machine stand for them. Whichever of them a client is connected to, it gets what all of them
# publish, in one order, and it can go on at any of them. While Redis is down, streams stay open, and catch up when it
# is back.
#
#     pip install "sse-trio[hypercorn,redis]"
#     redis-server --appendonly yes
#     python examples/two_servers_redis.py
#     PORT=8001 python examples/two_servers_redis.py
#     curl -N http://127.0.0.1:8000/events     # shows what both publish

from __future__ import annotations

import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from _serve import serve
from anyio import create_task_group, sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, StoreUnavailableError, last_event_id, open_hub
from sse_trio.stores.redis import RedisStore

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379")


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


async def report(hub: Hub) -> None:
    """Publish something from each server, as far as Redis can be reached."""
    while True:
        try:
            await hub.publish("servers", f"server {os.getpid()} on {socket.gethostname()} is well")
        except StoreUnavailableError as exc:
            print(exc)
        await sleep(0.5)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with what the servers publish."""
    return EventSourceResponse(request.state.hub.subscribe("servers", after=last_event_id(request)))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Each server has a hub of its own on the Redis that they share."""
    store = RedisStore(REDIS_URL, name="example", max_age=3600)
    async with open_hub(store) as hub, create_task_group() as task_group:
        task_group.start_soon(report, hub)
        yield {"hub": hub}
        task_group.cancel_scope.cancel()


app = Starlette(routes=[Route("/events", endpoint)], lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
