# Behind a caching proxy that collapses requests (Fastly, Varnish): one stream from here, any number of clients
# there.
#
# `Cache-Control: public, max-age=29` lets the proxy join a client that comes within 29 s to the response that it is
# receiving already. `max_lifetime=30` ends each response soon after, so that nobody stays on one that is too old to
# be joined; the clients reconnect after `retry` ms and are collapsed again. The library's own default is `no-
# store`.
#
#     python examples/fanout_proxy_headers.py
#     curl -iN http://127.0.0.1:8000/scores

from __future__ import annotations

import itertools

from _serve import serve
from anyio import sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge, ServerSentEvent


async def scores(send_channel: EventSendChannel) -> None:
    """Send what is the same for everybody: a shared stream must hold nothing personal."""
    for n in itertools.count():
        await send_channel.send(ServerSentEvent(f"{n} : {n // 2}", event="score", id=str(n)))
        await sleep(1)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with a stream that a proxy may share."""
    return EventSourceResponse(
        scores,
        headers={"Cache-Control": "public, max-age=29"},
        max_lifetime=30.0,
        retry=1000,
    )


app = Starlette(routes=[Route("/scores", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
