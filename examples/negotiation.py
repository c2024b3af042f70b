# One URL, three answers: JSON for who wants to know once, a stream for who wants to follow, 406 for who takes neither.
#
#     python examples/negotiation.py
#     curl http://127.0.0.1:8000/weather                                   # JSON: curl takes anything
#     curl -N http://127.0.0.1:8000/weather -H "Accept: text/event-stream"  # what EventSource sends
#     curl -i http://127.0.0.1:8000/weather -H "Accept: text/html"          # 406
#
# `preferred_media_type` reads the header as RFC 9110 has it. What is offered first is the answer to who does not care.
# Each answer depends on the header, which caches have to know: `Vary: Accept`.

from __future__ import annotations

import itertools

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, preferred_media_type

VARY = {"Vary": "Accept"}


async def follow(send_channel: EventSendChannel) -> None:
    """Send the weather as it changes."""
    for degrees in itertools.cycle([20, 21, 22, 21]):
        await send_channel.send(ServerSentEvent.json({"degrees": degrees}))
        await sleep(0.5)


async def weather(request: Request) -> Response:
    """Answer with the weather now, or with the weather from now on."""
    match preferred_media_type(request, "application/json", "text/event-stream"):
        case "application/json":
            return JSONResponse({"degrees": 20}, headers=VARY)
        case "text/event-stream":
            return EventSourceResponse(follow, headers=VARY)
        case _:
            raise HTTPException(406, "there is application/json and text/event-stream", headers=VARY)


app = Starlette(routes=[Route("/weather", weather)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
