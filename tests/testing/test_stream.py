from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from sse_trio import EventSendChannel, EventSourceResponse
from sse_trio._reasons import CloseReason
from sse_trio._servers.connection import Connection
from sse_trio.testing import TestStream, open_test_stream, wait_all_tasks_blocked

pytestmark = pytest.mark.anyio

HEAD: Message = {"type": "http.response.start", "status": 201, "headers": [(b"x-kind", b"stream")]}
FINAL: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def chunk(data: bytes) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def three(scope: Scope, receive: Receive, send: Send) -> None:
    """An event each second."""
    await send(HEAD)
    for n in range(3):
        await send(chunk(b"id: %d\ndata: event %d\n\n" % (n, n)))
        await anyio.sleep(1)
    await send(FINAL)


@pytest.mark.parametrize("accept", [[], ["text/html"], ["text/html", "*/*;q=0.1"]])
async def test_headers_that_are_given_replace_its_own(accept: list[str]) -> None:
    """A client asks for an event stream unless the test says what it asks for, then for nothing else."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = Request(scope).headers
        assert headers.getlist("accept") == (accept or ["text/event-stream"])
        assert (headers["host"], headers["content-type"]) == ("testserver", "application/json")
        await PlainTextResponse("")(scope, receive, send)

    async with open_test_stream(app, json=1, headers=[("Accept", line) for line in accept]) as stream:
        await stream.wait_closed()


async def receive_all(stream: TestStream) -> None:
    async for _ in stream:
        pass


class Endless:
    """An event each second; notes how it ended."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.sent = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with anyio.create_task_group() as tg:
                tg.start_soon(self._send_events, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.steps.append("disconnect")
                tg.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            self.steps.append("cleaned up")

    async def _send_events(self, send: Send) -> None:
        await send(HEAD)
        while True:
            await send(chunk(b"data\n\n"))
            self.sent += 1
            await anyio.sleep(1)


async def test_events_arrive_as_they_are_sent() -> None:
    """Events are decoded, each at the time it was sent, and the iteration ends with the response."""
    seen: list[tuple[str, str, float]] = []
    async with open_test_stream(three) as stream:
        assert stream.status_code == 201
        assert stream.headers["X-Kind"] == "stream"
        seen.extend([(event.id, event.data, anyio.current_time()) async for event in stream])
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()
    assert seen == [("0", "event 0", 0), ("1", "event 1", 1), ("2", "event 2", 2)]
    assert stream.is_closed


async def test_an_answer_that_is_no_stream_says_so() -> None:
    """A test that waits for an event of an ordinary answer is told its status and its type."""
    async with open_test_stream(Starlette(), "/nowhere") as stream:
        with pytest.raises(anyio.EndOfStream, match=r"not an event stream: 404, text/plain.*await stream.read\(\)"):
            await stream.receive()


async def test_messages_and_body_are_there() -> None:
    """Every ASGI message the client got can be looked at, and the bytes of the body."""
    async with open_test_stream(three) as stream:
        await stream.wait_closed()
    first, *_, last = stream.messages
    assert (first, last) == (HEAD, FINAL)
    assert len(stream.messages) == 5
    assert stream.body.startswith(b"id: 0\ndata: event 0\n\nid: 1")


async def test_a_large_event_is_an_event() -> None:
    """An event of any size arrives: the decoder's limit is for servers that the program doesn't know."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"data: %s\n\n" % (b"x" * 2_000_000)))
        await send(FINAL)

    async with open_test_stream(app) as stream:
        assert len((await stream.receive()).data) == 2_000_000


async def test_several_events_in_a_message() -> None:
    """Events that were joined come one by one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"data: 1\n\n: ping\n\ndata: 2\n\n"))
        await send(FINAL)

    async with open_test_stream(app) as stream:
        assert [event.data async for event in stream] == ["1", "2"]


