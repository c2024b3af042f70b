"""Behind Starlette's BaseHTTPMiddleware: a client that left is not an error, and a failure is not a clean end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import CellType, FunctionType
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse
from sse_trio._servers.middleware import count_base_middlewares
from sse_trio.testing import open_test_stream

pytestmark = [
    pytest.mark.anyio,
    # Older Starlettes leave the generator by which they read the request to the collector, and trio complains of that.
    pytest.mark.filterwarnings("ignore:Exception ignored in.*Request.stream:pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:Async generator 'starlette.requests.Request.stream':ResourceWarning"),
]

FINAL = {"type": "http.response.body", "body": b"", "more_body": False}


async def through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def wrap_receive(app: ASGIApp) -> ASGIApp:
    """Another middleware, which looks at what is received."""

    async def wrapping(scope: Scope, receive: Receive, send: Send) -> None:
        async def receive_and_look() -> Message:
            return await receive()

        await app(scope, receive_and_look, send)

    return wrapping


BASE = Middleware(BaseHTTPMiddleware, dispatch=through)
STACKS = {
    "none": [],
    "base": [BASE],
    "twice": [BASE, BASE],
    "outermost": [BASE, Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(GZipMiddleware)],
    "innermost": [Middleware(CORSMiddleware, allow_origins=["*"]), Middleware(GZipMiddleware), BASE],
    "wrapped": [BASE, Middleware(wrap_receive)],
}


def behind(stack: str, make: Callable[[], Response]) -> Starlette:
    """An application behind these middlewares."""

    async def endpoint(request: Request) -> Response:
        return make()

    return Starlette(routes=[Route("/", endpoint)], middleware=STACKS[stack])


async def idle(send_channel: EventSendChannel) -> None:
    await anyio.sleep_forever()


async def fail(send_channel: EventSendChannel) -> None:
    await send_channel.send("one")
    await send_channel.send("two")
    await anyio.sleep(1)
    await send_channel.send("three")
    raise LookupError("upstream broke")


def new_on_close() -> tuple[list[CloseReason], Callable[[CloseReason], Awaitable[None]]]:
    reasons: list[CloseReason] = []

    async def on_close(reason: CloseReason) -> None:
        reasons.append(reason)

    return reasons, on_close


@pytest.mark.parametrize("stack", STACKS)
@pytest.mark.parametrize("bridge", [False, True])
async def test_client_that_leaves_before_the_head(stack: str, bridge: bool) -> None:
    """If the client leaves before the head, the middleware gets a head, so it raises nothing."""
    reasons, on_close = new_on_close()
    app = behind(stack, lambda: EventSourceResponse(idle, on_close=on_close))
    async with open_test_stream(app, wait_head=False, bridge=bridge) as stream:
        await anyio.sleep(0.1)
        stream.disconnect()
        await stream.wait_closed()
    assert reasons == [CloseReason.DISCONNECTED]
    assert stream.messages == []


@pytest.mark.parametrize("stack", STACKS)
async def test_stream_that_fails(stack: str) -> None:
    """What was sent before a failure arrives; then the connection is cut, so the middleware can't end the body."""
    app = behind(stack, lambda: EventSourceResponse(fail))
    async with open_test_stream(app) as stream:
        received = [(await stream.receive()).data for _ in range(3)]
        with pytest.raises(LookupError):
            await stream.wait_closed()
    assert received == ["one", "two", "three"]
    assert stream.body.replace(b":\n", b"") == b"".join(b"data: %b\n\n" % data.encode() for data in received)
    assert FINAL not in stream.messages


async def test_stream_that_fails_with_nothing_to_cut() -> None:
    """Without a bridge, the middleware ends the body cleanly, as the contract page says."""
    app = behind("base", lambda: EventSourceResponse(fail))
    async with open_test_stream(app, bridge=False) as stream:
        with pytest.raises(LookupError):
            await stream.wait_closed()
    assert stream.messages[-1] == FINAL


async def test_stalled_client_of_a_stream_that_fails() -> None:
    """A stalled client delays the cut by at most send_timeout."""
    app = behind("base", lambda: EventSourceResponse(fail, send_timeout=5))
    async with open_test_stream(app) as stream:
        await stream.receive()
        stream.stall()
        began = anyio.current_time()
        with pytest.raises(LookupError):
            await stream.wait_closed()
        assert anyio.current_time() - began < 8
    assert stream.is_aborted


async def receive() -> Any: ...


def endless() -> Any:
    """A closure over itself."""

    async def receive() -> Any:
        return await receive()

    return receive


def test_what_is_no_middleware() -> None:
    """A server's `receive`, a wrapper that leads nowhere, and one that leads in a circle aren't Starlette's."""
    empty = FunctionType(endless().__code__, {}, closure=(CellType(),))
    for each in (receive, Request({"type": "http"}).receive, empty, endless()):
        assert count_base_middlewares(each) == 0
