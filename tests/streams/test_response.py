"""EventSourceResponse: what its docstring says of each option, and the places where it is used."""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel
import fastapi
import httpx
import pytest
from anyio import BrokenResourceError, get_cancelled_exc_class
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket

from sse_trio import (
    CloseReason,
    EventSendChannel,
    EventSourceResponse,
    ServerSentEvent,
    StreamGroup,
    last_event_id,
    open_event_channel,
)
from sse_trio._groups.run import GroupState
from sse_trio.testing import StreamingASGITransport, open_test_stream, wait_all_tasks_blocked

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup

pytestmark = pytest.mark.anyio

Producer = Callable[[EventSendChannel], Awaitable[None]]


async def count(send_channel: EventSendChannel, number: int = 3) -> None:
    """Send some numbers, one a second."""
    for n in range(number):
        await send_channel.send(n)
        await anyio.sleep(1)


async def wait(send_channel: EventSendChannel) -> None:
    """Send an event, and wait for ever."""
    await send_channel.send("event")
    await anyio.sleep_forever()


async def fail(send_channel: EventSendChannel) -> None:
    """Send an event, and fail."""
    await send_channel.send("event")
    await anyio.sleep(1)
    raise LookupError("failed")


async def refuse(send_channel: EventSendChannel) -> None:
    """Fail before anything is sent."""
    await anyio.sleep(0.1)
    raise HTTPException(404)


def http_scope(**changes: Any) -> Scope:
    """A scope of a request."""
    return {"type": "http", "method": "GET", "path": "/", "headers": [], "query_string": b"", **changes}


# --- head


async def test_headers() -> None:
    """The head declares an event stream, and tells caches and proxies not to store or transform it."""
    async with open_test_stream(EventSourceResponse(count)) as stream:
        assert stream.status_code == 200
        assert dict(stream.headers) == {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-store, no-transform",
            "x-accel-buffering": "no",
            "x-content-type-options": "nosniff",
        }


async def test_headers_of_the_callers() -> None:
    """The caller's headers win, in any case, and are sent once."""
    headers = {"Cache-Control": "public, max-age=29", "X-Own": "1", "Content-Type": "text/event-stream"}
    async with open_test_stream(EventSourceResponse(count, headers=headers, status_code=203)) as stream:
        assert stream.status_code == 203
        assert sorted(stream.headers.items()) == [
            ("cache-control", "public, max-age=29"),
            ("content-type", "text/event-stream"),
            ("x-accel-buffering", "no"),
            ("x-content-type-options", "nosniff"),
            ("x-own", "1"),
        ]


@pytest.mark.parametrize("headers", [None, {}, {"X-Own": "1"}])
async def test_headers_can_be_changed_later(headers: dict[str, str] | None) -> None:
    """Cookies and headers set on the response are sent with it, and with no other response."""
    response = EventSourceResponse(count, headers=headers)
    response.set_cookie("session", "1")
    response.headers["x-later"] = "2"
    async with open_test_stream(response) as stream:
        assert stream.headers["set-cookie"].startswith("session=1")
        assert stream.headers["x-later"] == "2"
    assert "x-later" not in EventSourceResponse(count).headers


async def test_head_without_headers_is_the_same() -> None:
    """A response without ``headers`` has the same head as one with empty ones."""
    assert sorted(EventSourceResponse(count).raw_headers) == sorted(EventSourceResponse(count, headers={}).raw_headers)


# --- HEAD


async def test_head_request() -> None:
    """HEAD gets the same head and no body; no producer starts, and ``background`` runs."""
    ran = []

    async def produce(send_channel: EventSendChannel) -> None:
        ran.append("producer")

    async def background() -> None:
        ran.append("background")

    response = EventSourceResponse(produce, status_code=201, background=BackgroundTask(background))
    async with open_test_stream(response, method="HEAD") as stream:
        await stream.wait_closed()
        assert stream.status_code == 201
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert stream.messages[1:] == [{"type": "http.response.body", "body": b"", "more_body": False}]
    assert ran == ["background"]


