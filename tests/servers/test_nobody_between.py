# What is found behind the wrappers around a `send`, and the proof that nobody is between a stream and its server. The
# session `matrix` of nox runs this with the oldest Starlette that we allow, too.

from __future__ import annotations

import sys
from functools import partial, wraps
from types import FunctionType
from typing import TYPE_CHECKING, cast

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.routing import Mount, Route

from sse_trio import EventSourceResponse
from sse_trio._servers.closures import innermost_send
from sse_trio._servers.nobody_between import is_own_method, past_starlette

from ._packages import by_package

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.anyio

HEAD = "http.response.start"


async def server_send(message: Message) -> None:
    """The server's, inside of all wrappers."""


def by_starlette(wrap: Callable[[Send], Send]) -> Callable[[Send], Send]:
    """Have the wrapper look as if a module of Starlette defined it."""

    def wrap_it(send: Send) -> Send:
        sender = cast("FunctionType", wrap(send))
        namespace = {**sender.__globals__, "__name__": "starlette.of_tests"}
        return FunctionType(sender.__code__, namespace, closure=sender.__closure__)

    return wrap_it


def by_another_package(send: Send) -> Send:
    """Starlette's, word for word."""
    response_started = False

    async def sender(message: Message) -> None:
        nonlocal response_started

        if message["type"] == "http.response.start":
            response_started = True
        await send(message)

    return sender


only_sees_head = by_starlette(by_another_package)


def says_it_is_starlettes(send: Send) -> Send:
    """A wrapper whose functools.wraps() copied Starlette's module name."""
    inner = send
    send = only_sees_head(inner)

    @wraps(send)
    async def sender(message: Message) -> None:
        await send(message)
        await send(message)

    return sender


class Proxy:
    """As wrapt makes them: each attribute is that of what the proxy contains."""

    def __init__(self, send: Send) -> None:
        self._send = only_sees_head(send)

    def __getattr__(self, name: str) -> object:
        return getattr(self._send, name)

    async def __call__(self, message: Message) -> None:
        await self._send(message)


@by_starlette
def calls_something(send: Send) -> Send:
    async def sender(message: Message) -> None:
        id(message)
        await send(message)

    return sender


@by_starlette
def sees_bodies(send: Send) -> Send:
    response_started = False

    async def sender(message: Message) -> None:
        nonlocal response_started
        if message["type"] == "http.response.body":
            response_started = True
        await send(message)

    return sender


@by_starlette
def changes_messages(send: Send) -> Send:
    async def sender(message: Message) -> None:
        message = {**message, "type": "http.response.start"}
        message["body"] = None
        await send(message)

    return sender


@by_starlette
def tells_another(send: Send) -> Send:
    other = send

    async def sender(message: Message) -> None:
        await other(message)
        await send(message)

    return sender


class Method:
    def __init__(self, send: Send) -> None:
        self._send = send

    async def send(self, message: Message) -> None:
        await self._send(message)


async def test_wrappers_that_only_see_the_head_are_skipped() -> None:
    """Wrappers that only look for the head are skipped, however many there are."""
    send = server_send
    for _ in range(5):
        send = only_sees_head(send)
    assert past_starlette(send) is server_send


OTHERS = [
    by_another_package,
    says_it_is_starlettes,
    Proxy,
    calls_something,
    sees_bodies,
    changes_messages,
    tells_another,
]


@pytest.mark.parametrize("wrap", OTHERS)
async def test_a_wrapper_that_may_do_more_is_not_skipped(wrap) -> None:
    """A wrapper that may do more is not skipped, nor anything inside it; head-only wrappers around it are."""
    wrapped = wrap(only_sees_head(server_send))
    assert past_starlette(only_sees_head(wrapped)) is wrapped
    assert innermost_send(wrapped) is server_send


async def test_other_callables_are_not_skipped() -> None:
    """A method, a builtin or a partial ends the search."""
    for end in (Method(only_sees_head(server_send)).send, [].append, partial(server_send)):
        assert past_starlette(only_sees_head(end)) is end
        assert innermost_send(only_sees_head(end)) is end


async def test_wrappers_around_each_other() -> None:
    """A wrapper that leads to itself, or has no `send` yet, ends the search."""
    circle, empty = only_sees_head(server_send), only_sees_head(server_send)
    place = circle.__code__.co_freevars.index("send")
    circle.__closure__[place].cell_contents = circle
    del empty.__closure__[place].cell_contents
    for send in (circle, empty):
        assert innermost_send(send) is send
        assert past_starlette(send) is send


