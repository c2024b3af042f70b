# A client that stops reading, but stays connected, cannot hold anything.
#
# After `send_timeout` seconds in which it took nothing, the producers are cancelled and cleaned up, and the
# connection is dropped. The default is 30 s; here it is 2 s, so that you can watch it.
#
#     python examples/send_timeout.py
#     curl -sN http://127.0.0.1:8000/flood | sleep 60      # connected, not reading

from __future__ import annotations

from _serve import serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse, ServerBridge

LINE = "x" * 10_000


async def flood(send_channel: EventSendChannel) -> None:
    """Send as fast as the client reads."""
    try:
        while True:
            await send_channel.send(LINE)
    finally:
        print("producer cleaned up")


async def report(reason: CloseReason) -> None:
    """Run once, whatever ended the stream, with the reason."""
    print(f"stream ended: {reason.value}")


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with more than a client may care to read."""
    return EventSourceResponse(flood, send_timeout=2.0, on_close=report)


app = Starlette(routes=[Route("/flood", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
