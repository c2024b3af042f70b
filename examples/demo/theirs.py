# The same numbers, served with sse-starlette, to see both libraries beside each other.

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypedDict

from shared import SEND_TIMEOUT, Tally, follow, open_shared_hub
from sse_starlette import EventSourceResponse
from sse_starlette import ServerSentEvent as TheirEvent
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import Hub, ServerSentEvent, last_event_id


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub
    tally: Tally


def as_theirs(event: ServerSentEvent) -> TheirEvent:
    """Return the event as sse-starlette has it."""
    return TheirEvent(event.data, id=event.id)


async def numbers(request: Request) -> EventSourceResponse:
    """Stream the numbers to a client, from where it was."""
    state = request.state
    return EventSourceResponse(
        follow(state.hub, state.tally, last_event_id(request), as_theirs), send_timeout=SEND_TIMEOUT
    )


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Keep the hub open while the server runs."""
    folder = Path(os.environ["DEMO_FOLDER"])
    with Tally(folder / "sse-starlette") as tally:
        async with open_shared_hub(folder) as hub:
            yield {"hub": hub, "tally": tally}


app = Starlette(routes=[Route("/numbers", numbers)], lifespan=lifespan)