async def test_head_request_closes_the_channel() -> None:
    """After a HEAD request, a task that sends or publishes gets an error."""
    send_channel, receive_channel = open_event_channel()
    response = EventSourceResponse(receive_channel, producers=[functools.partial(wait, send_channel)])
    async with open_test_stream(response, method="HEAD") as stream:
        await stream.wait_closed()
    with send_channel, pytest.raises(BrokenResourceError):
        await send_channel.send("event")


@pytest.mark.parametrize("error", [OSError, BrokenResourceError])
async def test_head_request_of_a_client_that_is_gone(error: type[Exception]) -> None:
    """A client that has disconnected is not an error for HEAD either."""
    send_channel, receive_channel = open_event_channel()
    async with open_test_stream(EventSourceResponse(receive_channel), method="HEAD", wait_head=False) as stream:
        stream.fail_send(error())
        await stream.wait_closed()
    with send_channel, pytest.raises(BrokenResourceError):
        await send_channel.send("event")


@pytest.mark.parametrize("ending", ["completed", "disconnected", "failed", "cancelled"])
async def test_head_request_calls_on_close(ending: str) -> None:
    """After a HEAD request ``on_close`` is called, so that the source's resources are released, however it ends."""
    reasons = []

    async def on_close(reason: CloseReason) -> None:
        await anyio.sleep(1)
        reasons.append(reason)

    errors = {"disconnected": OSError(), "failed": LookupError("send")}
    response = EventSourceResponse(wait, on_close=on_close)
    with pytest.raises(LookupError) if ending == "failed" else contextlib.nullcontext():
        async with open_test_stream(response, method="HEAD", wait_head=False) as stream:
            if ending in errors:
                stream.fail_send(errors[ending])
            elif ending == "cancelled":
                stream.stall()
                await anyio.sleep(1)
                stream.cancel()
            await stream.wait_closed()
    assert reasons == [CloseReason(ending)]


async def test_on_close_of_a_head_request_is_called_though_closing_fails() -> None:
    """``on_close`` is called even if closing the source raises."""
    reasons = []

    class Source:
        def __aiter__(self) -> Any:
            raise NotImplementedError

        async def aclose(self) -> None:
            raise LookupError("closing")

    async def on_close(reason: CloseReason) -> None:
        reasons.append(reason)

    with pytest.raises(LookupError):
        async with open_test_stream(EventSourceResponse(Source(), on_close=on_close), method="HEAD") as stream:
            await stream.wait_closed()
    assert reasons == [CloseReason.COMPLETED]


# --- what a failure before the head becomes


@pytest.mark.parametrize("nested", [0, 1, 2])
@pytest.mark.parametrize("as_producer", [False, True])
async def test_http_exception_out_of_nurseries(nested: int, as_producer: bool) -> None:
    """A lone HTTPException sets the status, however many of the producer's own nurseries it comes through."""

    async def check(depth: int) -> None:
        if not depth:
            raise HTTPException(403)
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(check, depth - 1)
            nursery.start_soon(anyio.sleep_forever)

    async def produce(send_channel: EventSendChannel) -> None:
        await (anyio.sleep_forever() if as_producer else check(nested))

    async def endpoint(request: Request) -> EventSourceResponse:
        return EventSourceResponse(produce, producers=[functools.partial(check, nested)] * as_producer)

    async with open_test_stream(Starlette(routes=[Route("/", endpoint)])) as stream:
        assert stream.status_code == 403


# --- one request, or none


async def test_second_call() -> None:
    """A response serves one request: a second call raises, whether the first one is over or not."""
    response = EventSourceResponse(wait)
    async with open_test_stream(response):
        with pytest.raises(RuntimeError, match="serves one request"):
            async with open_test_stream(response):
                pass  # pragma: no cover
    with pytest.raises(RuntimeError, match="make a new one for each"):
        async with open_test_stream(response, method="HEAD"):
            pass  # pragma: no cover


