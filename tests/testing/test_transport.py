from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sse_trio.testing import StreamingASGITransport, wait_all_tasks_blocked

pytestmark = [
    pytest.mark.anyio,
    # httpx's own iterators are async generators, and trio warns of those that a `break` leaves behind.
    pytest.mark.filterwarnings("ignore:Async generator 'httpx:ResourceWarning"),
]

HEAD: Message = {"type": "http.response.start", "status": 200, "headers": [(b"x-kind", b"stream")]}


def chunk(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def open_client(app: ASGIApp, **options: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=StreamingASGITransport(app, **options), base_url="http://test", timeout=None)


class Ticker:
    """Sends a line each second until it hears of a disconnect, and notes how it ended."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(HEAD)
            async with anyio.create_task_group() as tg:
                tg.start_soon(self._tick, send)
                while (await receive())["type"] != "http.disconnect":
                    pass
                self.steps.append("disconnect")
                tg.cancel_scope.cancel()
        except anyio.get_cancelled_exc_class():
            self.steps.append("cancelled")
            raise
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(1)
            self.steps.append("cleaned up")

    async def _tick(self, send: Send) -> None:
        for n in range(1_000_000):
            await send(chunk(b"%d\n" % n))
            await anyio.sleep(1)


async def test_body_arrives_as_it_is_sent() -> None:
    """Each chunk can be read when the application has sent it, not at the end."""
    times: list[float] = []
    async with open_client(Ticker()) as client, client.stream("GET", "/") as response:
        assert response.status_code == 200
        assert response.headers["x-kind"] == "stream"
        async for line in response.aiter_lines():
            times.append(anyio.current_time())
            if line == "3":
                break
    assert times == [0, 1, 2, 3]


async def test_closing_the_response_is_a_disconnect() -> None:
    """Leaving the response tells the application, and waits until it has cleaned up."""
    app = Ticker()
    async with open_client(app) as client:
        async with client.stream("GET", "/"):
            await anyio.sleep(3)
        assert app.steps == ["disconnect", "cleaned up"]


async def test_closing_the_client_closes_its_responses() -> None:
    """A response that is still open when the client closes is disconnected as well."""
    app = Ticker()
    async with open_client(app) as client:
        await client.send(client.build_request("GET", "/"), stream=True)
    assert app.steps == ["disconnect", "cleaned up"]


async def test_responses_close_in_any_order() -> None:
    """Two responses of one task needn't be closed in the reverse order of their opening."""
    first_app, second_app = Ticker(), Ticker()
    app = Starlette(routes=[Mount("/1", first_app), Mount("/2", second_app)])
    async with open_client(app) as client:
        first = await client.send(client.build_request("GET", "/1/"), stream=True)
        second = await client.send(client.build_request("GET", "/2/"), stream=True)
        await first.aclose()
        assert first_app.steps == ["disconnect", "cleaned up"]
        assert second_app.steps == []
        await second.aclose()
        await second.aclose()


async def test_request_that_is_cancelled_cancels_the_app() -> None:
    """A caller cancelled while it waits for the head takes the application with it, and waits for its clean-up."""
    steps: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5)
            steps.append("cleaned up")

    async with open_client(app) as client:
        with anyio.move_on_after(1) as scope:
            await client.get("/")
        assert scope.cancelled_caught
        assert steps == ["cleaned up"]
        assert anyio.current_time() == 6


async def test_reader_that_is_cancelled_cancels_the_app() -> None:
    """A caller cancelled while it reads leaves no application behind."""
    app = Ticker()
    async with open_client(app) as client:
        with anyio.move_on_after(3.5) as scope:
            async with client.stream("GET", "/") as response:
                async for _ in response.aiter_bytes():
                    pass
        assert scope.cancelled_caught
        assert app.steps[-1] == "cleaned up"


async def test_cancelling_the_tree_cancels_the_app() -> None:
    """The application runs in the task tree of the task that opened the client."""
    app = Ticker()
    with anyio.move_on_after(3.5) as scope:
        async with open_client(app) as client:
            await client.send(client.build_request("GET", "/"), stream=True)
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert app.steps == ["cancelled", "cleaned up"]


async def test_exception_of_the_caller_stays_bare() -> None:
    """An exception of the caller's block comes out unchanged, not in a group, and ends the applications."""
    app = Ticker()
    with pytest.raises(KeyError):
        async with open_client(app) as client:
            await client.send(client.build_request("GET", "/"), stream=True)
            await wait_all_tasks_blocked()
            raise KeyError
    assert app.steps == ["cancelled", "cleaned up"]


async def test_exception_that_was_answered() -> None:
    """An exception that a framework answers with a 500, and raises, is what the caller sees, whatever it does."""

    async def endpoint(request: Request) -> Response:
        raise LookupError("the database is down")

    app = Starlette(routes=[Route("/", endpoint)])
    async with open_client(app) as client:
        with pytest.raises(LookupError, match="the database is down"):
            await client.get("/")
        with pytest.raises(LookupError, match="the database is down"):
            async with client.stream("GET", "/") as response:
                assert response.status_code == 200, "the test's own"


async def test_state_of_the_lifespan() -> None:
    """Each request gets its own copy of what the lifespan yielded."""

    async def endpoint(request: Request) -> Response:
        text = request.state.name
        request.state.name = "changed"
        return PlainTextResponse(text)

    async with open_client(Starlette(routes=[Route("/", endpoint)]), state={"name": "hub"}) as client:
        assert [(await client.get("/")).text for _ in range(2)] == ["hub", "hub"]


