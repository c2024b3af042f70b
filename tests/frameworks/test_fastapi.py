"""FastAPI: path operations with ``yield``, as with fastapi.sse, and what becomes of their items and their cleanup."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastapi
import fastapi.routing
import pytest
from pydantic import BaseModel

from sse_trio import (
    CloseReason,
    EventSourceResponse,
    Hub,
    ServerBridge,
    ServerSentEvent,
    StreamGroup,
    open_event_channel,
    open_hub,
)
from sse_trio._streams.wrapped import without_wrapper
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


class Item(BaseModel):
    """What is streamed."""

    name: str


async def data_of(app: fastapi.FastAPI, path: str = "/") -> list[str]:
    """The data of all events of a stream that ends without help."""
    async with open_test_stream(app, path) as stream:
        return [event.data async for event in stream]


@pytest.fixture
def app() -> fastapi.FastAPI:
    """An application with the bridge among its middlewares."""
    app = fastapi.FastAPI()
    app.add_middleware(ServerBridge)
    return app


async def test_async_generator(app: fastapi.FastAPI) -> None:
    """Models, text, numbers, mappings of fields and events may be yielded from a path operation."""

    @app.get("/", response_class=EventSourceResponse)
    async def items() -> AsyncIterable[Any]:
        yield Item(name="one")
        yield "text"
        yield 1.5
        yield ["list"]
        yield {"data": "fields", "event": "kind"}
        yield ServerSentEvent("event", id=7)

    assert await data_of(app) == ['{"name":"one"}', "text", "1.5", '["list"]', "fields", "event"]


async def test_without_the_response_class(app: fastapi.FastAPI) -> None:
    """The annotation alone makes no stream of a `yield`: FastAPI sends JSON lines, as docs/fastapi.md says."""

    @app.get("/")
    async def items() -> EventSourceResponse:
        yield Item(name="one")

    async with open_test_stream(app, "/") as answer:
        assert answer.headers["content-type"] == "application/jsonl"
        assert json.loads(await answer.read()) == {"name": "one"}


@pytest.mark.usefixtures("real_clock")
async def test_generator(app: fastapi.FastAPI) -> None:
    """A path operation that isn't async may yield, too: it runs in a worker thread."""

    @app.get("/", response_class=EventSourceResponse)
    def items() -> Iterable[Item]:
        yield Item(name="one")
        yield Item(name="two")

    assert await data_of(app) == ['{"name":"one"}', '{"name":"two"}']


async def test_headers_and_status(app: fastapi.FastAPI) -> None:
    """The headers are an event stream's, with those and the status that the path operation sets."""

    @app.get("/", response_class=EventSourceResponse, status_code=201)
    async def items(response: fastapi.Response) -> AsyncIterable[str]:
        response.headers["x-own"] = "yes"
        yield "one"

    async with open_test_stream(app) as stream:
        assert stream.status_code == 201
        assert stream.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert stream.headers["x-accel-buffering"] == "no"


async def test_http_exception_before_the_first_item(app: fastapi.FastAPI) -> None:
    """A path operation that raises HTTPException before it yields decides the status."""

    @app.get("/{number}", response_class=EventSourceResponse)
    async def items(number: int) -> AsyncIterable[str]:
        if number != 1:
            raise fastapi.HTTPException(404, "no such item")
        yield "one"

    async with open_test_stream(app, "/2") as stream:
        assert stream.status_code == 404
    assert await data_of(app, "/1") == ["one"]


@pytest.mark.parametrize("waiting", [False, True])
async def test_cleanup_has_run(app: fastapi.FastAPI, waiting: bool) -> None:
    """The ``finally`` of the path operation has run when the stream has ended, then that of its dependency."""
    steps: list[str] = []

    async def session() -> AsyncGenerator[str, None]:
        yield "session"
        steps.append("session closed")

    @app.get("/", response_class=EventSourceResponse)
    async def items(session: str = fastapi.Depends(session)) -> AsyncIterable[str]:  # noqa: FAST002 -- as in FastAPI
        try:
            while True:
                yield session * 10_000  # fills the buffer, so that the generator waits at its `yield`
                await anyio.sleep(0 if waiting else 1)
        finally:
            with anyio.move_on_after(5, shield=True):
                await anyio.sleep(1)
            steps.append("cleaned up")

    async with open_test_stream(app) as stream:
        await stream.receive()
        if waiting:
            stream.stall()
            await anyio.sleep(1)
        stream.disconnect()
        await stream.wait_closed()
        assert steps == ["cleaned up", "session closed"]
    assert stream.close_reason is CloseReason.DISCONNECTED