async def test_response_that_is_never_served() -> None:
    """A response that is never served leaves nothing open."""
    for source in (wait, "generator"):
        response = EventSourceResponse(generate() if source == "generator" else wait)  # type: ignore[arg-type]
        assert response.headers["cache-control"] == "no-store, no-transform"
        del response
        gc.collect()


async def generate() -> AsyncGenerator[str, None]:
    """Yield one event."""
    yield "event"


async def test_repr() -> None:
    """The repr of a response shows its source and whether it was served."""

    async def count(send_channel: EventSendChannel, to: int) -> None:
        await send_channel.send(str(to))

    response = EventSourceResponse(partial(count), 3)
    assert repr(response) == "<EventSourceResponse of test_repr.<locals>.count: not served yet>"
    async with open_test_stream(response) as stream:
        await stream.receive()
        assert repr(response) == "<EventSourceResponse of test_repr.<locals>.count: served>"
    send_channel, receive_channel = open_event_channel()
    with send_channel, receive_channel:
        assert (
            repr(EventSourceResponse(receive_channel)) == "<EventSourceResponse of EventReceiveChannel: not served yet>"
        )


async def test_group_of_another_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the stream can't be opened, its channel is still closed."""

    def bound_run(group: GroupState) -> Any:
        raise RuntimeError("streams in another event loop")

    monkeypatch.setattr(GroupState, "bound_run", bound_run)
    send_channel, receive_channel = open_event_channel()
    send_stream, receive_stream = anyio.create_memory_object_stream[str]()
    for source in (receive_channel, receive_stream):
        with pytest.raises(RuntimeError, match="another event loop"):
            async with open_test_stream(EventSourceResponse(source, group=StreamGroup())):
                pass  # pragma: no cover
    with send_channel, pytest.raises(BrokenResourceError):
        await send_channel.send("event")
    with send_stream, pytest.raises(BrokenResourceError):
        await send_stream.send("event")


# --- commit


@pytest.mark.parametrize(("commit_within", "seconds"), [(0.5, 0.5), (0, 0), (3, 3)])
async def test_head_is_sent_in_time(commit_within: float, seconds: float) -> None:
    """Without an event the head is sent after ``commit_within`` seconds."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(10)

    began = anyio.current_time()
    async with open_test_stream(EventSourceResponse(produce, commit_within=commit_within)) as stream:
        assert anyio.current_time() - began == pytest.approx(seconds)
        assert stream.body == b""


async def test_head_is_not_sent_for_the_sake_of_time() -> None:
    """With ``commit_within=None`` the head waits for the first event."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(100)
        await send_channel.send("event")

    async with open_test_stream(EventSourceResponse(produce, commit_within=None)):
        assert anyio.current_time() == pytest.approx(100)


async def test_head_with_the_first_event() -> None:
    """The head is sent as soon as there is an event."""
    async with open_test_stream(EventSourceResponse(count)) as stream:
        assert anyio.current_time() == 0
        assert (await stream.receive()).data == "0"