async def test_a_compressed_body_is_told() -> None:
    """If you ask for a compressed body and for events, the error says that there are none and how to get them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-encoding", b"gzip")]})
        await send(chunk(gzip.compress(b"data: 1\n\n")))
        await send(FINAL)

    async with open_test_stream(app) as stream:
        with pytest.raises(ValueError, match="leave that header out"):
            await stream.receive()


async def test_head_need_not_be_waited_for() -> None:
    """With wait_head=False the test acts before the application does."""
    async with open_test_stream(three, wait_head=False) as stream:
        assert stream.messages == []
        with pytest.raises(RuntimeError, match="wait_head"):
            _ = stream.status_code
        with pytest.raises(RuntimeError, match="wait_head"):
            _ = stream.headers
        await stream.wait_head()
        assert stream.status_code == 201


async def test_leaving_the_block_disconnects() -> None:
    """The end of the block is the client going away, and waits for the clean-up."""
    app = Endless()
    async with open_test_stream(app) as stream:
        await stream.receive()
    assert app.steps == ["disconnect", "cleaned up"]
    assert stream.is_closed


async def test_disconnect() -> None:
    """After a disconnect the application hears of it, and nothing more arrives."""
    app = Endless()
    async with open_test_stream(app) as stream:
        await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
        assert app.steps == ["disconnect", "cleaned up"]
        with pytest.raises(anyio.ClosedResourceError, match="this test has disconnected"):
            await receive_all(stream)


async def test_send_after_a_disconnect_goes_nowhere() -> None:
    """As on real servers, what is sent to a client that is gone is dropped without an error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        while (await receive())["type"] != "http.disconnect":
            pass
        await send(chunk(b"data\n\n"))

    async with open_test_stream(app) as stream:
        stream.disconnect()
        await stream.wait_closed()
    assert stream.messages == [HEAD]


async def test_stall_and_resume() -> None:
    """A stalled client makes `send` wait; the message arrives when it reads again, and not before."""
    app = Endless()
    async with open_test_stream(app) as stream:
        await stream.receive()
        stream.stall()
        await anyio.sleep(60)
        assert app.sent == 1
        assert stream.is_sending
        assert len(stream.messages) == 2
        stream.resume()
        await stream.receive()
        await wait_all_tasks_blocked()
        assert app.sent == 2
        assert not stream.is_sending


@pytest.mark.parametrize("shield", [False, True])
async def test_disconnect_frees_a_stalled_send(shield: bool) -> None:
    """A client that goes away while it is stalled lets `send` return, shielded or not."""
    app = Endless()
    async with open_test_stream(app) as stream:
        stream.stall(shield=shield)
        await anyio.sleep(5)
        stream.disconnect()
        await stream.wait_closed()
    assert app.steps == ["disconnect", "cleaned up"]


@pytest.mark.parametrize(("shield", "seconds"), [(False, 3), (True, 10)])
async def test_stalled_send_and_cancellation(shield: bool, seconds: float) -> None:
    """A stalled `send` can be cancelled, unless the server shields it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with anyio.move_on_after(3):
            await send(HEAD)

    async with open_test_stream(app, wait_head=False) as stream:
        stream.stall(shield=shield)
        await anyio.sleep(10)
        assert stream.is_closed is not shield
        stream.resume()
        await stream.wait_closed()
    assert stream.messages == ([HEAD] if shield else [])


async def test_stalled_send_ends_with_the_connection() -> None:
    """When the application has returned, the server closes the connection, and a send that it left behind fails."""
    caught: list[Exception] = []

    async def leave_behind(send: Send) -> None:
        try:
            await send(HEAD)
        except anyio.BrokenResourceError as exc:
            caught.append(exc)

    async with anyio.create_task_group() as tg:

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tg.start_soon(leave_behind, send)
            await anyio.sleep(1)

        async with open_test_stream(app, wait_head=False) as stream:
            stream.stall(shield=True)
            await stream.wait_closed()
    assert len(caught) == 1


async def test_fail_send() -> None:
    """Every send raises what the test says, the one that waits at once."""
    app = Endless()
    async with open_test_stream(app) as stream:
        stream.stall()
        await anyio.sleep(5)
        stream.fail_send(OSError("broken pipe"))
        with pytest.raises(BaseException) as caught:
            await stream.wait_closed()
    assert caught.group_contains(OSError, match="broken pipe")


async def test_cancel() -> None:
    """The application can be cancelled from outside, as by a server whose patience is at an end."""
    app = Endless()
    async with open_test_stream(app) as stream:
        await stream.receive()
        stream.cancel()
        await stream.wait_closed()
        with pytest.raises(anyio.BrokenResourceError):
            await receive_all(stream)
    assert app.steps == ["cleaned up"]


async def test_shutdown_is_told_through_the_bridge() -> None:
    """The stream finds the server's shutdown event where ServerBridge would have put it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["extensions"]["sse_trio"]["connection"]
        shutdown = connection.shutdown_event()
        assert shutdown is not None
        await send(HEAD)
        await shutdown.wait()
        await connection.wait_flushed()
        await send(FINAL)

    async with open_test_stream(app) as stream:
        await anyio.sleep(5)
        stream.request_shutdown()
        await stream.wait_closed()
    assert stream.messages == [HEAD, FINAL]


