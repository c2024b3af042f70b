# Cleanup that awaits, when the stream has been cancelled.
#
# Once a stream ends, its producers are cancelled, and stay cancelled: every await raises, also in a `finally`
# block. Cleanup that has to await says so with a shield, and bounds it, because nothing else will. `finally` blocks
# have run when the response returns; a client that hangs cannot keep them from it.
#
#     python examples/cleanup_with_shield.py
#     curl -N http://127.0.0.1:8000/rows        # and Ctrl+C: the server prints that the session was closed

from __future__ import annotations

import itertools

from _serve import serve
from anyio import move_on_after, sleep
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge


class Session:
    """Stands for a database session: closing it takes a round trip."""

    async def fetch(self, n: int) -> str:
        """Return a row."""
        await sleep(0.1)
        return f"row {n}"

    async def aclose(self) -> None:
        """Say goodbye to the database."""
        await sleep(0.1)
        print("session closed")


async def rows(send_channel: EventSendChannel) -> None:
    """Send rows until the client has gone, then close the session properly."""
    session = Session()
    try:
        for n in itertools.count():
            await send_channel.send(await session.fetch(n))
    finally:
        with move_on_after(5, shield=True):
            await session.aclose()


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with rows."""
    return EventSourceResponse(rows)


app = Starlette(routes=[Route("/rows", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
