# What a browser does between streams: how long it waits, what id it brings, and that a 204 ends it.
#
# `/` opens an EventSource. `/events` ends the first two streams after one event each and answers the third request
# with a 204. `/visits` tells when the requests came (seconds) and with which id.

from __future__ import annotations

import time

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent, last_event_id

RETRY = 500  # ms; Chromium's own is 3000
STREAMS = 2
PAGE = """<!doctype html><title>retry</title><link rel="icon" href="data:,"><ol></ol><script>
const source = new EventSource("/events");
source.onmessage = (event) => document.querySelector("ol").append(event.data + " ");
source.onerror = () => (document.body.dataset.readyState = source.readyState);
</script>"""


async def page(_: Request) -> HTMLResponse:
    return HTMLResponse(PAGE)


async def one_event(send_channel: EventSendChannel, number: int) -> None:
    await send_channel.send(ServerSentEvent(f"event {number}", id=str(number)))


async def events(request: Request) -> Response:
    visits = request.app.state.visits
    visits.append({"at": time.monotonic(), "last_event_id": last_event_id(request)})
    if len(visits) > STREAMS:
        return Response(status_code=204)
    return EventSourceResponse(one_event, len(visits), retry=RETRY)


async def visits(request: Request) -> JSONResponse:
    return JSONResponse(request.app.state.visits)


inner = Starlette(routes=[Route("/", page), Route("/events", events), Route("/visits", visits)])
inner.state.visits = []
app = ServerBridge(inner)
