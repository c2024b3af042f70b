# Streams of users who log in and out, and a hub on a file that several processes have open. `/stream?user=...` is a
# stream, `/log-out?user=...` kicks this user's everywhere and answers how many streams of this process it ended.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, Hub, ServerBridge, ServerSentEvent, StreamGroup, open_hub
from sse_trio.stores import SQLiteStore


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


sessions = StreamGroup(name="sessions", farewell=ServerSentEvent("logged out", event="bye"))


async def wait(send_channel: EventSendChannel) -> None:
    """Say hello, and wait for ever."""
    await send_channel.send("hello")
    await anyio.sleep_forever()


async def stream(request: Request) -> EventSourceResponse:
    return EventSourceResponse(wait, group=sessions, labels={"user": request.query_params["user"]})


async def log_out(request: Request) -> PlainTextResponse:
    user = request.query_params["user"]
    return PlainTextResponse(str(await sessions.kick({"user": user}, everywhere=request.state.hub)))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    async with open_hub(SQLiteStore(os.environ["STORE"])) as hub:
        yield {"hub": hub}


app = ServerBridge(
    Starlette(routes=[Route("/stream", stream), Route("/log-out", log_out, methods=["POST"])], lifespan=lifespan)
)
