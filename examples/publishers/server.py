# The server of these examples: it streams what all of them publish, and takes events over HTTP as well.
#
#     python examples/publishers/server.py
#     curl -N http://127.0.0.1:8000/events/videos/7
#
# STORE names the hub's file, TOKEN is what programs in other languages publish with.

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, last_event_id, open_hub, publish_endpoint
from sse_trio.stores import SQLiteStore

STORE = os.environ.get("STORE", "events.sqlite")
TOKEN = os.environ.get("TOKEN") or secrets.token_urlsafe()


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


async def events(request: Request) -> EventSourceResponse:
    """Stream a topic, after what the client has had."""
    topic = request.path_params["topic"]
    return EventSourceResponse(request.state.hub.subscribe(topic, after=last_event_id(request)))


def authorize(request: Request) -> bool:
    """Let in who knows the token."""
    given = request.headers.get("authorization", "")
    return secrets.compare_digest(given.encode(), f"Bearer {TOKEN}".encode())


def hub_of(request: Request) -> Hub:
    """Return the hub that the lifespan has opened."""
    hub: Hub = request.state.hub
    return hub


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Open the hub on the file that the others publish to."""
    async with open_hub(SQLiteStore(STORE)) as hub:
        yield {"hub": hub}


routes = [
    Route("/events/{topic:path}", events),
    Route("/publish", publish_endpoint(hub_of, authorize=authorize)),
]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
