# A hub behind a stream, for clients that are cut off while it is published to. `/` opens an EventSource and keeps what
# it receives; `/begin` publishes a first number, `/publish` begins to publish the others and an event `end` after them.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import anyio
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, ServerSentEvent, last_event_id, open_hub
from sse_trio.stores import SQLiteStore

RETRY = 10  # ms
PAGE = """<!doctype html><title>resume</title><link rel="icon" href="data:,"><body><script>
const received = [];
const source = new EventSource("/events");
source.onopen = () => { document.body.dataset.opened = "true"; };
source.onmessage = (event) => received.push(event.data);
source.addEventListener("gap", (event) => received.push("gap " + event.data));
source.addEventListener("end", () => { document.body.dataset.ended = "true"; source.close(); });
</script>"""


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub
    task_group: TaskGroup


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def events(request: Request) -> EventSourceResponse:
    subscription = request.state.hub.subscribe("numbers", after=last_event_id(request), id_blocks=True)
    return EventSourceResponse(subscription, retry=RETRY)


async def begin(request: Request) -> Response:
    await request.state.hub.publish("numbers", 0)
    return Response(status_code=204)


async def publish(request: Request) -> Response:
    request.state.task_group.start_soon(publish_numbers, request.state.hub, int(request.query_params["count"]))
    return Response(status_code=202)


async def publish_numbers(hub: Hub, count: int) -> None:
    """Publish up to 2,000 a second, so that a client is cut and comes back many times meanwhile."""
    for first in range(1, count, 10):
        await hub.publish_many([("numbers", number) for number in range(first, min(first + 10, count))])
        await anyio.sleep(0.005)
    await hub.publish("numbers", ServerSentEvent(count, event="end"))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    store = SQLiteStore(os.environ["STORE"]) if "STORE" in os.environ else None
    async with open_hub(store) as hub, anyio.create_task_group() as task_group:
        yield {"hub": hub, "task_group": task_group}
        task_group.cancel_scope.cancel()


app = ServerBridge(
    Starlette(
        routes=[
            Route("/", page),
            Route("/events", events),
            Route("/begin", begin, methods=["POST"]),
            Route("/publish", publish, methods=["POST"]),
        ],
        lifespan=lifespan,
    )
)