async def test_exception_before_the_head_surfaces_at_the_caller() -> None:
    """An application that fails before its head fails the request with its own exception."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError("no such feed")

    async with open_client(app) as client:
        with pytest.raises(LookupError, match="no such feed"):
            await client.get("/")


async def test_exception_after_the_head_ends_the_body() -> None:
    """An application that fails later cuts the body off, as a server would, and is the cause of the error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"one"))
        raise LookupError("gone")

    received: list[bytes] = []
    async with open_client(app) as client, client.stream("GET", "/") as response:
        with pytest.raises(httpx.RemoteProtocolError) as caught:
            async for data in response.aiter_raw():
                received.append(data)  # noqa: PERF401 -- what came before the error
    assert received == [b"one"]
    assert isinstance(caught.value.__cause__, LookupError)


async def test_exception_that_nobody_read_comes_out_of_the_closing() -> None:
    """A failure in the application's clean-up isn't lost because the client has left."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        while (await receive())["type"] != "http.disconnect":
            pass
        raise LookupError("clean-up failed")

    async with open_client(app) as client:
        with pytest.raises(LookupError, match="clean-up failed"):
            async with client.stream("GET", "/"):
                pass


@pytest.mark.parametrize("messages", [[], [HEAD, chunk(b"one")]])
async def test_unfinished_response_is_an_error(messages: list[Message]) -> None:
    """An application that returns without its last message has cut its client off."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async with open_client(app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/")


async def test_app_that_ignores_the_disconnect() -> None:
    """An application that goes on after a disconnect is cancelled in the end, and reported."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await anyio.sleep_forever()

    async with open_client(app, close_within=3) as client:
        with pytest.raises(AssertionError, match=r"still ran 3 s after http\.disconnect"):
            async with client.stream("GET", "/"):
                pass
        assert anyio.current_time() == 3


async def test_read_timeout() -> None:
    """The read timeout of httpx counts, for the head and for the body, as it does over a network."""

    async def slow_head(scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def slow_body(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await slow_head(scope, receive, send)

    for app in (slow_head, slow_body):
        async with open_client(app) as client:
            with pytest.raises(httpx.ReadTimeout, match="for 5 s"):
                await client.get("/", timeout=5)
    assert anyio.current_time() == 10


async def test_unread_body_holds_the_app_back() -> None:
    """A client that doesn't read makes `send` wait once the buffer is full, and go on when it reads."""
    sent: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(HEAD)
        for n in range(4):
            await send(chunk(bytes(500)))
            sent.append(n)
        await send(chunk(b"", more=False))

    async with open_client(app, max_buffer_bytes=1000) as client, client.stream("GET", "/") as response:
        await wait_all_tasks_blocked()
        assert sent == [0, 1]
        assert len(await response.aread()) == 2000


async def test_request_reaches_the_app() -> None:
    """Method, path, query, headers, body and client address are in the scope and in the request's messages."""

    async def echo(request: Request) -> Response:
        assert request.client is not None
        body = (await request.body()).decode()
        text = f"{request.method} {request.url} {request.headers['x-a']} {body} {request.client.host}"
        return PlainTextResponse(text)

    app = Starlette(routes=[Route("/echo/{name}", echo, methods=["POST"])])

    async def parts() -> AsyncIterator[bytes]:
        yield b"some "
        yield b"body"

    async with open_client(app, client=("10.0.0.1", 1)) as client:
        response = await client.post("/echo/%C3%A9?b=2", headers={"X-A": "1"}, content=parts())
        assert response.text == "POST http://test/echo/\xe9?b=2 1 some body 10.0.0.1"


async def test_root_path() -> None:
    """An application can be tested as if it were mounted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await PlainTextResponse(scope["root_path"])(scope, receive, send)

    async with open_client(app, root_path="/api") as client:
        assert (await client.get("/")).text == "/api"


async def test_head_has_no_body() -> None:
    """On HEAD the body that an application sends goes nowhere."""
    app = Starlette(routes=[Route("/", PlainTextResponse("text"))])
    async with open_client(app) as client:
        response = await client.head("/")
        assert response.content == b""
        assert response.headers["content-length"] == "4"


async def test_streaming_response_of_starlette() -> None:
    """An endless StreamingResponse can be tested, and its generator is closed."""
    closed: list[bool] = []

    async def endless() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
                await anyio.sleep(1)
        finally:
            closed.append(True)

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(endless())

    app = Starlette(routes=[Route("/", endpoint)])
    async with open_client(app) as client, client.stream("GET", "/") as response:
        async for text in response.aiter_text():
            assert text == "x"
            if anyio.current_time() > 300:
                break


async def test_client_has_to_be_entered() -> None:
    """Without `async with` there is no task group, and the error says what to write."""
    client = open_client(Ticker())
    with pytest.raises(RuntimeError, match=r"async with httpx\.AsyncClient"):
        await client.get("/")


async def concurrent_sends(scope: Scope, receive: Receive, send: Send) -> None:
    await send(HEAD)
    async with anyio.create_task_group() as tg:
        tg.start_soon(send, chunk(b"1"))
        tg.start_soon(send, chunk(b"2"))


async def head_twice(scope: Scope, receive: Receive, send: Send) -> None:
    await send(HEAD)
    await send(HEAD)


async def send_after_the_end(scope: Scope, receive: Receive, send: Send) -> None:
    await send(HEAD)
    await send(chunk(b"", more=False))
    await send(chunk(b"more"))


@pytest.mark.parametrize(
    ("app", "fault"),
    [
        (concurrent_sends, "while another send was under way"),
        (head_twice, r"where http\.response\.body was expected"),
        (send_after_the_end, "after the last message"),
    ],
)
async def test_breaking_the_protocol(app: Callable[..., Any], fault: str) -> None:
    """Messages that a real server would garble fail an assertion."""
    async with open_client(app) as client:
        with pytest.raises(AssertionError, match=fault):
            async with client.stream("GET", "/"):
                await wait_all_tasks_blocked()