@pytest.mark.parametrize("pause", [0, 0.1])
async def test_head_when_started(pause: float) -> None:
    """started() sends the head at once, wherever it is called; calling it again does nothing."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(pause)
        send_channel.started()
        send_channel.started()
        await anyio.sleep(10)

    async with open_test_stream(EventSourceResponse(produce, commit_within=None)):
        assert anyio.current_time() == pytest.approx(pause)


async def test_head_when_started_before() -> None:
    """The head is also sent at once if the channel was started, or holds events, before the response is served."""
    for prepare in (EventSendChannel.started, lambda send_channel: send_channel.send_nowait("event")):
        send_channel, receive_channel = open_event_channel()
        with send_channel:
            prepare(send_channel)

            async def produce() -> None:
                await anyio.sleep(10)

            began = anyio.current_time()
            response = EventSourceResponse(receive_channel, producers=[produce], commit_within=None)
            async with open_test_stream(response):
                assert anyio.current_time() == began


async def test_producer_that_fails_first_makes_the_status() -> None:
    """An exception that a producer raises before the head is raised by the response, with nothing sent."""
    async with open_test_stream(EventSourceResponse(refuse), wait_head=False) as stream:
        with pytest.raises(HTTPException):
            await stream.wait_closed()
        assert stream.messages == []
    assert stream.close_reason is CloseReason.FAILED


async def test_producer_that_fails_at_once() -> None:
    """The same holds for a producer that raises before it ever waits."""

    async def produce(send_channel: EventSendChannel) -> None:
        raise HTTPException(404)

    async with open_test_stream(EventSourceResponse(produce), wait_head=False) as stream:
        with pytest.raises(HTTPException):
            await stream.wait_closed()
        assert stream.messages == []


# --- what is written


async def test_retry_comes_first() -> None:
    """``retry`` is sent at the start, with the head, before any event."""
    async with open_test_stream(EventSourceResponse(count, retry=5000)) as stream:
        await stream.wait_closed()
        assert stream.body == b"retry: 5000\n\ndata: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_line_end() -> None:
    """Everything is written with the requested line end."""
    response = EventSourceResponse(
        fail, retry=1, sep="\r\n", ping=0.4, on_error=lambda exc: ServerSentEvent("error", event="error")
    )
    async with open_test_stream(response) as stream:
        with pytest.raises(LookupError):
            await stream.wait_closed()
        assert stream.body == b"\r\n\r\n".join(
            [b"retry: 1", b"data: event", b": ping", b": ping", b"event: error\r\ndata: error", b""]
        )


async def test_ping_after_silence() -> None:
    """A ping is sent after ``ping`` seconds of silence, and not every ``ping`` seconds."""

    async def produce(send_channel: EventSendChannel) -> None:
        for seconds in (8, 14, 25):
            await anyio.sleep(seconds)
            await send_channel.send(f"at {anyio.current_time():g}")
        await anyio.sleep(5)

    pings = []

    def ping() -> ServerSentEvent:
        pings.append(anyio.current_time())
        return ServerSentEvent(comment="still here")

    async with open_test_stream(EventSourceResponse(produce, ping=10, ping_message_factory=ping)) as stream:
        await stream.wait_closed()
        assert stream.body == (
            b"data: at 8\n\n: still here\n\ndata: at 22\n\n: still here\n\n: still here\n\ndata: at 47\n\n"
        )
    assert pings == [18, 32, 42]


async def test_first_ping_counts_from_the_head() -> None:
    """No ping is sent before the head, and the first one counts from it."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(12)
        send_channel.started()
        await anyio.sleep(9)

    async with open_test_stream(EventSourceResponse(produce, ping=5, commit_within=None)) as stream:
        await stream.wait_closed()
        assert stream.body == b": ping\n\n"


@pytest.mark.parametrize("ping", [None, 0])
async def test_no_ping(ping: float | None) -> None:
    """``None`` and ``0`` disable pings."""

    async def produce(send_channel: EventSendChannel) -> None:
        await anyio.sleep(100)

    async with open_test_stream(EventSourceResponse(produce, ping=ping)) as stream:
        await stream.wait_closed()
        assert stream.body == b""


async def test_ping_factory_that_raises() -> None:
    """An exception of the ping factory ends the stream, and the response raises it."""

    def ping() -> ServerSentEvent:
        raise LookupError("ping")

    async with open_test_stream(EventSourceResponse(wait, ping=3, ping_message_factory=ping)) as stream:
        with pytest.raises(LookupError, match="ping"):
            await stream.wait_closed()
        assert stream.body == b"data: event\n\n"
    assert stream.close_reason is CloseReason.FAILED


@pytest.mark.parametrize("option", ["ping_message_factory", "farewell", "on_error"])
async def test_factory_of_something_else(option: str) -> None:
    """If a factory returns anything but an event, the error names the factory."""
    group = StreamGroup()
    options: dict[str, Any] = {option: lambda *_: "text", "ping": 2}
    producer = fail if option == "on_error" else wait
    async with open_test_stream(EventSourceResponse(producer, group=group, **options)) as stream:
        await stream.receive()
        if option == "farewell":
            await group.kick()
        with pytest.raises(Exception, match="failed") if option == "on_error" else pytest.raises(TypeError) as info:
            await stream.wait_closed()
    assert f"{option} must return a ServerSentEvent" in repr(getattr(info.value, "exceptions", info.value))