async def test_fastapis_own_wrapper() -> None:
    """What FastAPI gives to the response class wraps the path operation's generator, and we find that one."""
    given: list[Any] = []

    class Response(EventSourceResponse):
        def __init__(self, content: Any, **options: Any) -> None:
            given.extend([content, without_wrapper(content)])
            super().__init__(content=content, **options)

    app = fastapi.FastAPI()

    @app.get("/", response_class=Response)
    async def items() -> AsyncIterable[str]:
        yield "one"

    assert await data_of(app) == ["one"]
    wrapper, inner = given
    assert (wrapper.__name__, inner.__name__) == ("_async_stream_raw", "items")


async def test_a_wrapper_that_isnt_known() -> None:
    """Any other generator stays as it is, also one of that name, and one that is over."""

    async def _async_stream_raw() -> AsyncGenerator[str, None]:
        yield "one"

    generator = _async_stream_raw()
    assert without_wrapper(generator) is generator
    await generator.aclose()
    assert without_wrapper(generator) is generator
    assert without_wrapper("text") == "text"


@pytest.mark.parametrize(("kind", "advice"), [("list", "`yield` its items"), ("dict", "`yield` it, ")])
async def test_a_path_operation_that_returns_its_items(app: fastapi.FastAPI, kind: str, advice: str) -> None:
    """A path operation that returns items instead of yielding them fails, and the error says to yield."""

    @app.get("/", response_class=EventSourceResponse)
    async def items() -> Any:
        return [Item(name="one")] if kind == "list" else {"name": "one"}

    with pytest.raises(TypeError, match=f"the source is a {kind}, which is not a stream; {advice}"):
        async with open_test_stream(app):
            pass


async def test_a_subclass_has_the_options(app: fastapi.FastAPI) -> None:
    """Options for all path operations of a kind go into a subclass."""
    group = StreamGroup()

    class Events(EventSourceResponse):
        def __init__(self, content: Any, **options: Any) -> None:
            super().__init__(content=content, **options, retry=500, group=group)

    @app.get("/", response_class=Events)
    async def items() -> AsyncIterable[str]:
        yield "one"

    async with open_test_stream(app) as stream:
        await stream.receive()
        assert stream.body == b"retry: 500\ndata: one\n\n"


@pytest.mark.usefixtures("real_clock")  # FastAPI calls the override in a thread
async def test_dependency_overrides(app: fastapi.FastAPI) -> None:
    """With the bridge as a middleware, the application is still FastAPI's: its overrides work."""

    async def user() -> str:
        raise fastapi.HTTPException(401)

    @app.get("/", response_class=EventSourceResponse)
    async def items(name: str = fastapi.Depends(user)) -> AsyncIterable[str]:  # noqa: FAST002 -- as in FastAPI
        yield name

    app.dependency_overrides[user] = lambda: "Ann"
    assert await data_of(app) == ["Ann"]


async def test_a_mounted_application_has_the_state_of_the_outermost() -> None:
    """The hub of the outermost lifespan is in the state of a mounted application, whose own lifespan does not run."""

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[dict[str, Hub]]:
        async with open_hub() as hub:
            yield {"hub": hub}

    outer, mounted = fastapi.FastAPI(lifespan=lifespan), fastapi.FastAPI(lifespan=lifespan)
    outer.mount("/mounted", mounted)

    @mounted.get("/news")
    async def news(request: fastapi.Request) -> EventSourceResponse:
        return EventSourceResponse(request.state.hub.subscribe("news"))

    async with open_test_stream(outer, "/mounted/news", lifespan=True) as stream:
        await stream.state["hub"].publish("news", "hello")
        assert (await stream.receive()).data == "hello"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"Unable to serialize unknown type: <class '.*EventReceiveChannel'>"),
        ({"response_model": None}, r"TypeError\(\"'EventReceiveChannel' object is not iterable\"\)"),
    ],
)
async def test_a_path_operation_that_returns_the_source(
    app: fastapi.FastAPI, options: dict[str, Any], words: str
) -> None:
    """FastAPI can't make JSON of a source that is returned by itself, and says so in the words of our documentation."""

    @app.get("/", **options)
    async def source() -> Any:
        send_channel, receive_channel = open_event_channel()
        send_channel.close()
        receive_channel.close()
        return receive_channel

    with pytest.raises(ValueError, match=words):
        async with open_test_stream(app):
            pass


async def test_the_response_parameter(app: fastapi.FastAPI) -> None:
    """What a dependency sets on FastAPI's response arrives; what a path operation with `yield` sets comes too late."""

    async def renew(response: fastapi.Response) -> None:
        response.set_cookie("session", "new")

    @app.get("/", response_class=EventSourceResponse, dependencies=[fastapi.Depends(renew)])
    async def items(response: fastapi.Response) -> AsyncIterable[str]:
        response.headers["late"] = "1"
        yield "one"

    async with open_test_stream(app) as stream:
        assert stream.headers["set-cookie"].startswith("session=new")
        assert "late" not in stream.headers
        assert (await stream.receive()).data == "one"
