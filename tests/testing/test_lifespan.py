"""open_test_stream(lifespan=True), and answers that are not streams."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sse_trio import EventSourceResponse, Hub, open_hub
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


async def prices(request: Request) -> Response:
    """A stream of the hub of the lifespan."""
    return EventSourceResponse(request.state.hub.subscribe("prices"))


async def number(request: Request) -> Response:
    """An answer that is not a stream."""
    return JSONResponse({"number": request.state.number}, status_code=201)


async def text(request: Request) -> Response:
    """An answer that is not JSON."""
    return PlainTextResponse("text")


ROUTES = [Route("/prices", prices), Route("/number", number), Route("/text", text)]


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncGenerator[dict[str, Any], None]:
    """A hub."""
    async with open_hub() as hub:
        yield {"hub": hub, "number": 1}


async def test_lifespan() -> None:
    """The lifespan has started when the block begins, and has shut down when it is left; the test has its state."""
    steps = []

    @asynccontextmanager
    async def noted(app: Starlette) -> AsyncGenerator[dict[str, Any], None]:
        async with lifespan(app) as state:
            steps.append("started")
            yield state
            steps.append("shut down")

    app = Starlette(routes=ROUTES, lifespan=noted)
    async with open_test_stream(app, "/prices", lifespan=True) as stream:
        assert steps == ["started"]
        hub: Hub = stream.state["hub"]
        await hub.publish("prices", "9.5")
        assert (await stream.receive()).data == "9.5"
    assert steps == ["started", "shut down"]


async def test_state_beside_the_lifespan() -> None:
    """What is given as ``state=`` replaces what the lifespan yields."""
    app = Starlette(routes=ROUTES, lifespan=lifespan)
    async with open_test_stream(app, "/number", lifespan=True, state={"number": 2}) as stream:
        assert await stream.json() == {"number": 2}


async def test_answers_that_are_not_streams() -> None:
    """Their body is read as a whole, as bytes or as JSON."""
    app = Starlette(routes=ROUTES)
    async with open_test_stream(app, "/number", state={"number": 1}) as stream:
        assert stream.status_code == 201
        assert await stream.json() == {"number": 1}
    async with open_test_stream(app, "/text") as stream:
        assert await stream.read() == b"text"
        with pytest.raises(ValueError, match=r"the body must be JSON; got b'text', with status 200"):
            await stream.json()


async def test_read_raises_the_exception_of_the_application() -> None:
    """An answer that fails has no body to read."""

    async def fail(request: Request) -> Response:
        raise LookupError("failed")

    with pytest.raises(LookupError, match="failed"):
        async with open_test_stream(Starlette(routes=[Route("/", fail)])) as stream:
            await stream.read()


@pytest.mark.parametrize("moment", ["start", "end"])
async def test_an_exception_of_the_lifespan(moment: str) -> None:
    """The test sees the exception of a lifespan, at its start and at its end."""

    @asynccontextmanager
    async def failing(app: Starlette) -> AsyncGenerator[dict[str, Any], None]:
        async with lifespan(app) as state:
            if moment == "start":
                raise LookupError(moment)
            yield state
            raise LookupError(moment)

    with pytest.raises(LookupError, match=moment):
        async with open_test_stream(Starlette(routes=ROUTES, lifespan=failing), "/number", lifespan=True) as stream:
            assert moment == "end"
            await stream.read()


async def test_a_background_task_that_fails() -> None:
    """If a task of the lifespan fails while the test waits for an event, the test sees its exception."""

    async def fail() -> None:
        await anyio.sleep(1)
        raise LookupError("background")

    @asynccontextmanager
    async def failing(app: Starlette) -> AsyncGenerator[dict[str, Any], None]:
        async with lifespan(app) as state, anyio.create_task_group() as tasks:
            tasks.start_soon(fail)
            yield state

    with pytest.raises(Exception) as info:
        async with open_test_stream(Starlette(routes=ROUTES, lifespan=failing), "/prices", lifespan=True) as stream:
            await stream.receive()
    assert [str(each) for each in getattr(info.value, "exceptions", (info.value,))] == ["background"]


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        ("lifespan.startup.failed", RuntimeError, "lifespan.startup.failed: no database"),
        ("nothing", RuntimeError, "returned from its lifespan without lifespan.startup.complete"),
        ("forever", AssertionError, "lifespan did not shut down within 0.5 s"),
    ],
)
async def test_bare_lifespans(answer: str, error: type[Exception], text: str) -> None:
    """An ASGI application that refuses to start, returns too early or never shuts down fails the test."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await PlainTextResponse("text")(scope, receive, send)
            return
        assert (await receive())["type"] == "lifespan.startup"
        if answer == "lifespan.startup.failed":
            await send({"type": answer, "message": "no database"})
        elif answer == "forever":
            await send({"type": "lifespan.startup.complete"})
            await anyio.sleep_forever()

    with pytest.raises(error, match=text):
        async with open_test_stream(app, lifespan=True, close_within=0.5) as stream:
            await stream.read()