# --- farewell


ENDINGS: dict[str, Callable[[Any, StreamGroup], Any]] = {
    "shutdown": lambda stream, group: group.request_shutdown(),
    "kicked": lambda stream, group: group.kick(),
    "cancelled": lambda stream, group: stream.cancel(),
    "lifetime": lambda stream, group: anyio.sleep(100),
    "disconnected": lambda stream, group: stream.disconnect(),
    "completed": lambda stream, group: anyio.sleep(200),
}


async def end_as(reason: str, stream: Any, group: StreamGroup) -> None:
    """Have the stream end for this reason."""
    result = ENDINGS[reason](stream, group)
    if result is not None:
        await result


async def until_the_end(send_channel: EventSendChannel) -> None:
    """Send an event, and complete after two minutes."""
    await send_channel.send("event")
    await anyio.sleep(120)


@pytest.mark.parametrize("reason", ENDINGS)
async def test_farewell(reason: str) -> None:
    """The farewell is the last event of a stream that could have continued and whose client is still there."""
    group = StreamGroup()
    options = {"max_lifetime": 50} if reason == "lifetime" else {}
    response = EventSourceResponse(
        until_the_end, group=group, farewell=lambda why: ServerSentEvent(why.value), ping=None, **options
    )
    async with open_test_stream(response) as stream:
        await stream.receive()
        await end_as(reason, stream, group)
        await stream.wait_closed()
    assert stream.close_reason is CloseReason(reason)
    without = reason in {"disconnected", "completed"}
    assert stream.body == b"data: event\n\n" + (b"" if without else f"data: {reason}\n\n".encode())


async def test_farewell_that_says_nothing() -> None:
    """A farewell factory may return ``None``."""
    group = StreamGroup()
    async with open_test_stream(EventSourceResponse(wait, group=group, farewell=lambda why: None)) as stream:
        await stream.receive()
        await group.kick()
        await stream.wait_closed()
        assert stream.body == b"data: event\n\n"


@pytest.mark.parametrize("reason", ["shutdown", "kicked", "cancelled", "lifetime"])
async def test_farewell_that_raises(reason: str) -> None:
    """The response raises the factory's exception; the stream ends as without it."""

    def farewell(why: CloseReason) -> ServerSentEvent:
        raise LookupError(why.value)

    group = StreamGroup()
    options = {"max_lifetime": 50} if reason == "lifetime" else {}
    response = EventSourceResponse(until_the_end, group=group, farewell=farewell, ping=None, **options)
    async with open_test_stream(response) as stream:
        await stream.receive()
        await end_as(reason, stream, group)
        with pytest.raises(LookupError, match=reason):
            await stream.wait_closed()
    assert stream.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert stream.close_reason is CloseReason(reason)


# --- on_error


async def test_on_error() -> None:
    """on_error gets the exception; the event that it returns is the last one, and no final frame follows."""
    response = EventSourceResponse(fail, on_error=lambda exc: ServerSentEvent(repr(exc), event="error"))
    async with open_test_stream(response) as stream:
        with pytest.raises(LookupError):
            await stream.wait_closed()
        assert stream.body == b"data: event\n\nevent: error\ndata: LookupError('failed')\n\n"
        assert stream.messages[-1]["more_body"]


async def test_on_error_that_says_nothing() -> None:
    """By default, or if on_error returns ``None``, nothing about the failure is sent."""
    for options in ({}, {"on_error": lambda exc: None}):
        async with open_test_stream(EventSourceResponse(fail, **options)) as stream:  # type: ignore[arg-type]
            with pytest.raises(LookupError):
                await stream.wait_closed()
            assert stream.body == b"data: event\n\n"