async def test_bridge_offers_what_a_known_server_does() -> None:
    """The connection can be aborted, asked whether it is lost, and waited for without touching `receive`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"]["sse_trio"]["connection"]
        await send(HEAD)
        assert connection.is_lost is False
        assert connection.abort() is True
        await connection.wait_disconnect()
        assert connection.is_lost is True
        connection.stream_closed(CloseReason.SEND_TIMEOUT)

    async with open_test_stream(app, wait_head=False) as stream:
        assert stream.close_reason is None
        await stream.wait_closed()
        with pytest.raises(anyio.BrokenResourceError):
            await stream.receive()
    assert stream.is_aborted
    assert stream.close_reason is CloseReason.SEND_TIMEOUT


async def test_plain_server_offers_nothing() -> None:
    """Without a bridge every question to the server has the answer of an unknown one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"]["sse_trio"]["connection"]
        assert connection.abort() is False
        assert not connection.has_inbox
        assert connection.is_lost is None
        assert connection.shutdown_event() is None
        await connection.wait_flushed()
        connection.stream_closed(CloseReason.COMPLETED)
        await three(scope, receive, send)

    async with open_test_stream(app, bridge=False) as stream:
        with pytest.raises(RuntimeError, match="bridge=True"):
            stream.request_shutdown()
        await stream.wait_closed()
    assert not stream.is_aborted
    assert stream.close_reason is CloseReason.COMPLETED


async def test_disconnect_is_no_abort() -> None:
    """An abort of a connection that the client has left already isn't one."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["extensions"]["sse_trio"]["connection"]
        await send(HEAD)
        await connection.wait_disconnect()
        connection.abort()

    async with open_test_stream(app) as stream:
        pass
    assert not stream.is_aborted


async def fails_at_once(scope: Scope, receive: Receive, send: Send) -> None:
    raise LookupError("no such feed")


async def fails_later(scope: Scope, receive: Receive, send: Send) -> None:
    await send(HEAD)
    await send(chunk(b"data: 1\n\n"))
    raise LookupError("gone")


async def test_exception_before_the_head() -> None:
    """An exception of the application before its head is raised where the stream is opened."""
    with pytest.raises(LookupError, match="no such feed"):
        async with open_test_stream(fails_at_once):
            pytest.fail("not reached")


async def test_exception_while_the_test_reads() -> None:
    """An exception of the application after events is raised by receive(), after those events, and only once."""
    async with open_test_stream(fails_later) as stream:
        assert (await stream.receive()).data == "1"
        with pytest.raises(LookupError, match="gone"):
            await stream.receive()


async def test_exception_that_the_test_did_not_wait_for() -> None:
    """An exception of the application is raised at the end of the block, unless it was raised before."""
    with pytest.raises(LookupError, match="gone"):
        async with open_test_stream(fails_later):
            await wait_all_tasks_blocked()


async def test_exception_of_the_test_stays_bare() -> None:
    """An exception of the block comes out unchanged, after the application has seen the disconnect and cleaned up."""
    app = Endless()
    with pytest.raises(KeyError):
        async with open_test_stream(app) as stream:
            await stream.receive()
            raise KeyError
    assert app.steps == ["disconnect", "cleaned up"]


async def crash(request: Request) -> Response:
    try:
        raise KeyError("first")
    except KeyError:
        raise LookupError("the database is down")  # noqa: B904


async def through(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    return response


async def check_status(stream: TestStream) -> None:
    assert stream.status_code == 200, "the test's own"


async def receive_one(stream: TestStream) -> None:
    await stream.receive()


async def wait(stream: TestStream) -> None:
    await stream.wait_closed()


async def nothing(stream: TestStream) -> None: ...


async def fail(stream: TestStream) -> None:
    pytest.fail("the test's own")


async def expect(stream: TestStream) -> None:
    with pytest.raises(KeyError):
        pass


@pytest.mark.parametrize("test", [fail, expect])
async def test_exception_behind_a_failure_of_pytest(test: Any) -> None:
    """The application's exception is what the test sees also where the block failed in pytest.fail() or raises()."""
    with pytest.raises(LookupError, match="gone") as caught:
        async with open_test_stream(fails_later) as stream:
            await test(stream)
    assert isinstance(caught.value.__context__, pytest.fail.Exception)


