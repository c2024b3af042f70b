# An application to look into: streams of a hub and of producers, as many as somebody asks for, and the inspector.
#
# `/prices` and `/job/{name}` are streams; a label is whatever the client says in `who`. `/crowd?streams=N` opens N
# streams that have no client, but are all else that a stream is. `/streams/` is the inspector, for who has the word.
# Who brings a `seat` has one stream at a time. A POST to `/run/{key}` starts a run; a GET watches it.

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.types import Message

from sse_trio import (
    EventSendChannel,
    EventSourceResponse,
    Hub,
    Runs,
    ServerBridge,
    StreamGroup,
    last_event_id,
    open_hub,
    open_runs,
)
from sse_trio.inspector import stream_inspector


def seat_of(request: Request) -> str | None:
    return request.headers.get("seat")


GROUP = StreamGroup(name="the exchange", max_streams_per=(seat_of, 1))
CHOICES = (("prices/*",), ("prices/ACME",), ("news/*", "prices/GLOBEX"))
TOPICS = ("prices/ACME", "prices/GLOBEX", "news/eu")
PLANS = ("free", "pro")


async def publish_for_ever(hub: Hub) -> None:
    while True:
        await anyio.sleep(0.1)
        await hub.publish(random.choice(TOPICS), "x" * random.randrange(20, 200))


async def prices(request: Request) -> EventSourceResponse:
    subscription = request.state.hub.subscribe(*random.choice(CHOICES), after=last_event_id(request))
    return EventSourceResponse(subscription, group=GROUP, labels={"who": request.query_params["who"]})


async def work(send_channel: EventSendChannel, size: int) -> None:
    while True:
        await send_channel.send("x" * size)
        await anyio.sleep(0.05)


async def job(request: Request) -> EventSourceResponse:
    size = int(request.query_params.get("size", "10"))
    return EventSourceResponse(work, size, group=GROUP, labels={"who": request.query_params["who"]}, send_timeout=None)


async def run(request: Request) -> Response:
    runs, key = request.state.runs, request.path_params["key"]
    if request.method == "POST":
        await runs.start(key, work, 10, labels={"who": request.query_params["who"]})
        return Response(status_code=202)
    return runs.response(key, group=GROUP, labels={"who": request.query_params["who"]})


async def wait_gone() -> Message:
    await anyio.sleep_forever()
    raise AssertionError


async def take(message: Message) -> None:
    await anyio.sleep(0)


async def crowd(request: Request) -> Response:
    hub, task_group = request.state.hub, request.state.task_group
    for i in range(int(request.query_params["streams"])):
        labels = {"who": f"user-{i}", "plan": PLANS[i % 2]}
        response = EventSourceResponse(hub.subscribe(*CHOICES[i % 3]), group=GROUP, labels=labels)
        scope = {"type": "http", "method": "GET", "path": f"/crowd/{i}", "headers": []}
        task_group.start_soon(response, scope, wait_gone, take)
    return Response(status_code=204)


def authorize(request: Request) -> bool:
    return request.headers.get("authorization") == "Bearer admin"


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Hub | Runs | TaskGroup]]:
    async with (
        open_hub(name="prices") as hub,
        open_hub(name="runs") as hub_of_runs,
        open_runs(hub_of_runs) as runs,
        anyio.create_task_group() as task_group,
    ):
        task_group.start_soon(publish_for_ever, hub)
        yield {"hub": hub, "runs": runs, "task_group": task_group}
        task_group.cancel_scope.cancel()


inspector = stream_inspector(
    GROUP, lambda request: request.state.hub, runs=lambda request: request.state.runs, authorize=authorize
)
routes = [
    Route("/prices", prices),
    Route("/job/{name:path}", job),
    Route("/run/{key:path}", run, methods=["GET", "POST"]),
    Route("/crowd", crowd, methods=["POST"]),
    Mount("/streams", inspector),
]
app = ServerBridge(Starlette(routes=routes, lifespan=lifespan))