async def test_on_error_is_not_for_a_failed_set_up() -> None:
    """An exception that becomes the status is not sent as a last event."""
    called = []
    async with open_test_stream(EventSourceResponse(refuse, on_error=called.append), wait_head=False) as stream:
        with pytest.raises(HTTPException):
            await stream.wait_closed()
    assert called == []


async def test_on_error_that_raises() -> None:
    """If on_error raises, too, both exceptions are raised, the producer's first."""

    def on_error(exc: Exception) -> ServerSentEvent:
        raise ValueError("on_error")

    async with open_test_stream(EventSourceResponse(fail, on_error=on_error)) as stream:
        with pytest.raises(ExceptionGroup) as info:
            await stream.wait_closed()
    assert [type(exc) for exc in info.value.exceptions] == [LookupError, ValueError]


# --- on_close and background


@pytest.mark.parametrize("reason", ENDINGS)
async def test_on_close_and_background(reason: str) -> None:
    """on_close is awaited once, with the reason, after the producers; ``background`` runs after it."""
    steps: list[object] = []

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            await until_the_end(send_channel)
        finally:
            steps.append("producer")

    async def on_close(why: CloseReason) -> None:
        await anyio.sleep(1)
        steps.append(why)

    async def background() -> None:
        steps.append("background")

    group = StreamGroup()
    options: dict[str, Any] = {"max_lifetime": 50} if reason == "lifetime" else {}
    response = EventSourceResponse(
        produce, group=group, on_close=on_close, background=BackgroundTask(background), **options
    )
    async with open_test_stream(response) as stream:
        await stream.receive()
        await end_as(reason, stream, group)
        await stream.wait_closed()
    assert steps == ["producer", CloseReason(reason), *([] if reason == "cancelled" else ["background"])]


async def test_no_background_after_a_failure() -> None:
    """After a failure ``background`` does not run, but on_close is called."""
    steps: list[object] = []

    async def on_close(why: CloseReason) -> None:
        steps.append(why)

    response = EventSourceResponse(fail, on_close=on_close, background=BackgroundTask(steps.append, "background"))
    with pytest.raises(LookupError):
        async with open_test_stream(response) as stream:
            await stream.wait_closed()
    assert steps == [CloseReason.FAILED]


async def test_on_close_has_five_seconds() -> None:
    """on_close is cancelled when it takes more than five seconds, and the response returns."""
    outcome = []

    async def on_close(why: CloseReason) -> None:
        began = anyio.current_time()
        try:
            await anyio.sleep_forever()
        except get_cancelled_exc_class():
            outcome.append(anyio.current_time() - began)
            raise

    async with open_test_stream(EventSourceResponse(count, on_close=on_close)) as stream:
        await stream.wait_closed()
    assert outcome == [5]


async def test_on_close_that_raises() -> None:
    """The response raises the exception of on_close, with the producer's failure as its context."""

    async def on_close(why: CloseReason) -> None:
        raise ValueError("on_close")

    for producer in (count, fail):
        with pytest.raises(ValueError, match="on_close") as info:
            async with open_test_stream(EventSourceResponse(producer, on_close=on_close)) as stream:
                await stream.wait_closed()
        assert isinstance(info.value.__context__, LookupError) == (producer is fail)


# --- the request's body


async def test_dropped_body(caplog: pytest.LogCaptureFixture) -> None:
    """Body bytes that arrive while the stream waits for the disconnect are dropped with a warning."""
    with caplog.at_level(logging.WARNING, "sse_trio"):
        response = EventSourceResponse(count)
        async with open_test_stream(response, "/post", method="POST", content=b"12345", bridge=False) as stream:
            await stream.wait_closed()
            await wait_all_tasks_blocked()
    assert len(caplog.records) == 1
    assert "'/post': 5 bytes of the request's body" in caplog.text
    assert "read the body before you return the response, or wrap the application in ServerBridge" in caplog.text


