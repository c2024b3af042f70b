# Several workers on one machine share a hub: they open the same SQLite file.
#
# Whichever worker a client is connected to, it gets what every worker publishes, in one order; it may come back to
# another worker and go on there. The file survives a restart, and so does everybody's place in it.
#
#     python examples/several_workers.py
#     curl -N http://127.0.0.1:8000/events     # shows what all workers publish

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from anyio import create_task_group, sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, last_event_id, open_hub
from sse_trio.stores import SQLiteStore


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


async def report(hub: Hub) -> None:
    """Publish something from each worker."""
    while True:
        await hub.publish("workers", f"worker {os.getpid()} is well")
        await sleep(0.5)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with what the workers publish."""
    return EventSourceResponse(request.state.hub.subscribe("workers", after=last_event_id(request)))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Each worker has a hub of its own on the file that they share."""
    store = SQLiteStore("several_workers.sqlite", max_age=3600)
    async with open_hub(store) as hub, create_task_group() as task_group:
        task_group.start_soon(report, hub)
        yield {"hub": hub}
        task_group.cancel_scope.cancel()


app = Starlette(routes=[Route("/events", endpoint)], lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    import uvicorn

    # The same as: cd examples && uvicorn --workers 2 several_workers:app
    uvicorn.run("several_workers:app", workers=2, port=int(os.environ.get("PORT", "8000")), log_level="warning")