@pytest.mark.parametrize("test", [pytest.skip, pytest.xfail])
async def test_a_test_that_is_not_to_go_on(test: Any) -> None:
    """A block that ends in pytest.skip() or xfail() has not failed, whatever the application raises."""
    with pytest.raises(pytest.skip.Exception if test is pytest.skip else pytest.xfail.Exception):
        async with open_test_stream(fails_later):
            test("not today")


@pytest.mark.parametrize("middleware", [[], [Middleware(BaseHTTPMiddleware, dispatch=through)]])
@pytest.mark.parametrize("test", [check_status, receive_one, receive_all, wait, nothing])
async def test_exception_that_was_answered(middleware: list[Middleware], test: Any) -> None:
    """An exception that a framework answers with a 500, and raises, is what the test sees, whatever the test does."""
    app = Starlette(routes=[Route("/", crash)], middleware=middleware)
    with pytest.raises(LookupError, match="the database is down") as caught:
        async with open_test_stream(app) as stream:
            await test(stream)
    shown, error = [], caught.value.__context__
    while error is not None:
        shown.append(type(error))
        error = error.__context__
    assert (KeyError in shown) or middleware, "which has made a group of it, and that the context"
    assert (AssertionError in shown) is (test is check_status)


async def test_exception_that_was_reported() -> None:
    """An exception that the test has had and dealt with is not raised in the place of the test's own."""
    with pytest.raises(KeyError, match="the test's own"):
        async with open_test_stream(fails_later) as stream:
            with pytest.raises(LookupError):
                await receive_all(stream)
            raise KeyError("the test's own")


async def test_state_of_the_lifespan() -> None:
    """Each request gets its own copy of what the lifespan yielded."""

    async def endpoint(request: Request) -> Response:
        text = request.state.name
        request.state.name = "changed"
        return PlainTextResponse(text)

    app = Starlette(routes=[Route("/", endpoint)], lifespan=lambda _: yielding({"name": "hub"}))
    async with app.router.lifespan_context(app) as state:
        for _ in range(2):
            async with open_test_stream(app, state=state) as stream:
                await stream.wait_closed()
            assert stream.body == b"hub"


@asynccontextmanager
async def yielding(value: Any) -> AsyncIterator[Any]:
    yield value


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_leaving_it_in_another_task(anyio_backend: str) -> None:
    """Left in another task, as by pytest-asyncio's fixtures, it says so, and what to write; no task is left running."""
    app = Endless()
    manager = open_test_stream(app)
    await asyncio.create_task(manager.__aenter__())
    with pytest.raises(RuntimeError, match="pytest-asyncio leaves an async fixture in another"):
        await asyncio.create_task(manager.__aexit__(None, None, None))
    assert app.steps == ["disconnect", "cleaned up"]


async def test_end_without_a_head() -> None:
    """An application that returns without a word is an error where its head is waited for."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        pass

    with pytest.raises(anyio.BrokenResourceError, match="before its status"):
        async with open_test_stream(app):
            pytest.fail("not reached")


async def test_app_that_does_not_end() -> None:
    """An application that ignores the disconnect is cancelled in the end, and the test fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await anyio.sleep_forever()

    with pytest.raises(AssertionError, match=r"still ran 3 s after http\.disconnect"):
        async with open_test_stream(app, close_within=3):
            pass
    assert anyio.current_time() == 3