@pytest.mark.parametrize("bridge", [True, False])
async def test_body_that_was_read_before(caplog: pytest.LogCaptureFixture, bridge: bool) -> None:
    """There is no warning if no body bytes were dropped."""

    async def echo(request: Request) -> EventSourceResponse:
        return EventSourceResponse(count, len(await request.body()))

    app = Starlette(routes=[Route("/", echo, methods=["POST"])])
    with caplog.at_level(logging.WARNING, "sse_trio"):
        async with open_test_stream(app, method="POST", content=b"12", bridge=bridge) as stream:
            assert [event.data async for event in stream] == ["0", "1"]
    assert not caplog.records


# --- the log


@pytest.mark.parametrize("reason", ENDINGS)
async def test_one_line_for_each_stream(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Each stream logs one line, at DEBUG, with its reason."""
    group = StreamGroup()
    options: dict[str, Any] = {"max_lifetime": 50} if reason == "lifetime" else {}
    with caplog.at_level(logging.DEBUG, "sse_trio"):
        async with open_test_stream(EventSourceResponse(until_the_end, group=group, **options), "/path") as stream:
            await stream.receive()
            await end_as(reason, stream, group)
            await stream.wait_closed()
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("DEBUG", f"event stream '/path' ended: {reason}")
    ]


async def test_a_stalled_client_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A send timeout is a warning, without a traceback."""
    with caplog.at_level(logging.DEBUG, "sse_trio"):
        async with open_test_stream(EventSourceResponse(count, send_timeout=5)) as stream:
            await stream.receive()
            stream.stall()
            await stream.wait_closed()
    assert [(r.levelname, r.exc_info) for r in caplog.records] == [("WARNING", None)]


# --- last_event_id


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ([], b"", None),
        ([(b"last-event-id", b"7")], b"", "7"),
        ([(b"last-event-id", b"7")], b"lastEventId=8", "7"),
        ([(b"last-event-id", b"")], b"lastEventId=8", ""),
        ([(b"last-event-id", "Gr\u00fc\u00dfe".encode())], b"", "Gr\u00fc\u00dfe"),
        ([(b"last-event-id", b"\xff")], b"", "\ufffd"),
        ([], b"lastEventId=8&last_event_id=9", "8"),
        ([], b"last_event_id=a%20b", "a b"),
        ([], b"other=1", None),
    ],
)
def test_last_event_id(headers: list[tuple[bytes, bytes]], query: bytes, expected: str | None) -> None:
    """The id comes from the header, or else from the query, or else it is ``None``."""
    assert last_event_id(Request(http_scope(headers=headers, query_string=query))) == expected


# --- where it is used


def add_header(request: Request, call_next: RequestResponseEndpoint) -> Awaitable[Response]:
    """Be a middleware that changes the head."""

    async def respond() -> Response:
        response = await call_next(request)
        response.headers["x-middleware"] = "1"
        return response

    return respond()


@pytest.fixture
def steps() -> list[str]:
    """What a producer of an application has been through."""
    return []


@pytest.fixture
def endpoint(steps: list[str]) -> Callable[[Request], Awaitable[EventSourceResponse]]:
    """An endpoint with a stream that never ends without help."""

    async def produce(send_channel: EventSendChannel) -> None:
        try:
            for n in range(1000):
                await send_channel.send(n)
                await anyio.sleep(1)
        finally:
            steps.append("cleaned up")

    async def endpoint(request: Request) -> EventSourceResponse:
        return EventSourceResponse(produce)

    return endpoint


@pytest.mark.parametrize(
    "middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=add_header)]], ids=["bare", "base"]
)
@pytest.mark.parametrize("bridge", [True, False])
# Older versions of BaseHTTPMiddleware leave a generator of theirs to the collector, of which trio warns.
@pytest.mark.filterwarnings("ignore:Async generator 'starlette.requests.Request.stream':ResourceWarning")
async def test_starlette(endpoint: Any, steps: list[str], middleware: list[Middleware], bridge: bool) -> None:
    """In a Starlette route, even behind BaseHTTPMiddleware, events arrive as they are sent, and the end is noticed."""
    app = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
    async with open_test_stream(app, bridge=bridge) as stream:
        assert ("x-middleware" in stream.headers) == bool(middleware)
        for n in range(3):
            assert (await stream.receive()).data == str(n)
            assert anyio.current_time() == n
        stream.disconnect()
        await stream.wait_closed()
    assert steps == ["cleaned up"]


