# A limit on streams: so many at all, so many for each address, so many that open in a second.
#
#     python examples/limits.py
#     curl -N http://127.0.0.1:8000/clock     # twice, in two terminals
#     curl -i http://127.0.0.1:8000/clock     # the third: 429, with Retry-After
#
# A program reads the status and `Retry-After`. A browser's EventSource doesn't: it stops for good at any status but
# 200. So to a browser the refusal is a stream that ends at once, with the time after which it is to come back.

from __future__ import annotations

import itertools

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, StreamGroup, StreamRefusedError


def address_of(request: Request) -> str | None:
    """Say who that is. Behind a proxy the server has to be told whom to believe: uvicorn's --forwarded-allow-ips."""
    return request.client.host if request.client is not None else None


group = StreamGroup(max_streams=10_000, max_streams_per=(address_of, 2), accept_rate=200)


async def clock(send_channel: EventSendChannel) -> None:
    """Tick."""
    for n in itertools.count():
        await send_channel.send(f"tick {n}")
        await sleep(1)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with a clock, if there is room for one more."""
    return EventSourceResponse(clock, group=group)


async def refused(request: Request, exc: Exception) -> Response:
    """Answer who is one too many."""
    assert isinstance(exc, StreamRefusedError)
    if "sec-fetch-mode" not in request.headers:  # which every browser sends, and no program can from a page
        return PlainTextResponse(exc.detail, exc.status_code, headers=exc.headers)
    body = f"retry: {exc.retry_after * 1000}\n\n"
    return Response(body, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


routes = [Route("/clock", endpoint)]
app = Starlette(routes=routes, exception_handlers={StreamRefusedError: refused})
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