class OfAServer:
    """A class whose methods a server's package defines."""

    async def send(self, message: Message) -> None:
        """The server's own."""


async def test_a_servers_own_method(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a method of this very object, as the server's package defines it, is the server's own `send`."""
    monkeypatch.setattr(OfAServer, "send", by_package("uvicorn.protocols", OfAServer.send))
    cycle, other = OfAServer(), OfAServer()
    assert is_own_method(cycle.send, cycle, "uvicorn")
    assert not is_own_method(other.send, cycle, "uvicorn")
    assert not is_own_method(cycle.send, cycle, "hypercorn")
    assert not is_own_method(only_sees_head(cycle.send), cycle, "uvicorn")
    assert not is_own_method(partial(cycle.send), cycle, "uvicorn")


async def test_a_method_that_a_tool_has_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that replaces the method of the server's class, to see its messages, is somebody in between."""
    monkeypatch.setattr(OfAServer, "send", by_package("tool.instrumentation", OfAServer.send))
    cycle = OfAServer()
    assert not is_own_method(cycle.send, cycle, "uvicorn")
    monkeypatch.setattr(OfAServer, "send", Proxy(OfAServer.send))
    assert not is_own_method(cycle.send, cycle, "uvicorn")


class Recorder:
    """A server that notes through which files besides ours each message has come."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, set[str]]] = []

    async def send(self, message: Message) -> None:
        frame, through = sys._getframe(1), set()
        while frame is not None and frame.f_code.co_name != "send":
            through.add(frame.f_code.co_filename)
            frame = frame.f_back
        self.sent.append((message["type"], through))

    async def receive(self) -> Message:
        await anyio.sleep_forever()
        raise AssertionError  # the client stays


async def two_events(send_channel) -> None:
    await send_channel.send("one")
    await anyio.sleep(1)
    await send_channel.send("two")


async def one_event(send_channel) -> None:
    await send_channel.send("one")


class Shouting:
    """A user's middleware, which looks at each body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def shout(message: Message) -> None:
            if "body" in message:
                message["body"] = message["body"].upper()
            await send(message)

        await self.app(scope, receive, shout)


async def endpoint(request) -> EventSourceResponse:
    return EventSourceResponse(one_event if "short" in request.url.path else two_events)


async def serve(app: ASGIApp, path: str = "/a/") -> Recorder:
    recorder = Recorder()
    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b"", "root_path": ""}
    await app(scope, recorder.receive, recorder.send)
    return recorder


async def test_starlettes_own_wrappers() -> None:
    """Behind a route in a mount, the head comes through all of Starlette's wrappers, later messages through none."""
    recorder = await serve(Starlette(routes=[Mount("/a", routes=[Route("/", endpoint)])]))
    (head, through), *later = recorder.sent
    assert head == HEAD
    assert any("starlette" in file for file in through)
    assert later
    assert all(not through for _, through in later)


async def test_a_stream_that_is_over(anyio_backend_name) -> None:
    """A stream that is over is searched only where that may save it a task: on asyncio whose tasks count (3.11)."""
    recorder = await serve(Starlette(routes=[Route("/short", endpoint)]), "/short")
    (head, through), *later = recorder.sent
    assert head == HEAD
    assert any("starlette" in file for file in through)
    assert len(later) == 2
    is_searched = anyio_backend_name == "asyncio" and sys.version_info >= (3, 11)
    assert all(bool(through) != is_searched for _, through in later)


@pytest.mark.parametrize("middleware", [Shouting, BaseHTTPMiddleware])
async def test_a_middleware_sees_everything(middleware) -> None:
    """A user's middleware gets every message, and so does Starlette's BaseHTTPMiddleware."""
    seen = []

    class Counting:
        def __init__(self, app: ASGIApp) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def count(message: Message) -> None:
                seen.append(message["type"])
                await send(message)

            await self.app(scope, receive, count)

    async def dispatch(request, call_next):
        return await call_next(request)

    options = {"dispatch": dispatch} if middleware is BaseHTTPMiddleware else {}
    app = Starlette(
        routes=[Route("/a/", endpoint)], middleware=[Middleware(middleware, **options), Middleware(Counting)]
    )
    recorder = await serve(app)
    assert len(seen) >= 3
    assert len(recorder.sent) == len(seen)
