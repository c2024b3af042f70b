# A chat: everybody in a room gets every message, in the same order, and after a break those that were missed.
#
# The hub lives as long as the application does. `replay=20` is for those who are new in a room. A browser that was cut
# off says in `Last-Event-ID` what it has, and gets exactly the rest.
#
#     python examples/chat.py
#     curl -N http://127.0.0.1:8000/rooms/lobby     # once or more, each in its terminal
#     curl http://127.0.0.1:8000/rooms/lobby -d '{"from": "Ann", "text": "hello"}'

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict
from urllib.parse import quote

from _serve import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, ServerBridge, ServerSentEvent, last_event_id, open_hub


class State(TypedDict):
    """What the lifespan hands to every request."""

    hub: Hub


def topic_of(request: Request) -> str:
    """Return the topic of the room that the path names: a room called `*` is a room, and not all of them."""
    return f"rooms/{quote(request.path_params['room'], safe='')}"


async def say(request: Request) -> Response:
    """Publish what was posted to the room."""
    message = ServerSentEvent.json(await request.json())
    await request.state.hub.publish(topic_of(request), message)
    return Response(status_code=204)


async def listen(request: Request) -> EventSourceResponse:
    """Answer with what is said in the room."""
    hub, topic = request.state.hub, topic_of(request)
    return EventSourceResponse(hub.subscribe(topic, after=last_event_id(request), replay=20))


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[State]:
    """Keep the hub open while the server runs."""
    async with open_hub() as hub:
        yield {"hub": hub}


routes = [Route("/rooms/{room}", listen), Route("/rooms/{room}", say, methods=["POST"])]
app = Starlette(routes=routes, lifespan=lifespan)
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