@pytest.mark.parametrize(
    "middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=add_header)]], ids=["bare", "base"]
)
@pytest.mark.usefixtures("real_clock")  # older versions of Starlette call their own handler in a thread
async def test_starlette_status_of_a_failed_set_up(middleware: list[Middleware]) -> None:
    """A producer that raises HTTPException first sets the status in Starlette, too."""

    async def endpoint(request: Request) -> EventSourceResponse:
        return EventSourceResponse(refuse)

    app = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
    async with open_test_stream(app) as stream:
        assert stream.status_code == 404


async def test_fastapi(steps: list[str]) -> None:
    """In a FastAPI path operation, a dependency outlives the stream, and FastAPI's background task runs."""
    app = fastapi.FastAPI()

    async def depend() -> AsyncGenerator[str, None]:
        yield "dependency"
        steps.append("dependency")

    @app.get("/{number}")
    async def numbers(
        number: int,
        background: fastapi.BackgroundTasks,
        text: str = fastapi.Depends(depend),  # noqa: FAST002 -- Annotated is not resolved in a function
    ) -> EventSourceResponse:
        async def produce(send_channel: EventSendChannel) -> None:
            await send_channel.send(text)
            await count(send_channel, number)
            steps.append("producer")

        background.add_task(background_task)
        return EventSourceResponse(produce)

    async def background_task() -> None:
        steps.append("background")

    async with open_test_stream(app, "/2") as stream:
        assert [event.data async for event in stream] == ["dependency", "0", "1"]
        await stream.wait_closed()
    assert sorted(steps) == ["background", "dependency", "producer"]


# httpx's own iterators are async generators, and trio warns of those that are left behind.
@pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning")
async def test_httpx(endpoint: Any, steps: list[str]) -> None:
    """The response works over an HTTP client's ASGI transport."""
    app = Starlette(routes=[Route("/", endpoint)])
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://test") as client:  # noqa: SIM117 -- the client outlives its streams
        async with client.stream("GET", "/") as response:
            lines = response.aiter_lines()
            assert [await anext(lines) for _ in range(4)] == ["data: 0", "", "data: 1", ""]
            await lines.aclose()  # type: ignore[attr-defined]
    assert steps == ["cleaned up"]


async def test_websocket_denial() -> None:
    """The response can deny a WebSocket, in ASGI's messages for that."""

    async def endpoint(websocket: WebSocket) -> None:
        await websocket.send_denial_response(EventSourceResponse(count, status_code=429))

    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    sent: list[Message] = []
    gone = anyio.Event()
    received = iter([{"type": "websocket.connect"}])

    async def receive() -> Message:
        for message in received:
            return message
        await gone.wait()
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        sent.append(message)

    scope = http_scope(type="websocket", extensions={"websocket.http.response": {}}, subprotocols=[])
    del scope["method"]
    await app(scope, receive, send)
    assert sent[0]["type"] == "websocket.http.response.start"
    assert sent[0]["status"] == 429
    assert {message["type"] for message in sent[1:]} == {"websocket.http.response.body"}
    assert b"".join(message["body"] for message in sent[1:]) == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert [message["more_body"] for message in sent[1:]][-2:] == [True, False]


async def test_websocket_client_that_goes() -> None:
    """A client that leaves before its denial is complete ends the stream."""
    reasons = []

    async def on_close(reason: CloseReason) -> None:
        reasons.append(reason)

    async def receive() -> Message:
        await anyio.sleep(5)
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()

    await EventSourceResponse(wait, on_close=on_close)(http_scope(type="websocket"), receive, send)
    assert reasons == [CloseReason.DISCONNECTED]
