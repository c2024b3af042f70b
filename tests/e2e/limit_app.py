# Streams of a group that has room for one.

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
from _report import report
from starlette.applications import Starlette
from starlette.routing import Route

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, StreamGroup

if TYPE_CHECKING:
    from starlette.requests import Request

group = StreamGroup(max_streams=1)


async def idle(send_channel: EventSendChannel) -> None:
    await send_channel.send("open")
    await anyio.sleep_forever()


async def closed(name: str, reason: CloseReason) -> None:
    report("closed", name, reason=reason.value)


async def stream(request: Request) -> EventSourceResponse:
    return EventSourceResponse(idle, group=group, ping=60, on_close=partial(closed, "limited"))


app = Starlette(routes=[Route("/", stream)])
