# One stream for all tabs of a browser: a worker holds the EventSource, and hands each event to the tabs.
#
#     python examples/shared_tabs/tabs_app.py
#
# Open http://127.0.0.1:8000 in ten tabs. Each shows that one stream is open. Without the worker the seventh would not
# load: over HTTP/1.1 a browser opens six connections to a server, for all of its tabs together.

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent

HERE = Path(__file__).parent
streams: set[EventSendChannel] = set()


async def count(send_channel: EventSendChannel) -> None:
    """Send how many streams are open."""
    streams.add(send_channel)
    try:
        for n in itertools.count():
            await send_channel.send(ServerSentEvent(f"{n}, streams: {len(streams)}", id=n))
            await sleep(0.5)
    finally:
        streams.discard(send_channel)


async def events(request: Request) -> EventSourceResponse:
    """Answer with the stream."""
    return EventSourceResponse(count)


async def page(request: Request) -> FileResponse:
    """Answer with the page."""
    return FileResponse(HERE / "page.html")


async def worker(request: Request) -> FileResponse:
    """Answer with the worker's script."""
    return FileResponse(HERE / "worker.js")


app = Starlette(routes=[Route("/", page), Route("/worker.js", worker), Route("/events", events)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    sys.path.insert(0, str(HERE.parent))
    from _serve import serve

    serve(app)