async def test_caller_that_is_cancelled() -> None:
    """Cancelling the test's own scope cancels the application and waits for its clean-up."""
    app = Endless()
    with anyio.move_on_after(3.5) as scope:
        async with open_test_stream(app) as stream:
            async for _ in stream:
                pass
    assert scope.cancelled_caught
    assert app.steps == ["cleaned up"]
    assert app.sent == 4


async def test_two_sends_at_once_fail_the_test() -> None:
    """At most one send may be under way; a second one fails the test even if the application hides it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def second() -> None:
            with pytest.raises(AssertionError):
                await send(chunk(b"2"))

        await send(HEAD)
        async with anyio.create_task_group() as tg:
            tg.start_soon(second)
            await send(chunk(b"1"))
        await send(FINAL)

    with pytest.raises(AssertionError, match="while another send was under way"):
        async with open_test_stream(app) as stream:
            await stream.wait_closed()


async def test_send_after_the_return_fails_the_test() -> None:
    """A task that the application left behind may not send any more."""
    async with anyio.create_task_group() as tg:

        async def late(send: Send) -> None:
            await anyio.sleep(1)
            with pytest.raises(AssertionError):
                await send(HEAD)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tg.start_soon(late, send)

        with pytest.raises(AssertionError, match="after the application had returned"):
            async with open_test_stream(app, wait_head=False):
                await anyio.sleep(2)


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    request = Request(scope, receive)
    kind = request.headers.get("content-type")
    text = f"{request.method} {request.url.path} {request.url.query} {kind} {(await request.body()).decode()}"
    await PlainTextResponse(text)(scope, receive, send)


@pytest.mark.parametrize(
    ("path", "options", "text"),
    [
        ("/a%20b?x=1", {"params": {"y": [2, 3]}}, "GET /a b x=1&y=2&y=3 None "),
        ("/", {"method": "POST", "json": {"a": None}}, 'POST /  application/json {"a": null}'),
        ("/", {"method": "PUT", "content": "text", "headers": {"Content-Type": "x/y"}}, "PUT /  x/y text"),
        ("/", {"method": "PUT", "content": b"bytes", "headers": [("content-type", "1")]}, "PUT /  1 bytes"),
    ],
)
async def test_request_reaches_the_app(path: str, options: dict[str, Any], text: str) -> None:
    """Method, path, query, headers and body are what the test said."""
    async with open_test_stream(echo, path, **options) as stream:
        await stream.wait_closed()
    assert stream.body.decode() == text


async def test_starlette_can_ask_for_the_disconnect() -> None:
    """Request.is_disconnected(), which asks from within a cancelled scope, works."""
    answers: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        await request.body()
        await send(HEAD)
        answers.append(await request.is_disconnected())
        await anyio.sleep(2)
        answers.append(await request.is_disconnected())

    async with open_test_stream(app) as stream:
        await anyio.sleep(1)
        stream.disconnect()
        await stream.wait_closed()
    assert answers == [False, True]


async def test_response_that_is_complete_is_a_disconnect() -> None:
    """When the client has everything, `receive` says so, as on real servers."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await three(scope, receive, send)
        await receive()
        assert (await receive())["type"] == "http.disconnect"

    async with open_test_stream(app) as stream:
        await stream.wait_closed()


async def test_its_repr_says_how_it_stands() -> None:
    """A test stream shows its request, its status, the size of its body, and how it ended."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("12345", 201)(scope, receive, send)

    async with open_test_stream(app, "/clock", wait_head=False) as stream:
        assert repr(stream) == "<TestStream GET '/clock': no status yet, 0 bytes, open>"
        await stream.wait_closed()
        assert repr(stream) == "<TestStream GET '/clock': status 201, 5 bytes, returned>"
    async with open_test_stream(EventSourceResponse(hang), "/hang") as stream:
        stream.disconnect()
        await stream.wait_closed()
        assert repr(stream) == "<TestStream GET '/hang': status 200, 0 bytes, disconnected>"


async def hang(send_channel: EventSendChannel) -> None:
    """A producer without an event."""
    await anyio.sleep_forever()
