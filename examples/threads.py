# A source that blocks: iterate it in a worker thread, and send from there.
#
# `from_thread.run(send_channel.send, line)` sends in the event loop and waits for it in the thread, so a slow client
# slows the thread down. A thread can't be cancelled, it has to ask: `from_thread.check_cancelled()` raises when the
# stream has ended, which is how the loop in it ends: no flag, no queue. EventSourceResponse(read_lines()) would do,
# too: it iterates a sync generator in a worker thread. A thread that anyio has not started (of `threading`, or of
# asyncio.to_thread()) has to be told of the event loop: `from_thread.run(..., token=current_token())`.
#
#     python examples/threads.py
#     curl -N http://127.0.0.1:8000/lines

from __future__ import annotations

import time
from collections.abc import Iterator

from _serve import serve
from anyio import from_thread, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sse_trio import EventSendChannel, EventSourceResponse, ServerBridge


def read_lines() -> Iterator[str]:
    """Stand for a driver, a file or a pipe that knows no async."""
    number = 0
    while True:
        time.sleep(0.1)
        number += 1
        yield f"line {number}"


def pump(send_channel: EventSendChannel) -> None:
    """Run in the worker thread."""
    for line in read_lines():
        from_thread.check_cancelled()
        from_thread.run(send_channel.send, line)


async def lines(send_channel: EventSendChannel) -> None:
    """Run in the event loop, until the thread has ended."""
    await to_thread.run_sync(pump, send_channel)


async def endpoint(request: Request) -> EventSourceResponse:
    """Answer with lines from a thread."""
    return EventSourceResponse(lines)


app = Starlette(routes=[Route("/lines", endpoint)])
app.add_middleware(ServerBridge)

if __name__ == "__main__":
    serve(app)
