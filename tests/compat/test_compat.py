# sse_trio.compat beside sse-starlette itself: the same scenarios through both, with the same outcome.
#
# Rule 1: what is meant the same is asserted once and run on both (`library`). What is not has a test of its own, in the
#         last two sections, and its line in docs/sse-starlette.md.
# Rule 2: sse-starlette replaces a method of uvicorn's server when it is imported. That is put back at once: other tests
#         of the process are to see uvicorn as it is.

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
import threading
from functools import partial
from types import ModuleType, SimpleNamespace

import anyio
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.background import BackgroundTask

import sse_trio
from sse_trio import CloseReason, StreamGroup, compat
from sse_trio.testing import open_test_stream

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def original():
    """sse-starlette, all of its names in one place; its flag is reset when the module's tests are done."""
    reason = "not applicable: sse-starlette 3.7 needs Python 3.11 and starlette 0.49.1"
    handle_exit = uvicorn.Server.handle_exit
    sse = pytest.importorskip("sse_starlette.sse", reason=reason)
    event = pytest.importorskip("sse_starlette.event", reason=reason)
    if "cleanup_timeout" not in inspect.signature(sse.EventSourceResponse).parameters:
        pytest.skip(reason)
    uvicorn.Server.handle_exit = handle_exit
    return SimpleNamespace(**{**vars(event), **vars(sse)})


@pytest.fixture(params=["sse_trio.compat", "sse_starlette"])
def library(request):
    """Each of the two."""
    return compat if request.param == "sse_trio.compat" else request.getfixturevalue("original")


class Closing:
    """An async iterator of these items that never ends, and takes `seconds` to close."""

    def __init__(self, *items, seconds=0.0):
        self.items = list(items)
        self.seconds = seconds
        self.closed = None

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.items:
            await anyio.sleep_forever()
        return self.items.pop(0)

    async def aclose(self):
        self.closed = "begun"
        await anyio.sleep(self.seconds)
        self.closed = "done"


async def generate(*items):
    for item in items:
        yield item


async def idle(log=None, *items):
    """Yield the items, wait for ever, and say when that was over."""
    try:
        for item in items:
            yield item
        await anyio.sleep_forever()
    finally:
        if log is not None:
            log.append("cleaned up")


def appending(log, item):
    """A background task that notes that it ran."""

    async def append():
        log.append(item)

    return BackgroundTask(append)


async def body_of(response):
    async with open_test_stream(response, bridge=False) as stream:
        await stream.wait_closed()
    return stream.body


# --- what it is called with


@pytest.mark.parametrize("name", ["EventSourceResponse", "ServerSentEvent", "JSONServerSentEvent", "ensure_bytes"])
def test_signature(original, name):
    """Every parameter has sse-starlette's name, place, kind and default."""

    def shape(thing):
        parameters = inspect.signature(thing).parameters.values()
        return [(each.name, each.kind, each.default) for each in parameters if each.name != "group"]

    assert shape(getattr(compat, name)) == shape(getattr(original, name))


def test_defaults_of_the_classes(original):
    """The defaults that a class says are sse-starlette's."""
    for owner, name in [
        ("EventSourceResponse", "DEFAULT_PING_INTERVAL"),
        ("EventSourceResponse", "DEFAULT_SEPARATOR"),
        ("EventSourceResponse", "DEFAULT_CLEANUP_TIMEOUT"),
        ("EventSourceResponse", "media_type"),
        ("ServerSentEvent", "DEFAULT_SEPARATOR"),
    ]:
        assert getattr(getattr(compat, owner), name) == getattr(getattr(original, owner), name)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"sep": "\n\n"}, ValueError),
        ({"ping": -1}, ValueError),
        ({"ping": "often"}, TypeError),
        ({"shutdown_grace_period": -1}, ValueError),
        ({"cleanup_timeout": -1}, ValueError),
    ],
)
def test_options_that_make_no_sense(library, options, error):
    """A value that sse-starlette refuses is refused with the same kind of error."""
    with pytest.raises(error):
        library.EventSourceResponse(generate(), **options)


def test_a_coroutine_is_no_content():
    """A coroutine in place of content, such as a call of an SDK that was not awaited, is refused with that advice."""
    with pytest.raises(TypeError, match="content must be an async iterable or an iterable: await the coroutine"):
        compat.EventSourceResponse(anyio.sleep(0))
    with pytest.raises(TypeError, match="an iterable: call the generator function"):
        compat.EventSourceResponse(generate)


def test_compression(library):
    """There is none, and asking for it says so."""
    with pytest.raises(NotImplementedError):
        library.EventSourceResponse(generate()).enable_compression()


# --- the wire

texts = st.none() | st.text(alphabet=st.sampled_from("a:\n\r \x85\u2028\0é"), max_size=6)
fields = st.fixed_dictionaries(
    {"event": texts, "id": texts, "comment": texts, "retry": st.none() | st.integers(0, 9)},
    optional={"data": texts | st.integers() | st.booleans() | st.lists(st.integers()) | st.binary(max_size=3)},
)
items = fields | texts | st.integers() | st.binary(max_size=5) | st.lists(st.text(max_size=2), max_size=2)
seps = st.sampled_from(["\n", "\r\n", "\r"])


@given(item=items, sep=seps)
def test_items_are_the_same_bytes(original, item, sep):
    """Whatever is yielded, it is the same on the wire."""
    assert compat.ensure_bytes(item, sep) == original.ensure_bytes(item, sep)


@given(fields=fields, sep=st.none() | seps)
def test_events_are_the_same_bytes(original, fields, sep):
    """An event is the same on the wire, and its own line end counts."""
    event, expected = (library.ServerSentEvent(**fields, sep=sep) for library in (compat, original))
    assert event.encode() == expected.encode() == compat.ensure_bytes(event, "\n")


@pytest.mark.parametrize("value", [None, {"a": [1, "é\u2028"]}, "line\nbreak", 1.5])
def test_json_events_are_the_same_bytes(original, value):
    """JSON is the same on the wire, and `None` is no data in both."""
    assert compat.JSONServerSentEvent(value, id="1").encode() == original.JSONServerSentEvent(value, id="1").encode()


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda library: library.ServerSentEvent("a", id=1).encode(), TypeError),
        (lambda library: library.ServerSentEvent("a", event=1).encode(), TypeError),
        (lambda library: library.ServerSentEvent("a", retry="1").encode(), TypeError),
        (lambda library: library.ServerSentEvent("\ud800").encode(), ValueError),
        (lambda library: library.JSONServerSentEvent(math.nan), ValueError),
        (lambda library: library.JSONServerSentEvent(object()), TypeError),
        (lambda library: library.ensure_bytes({"dat": "a"}, "\n"), TypeError),
    ],
)
def test_events_that_make_no_sense(library, make, error):
    """A value that sse-starlette refuses is refused with the same kind of error."""
    with pytest.raises(error):
        make(library)


def test_an_event_can_be_changed(library):
    """An event is encoded as it is when it is encoded."""
    event = library.ServerSentEvent("a")
    event.data, event.id = "b", "7"
    assert event.encode() == b"id: 7\r\ndata: b\r\n\r\n"


ITEMS = ("text", 5, {"data": {"a": 1}, "event": "dict", "id": "1"}, b": raw\n\n", memoryview(b""), None, {})
BODY = b"data: text\n\ndata: 5\n\nid: 1\nevent: dict\ndata: {'a': 1}\n\n: raw\n\ndata: None\n\n\n"


async def test_a_stream_is_the_same_bytes(library):
    """The items of an async generator, of every kind, are the same body."""
    event = library.ServerSentEvent("event", retry=9)
    body = await body_of(library.EventSourceResponse(generate(*ITEMS, event), sep="\n"))
    assert body == BODY + b"data: event\r\nretry: 9\r\n\r\n"


@pytest.mark.usefixtures("real_clock")
@pytest.mark.parametrize("make", [iter, list, lambda items: (item for item in items)])
async def test_a_sync_iterable_is_the_same_bytes(library, make):
    """A generator without `async`, an iterator or a list is iterated in worker threads, to the same body."""
    assert await body_of(library.EventSourceResponse(make(ITEMS), sep="\n")) == BODY


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"status_code": 201, "media_type": "text/x-events", "headers": {"X-Own": "1", "Cache-Control": "max-age=1"}},
        {"media_type": None, "headers": {"Connection": "close", "X-Accel-Buffering": "yes", "content-type": "a/b"}},
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_head_is_the_same(original, options, method):
    """Status and headers are the same, to their order, and a HEAD is answered without beginning the content."""
    messages = []
    for library in (original, compat):
        done = []
        background = appending(done, library)
        response = library.EventSourceResponse(generate("a"), background=background, **options)
        async with open_test_stream(response, method=method, bridge=False) as stream:
            await stream.wait_closed()
        assert done == [library]
        messages.append([stream.messages[0], stream.body])
    assert messages[0] == messages[1]
    assert messages[0][1] == (b"" if method == "HEAD" else b"data: a\r\n\r\n")


async def test_the_head_waits_for_nothing(library):
    """The head is sent before the first event, as in sse-starlette: what is raised after that can't change it."""

    async def content():
        raise ValueError("early")
        yield

    with pytest.raises(ValueError, match="early"):
        async with open_test_stream(library.EventSourceResponse(content()), bridge=False) as stream:
            assert stream.status_code == 200


# --- pings


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"ping": 1, "sep": "\n"}, rb"(: ping - \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+00:00\n\n){3}"),
        ({"ping": 1.0}, rb"(: ping - [^\r\n]+\r\n\r\n){3}"),
        ({"ping": 0}, rb""),
        ({"ping": 1, "ping_message_factory": lambda: "a", "sep": "\n"}, rb"(data: a\n\n){3}"),
        ({"ping": 1, "ping_message_factory": lambda: compat.ensure_bytes({"comment": "x"}, "\r")}, rb"(: x\r\r){3}"),
        ({}, rb""),
    ],
)
async def test_pings(library, options, expected):
    """In silence pings are the same, in form and number: a comment with the time, or what the factory returns."""
    async with open_test_stream(library.EventSourceResponse(idle(), **options), bridge=False) as stream:
        await anyio.sleep(3.5)
        assert re.fullmatch(expected, stream.body)
        stream.disconnect()


async def test_the_ping_interval_can_be_set(library):
    """Until the response is called, `ping_interval` and the defaults of a subclass count."""

    class Response(library.EventSourceResponse):
        DEFAULT_PING_INTERVAL = 2
        DEFAULT_SEPARATOR = "\n"

    response = Response(idle())
    assert response.ping_interval == 2
    response.ping_interval = 1
    with pytest.raises(TypeError):
        response.ping_interval = "1"
    async with open_test_stream(response, bridge=False) as stream:
        await anyio.sleep(1.5)
        assert re.fullmatch(rb": ping [^\n]+\n\n", stream.body)
        stream.disconnect()


# --- how it ends


async def test_a_client_that_leaves(library):
    """The content is cancelled and cleaned up, the handler gets the message, the background task runs."""
    log = []

    async def closed(message):
        log.append(message)

    response = library.EventSourceResponse(
        idle(log, "a"),
        client_close_handler_callable=closed,
        background=appending(log, "background"),
    )
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        assert response.active
        stream.disconnect()
        await stream.wait_closed()
    assert not response.active
    assert {"type": "http.disconnect"} in log
    assert "cleaned up" in log
    assert log[-1] == "background"


async def test_content_that_fails(library):
    """Items yielded before arrive; the exception is raised bare; the background task doesn't run."""
    ran = []

    async def content():
        yield "a"
        raise ValueError("broken")

    response = library.EventSourceResponse(content(), background=appending(ran, 1), sep="\n")
    with pytest.raises(ValueError, match="broken"):
        async with open_test_stream(response, bridge=False) as stream:
            await stream.wait_closed()
    assert stream.body == b"data: a\n\n"
    assert stream.messages[-1]["more_body"]
    assert not ran


class Unprintable:
    def __str__(self):
        raise ValueError("no text")


async def test_an_item_that_can_not_be_encoded(library):
    """The content is closed, shielded, before the error is raised."""
    content = Closing(Unprintable(), seconds=1.0)
    with pytest.raises(ValueError, match="no text"):
        await body_of(library.EventSourceResponse(content))
    assert content.closed == "done"


async def test_cleanup_timeout(library, caplog):
    """A cleanup that takes longer is cancelled, and a warning says so."""
    content = Closing(Unprintable(), seconds=60.0)
    with pytest.raises(ValueError, match="no text"):
        await body_of(library.EventSourceResponse(content, cleanup_timeout=2.0))
    assert content.closed == "begun"
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("bridge", [False, True], ids=["unknown server", "behind ServerBridge"])
async def test_send_timeout(library, bridge):
    """A client that takes nothing makes it raise SendTimeoutError, a TimeoutError, and the content is cleaned up."""
    log = []
    # More than a buffer full, so that either of them is in the midst of an item.
    response = library.EventSourceResponse(idle(log, *["x" * 1000] * 100), send_timeout=2.0)
    with pytest.raises(library.SendTimeoutError) as caught:
        async with open_test_stream(response, bridge=bridge) as stream:
            stream.stall()
            await stream.wait_closed()
    assert isinstance(caught.value, TimeoutError)
    assert log == ["cleaned up"]


async def test_data_sender(library):
    """It runs beside the content, and its end isn't that of the stream."""
    send_stream, receive_stream = anyio.create_memory_object_stream(0)

    async def send_data():
        async with send_stream:
            for number in range(3):
                await send_stream.send({"data": number})

    async with receive_stream:
        response = library.EventSourceResponse(receive_stream, data_sender_callable=send_data, sep="\n")
        body = await body_of(response)
    assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"


async def test_a_data_sender_goes_with_the_content(library):
    """It is cancelled when the content is at its end."""
    log = []

    async def send_data():
        try:
            await anyio.sleep_forever()
        finally:
            log.append("cancelled")

    async def content():
        yield "a"
        await anyio.sleep(1)

    response = library.EventSourceResponse(content(), data_sender_callable=send_data)
    assert await body_of(response) == b"data: a\r\n\r\n"
    assert log == ["cancelled"]


@pytest.mark.parametrize("where", ["content", "data sender"])
async def test_a_stray_cancellation_is_a_failure(where):
    """A stray cancellation, of a future for example, is not dropped by the nursery of content and data sender."""

    async def fail():
        raise anyio.get_cancelled_exc_class()() if anyio_is_asyncio() else await stray()

    async def stray():
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.sleep(1)
            except anyio.get_cancelled_exc_class() as exc:
                cancellation = exc
        return cancellation

    def anyio_is_asyncio():
        return anyio.get_cancelled_exc_class().__module__.startswith("asyncio")

    async def content():
        yield "a"
        await (fail() if where == "content" else anyio.sleep_forever())

    async def send_data():
        await (anyio.sleep_forever() if where == "content" else fail())

    with pytest.raises(RuntimeError, match="was not requested"):
        await body_of(compat.EventSourceResponse(content(), data_sender_callable=send_data))


async def test_a_data_sender_that_fails(library):
    """Its exception is raised bare, and the content is cleaned up."""
    log = []

    async def send_data():
        await anyio.sleep(1)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await body_of(library.EventSourceResponse(idle(log, "a"), data_sender_callable=send_data))
    assert log == ["cleaned up"]


def in_a_nursery(error):
    """A coroutine function that raises the error in a nursery of its own, which makes a group of it."""

    async def fail():
        async with anyio.create_task_group(), anyio.create_task_group():
            raise error

    return fail


@pytest.mark.parametrize("where", ["content", "data sender"])
async def test_an_error_in_a_nursery(library, where):
    """One error is raised bare, out of whichever nurseries of the application it comes."""
    fail = in_a_nursery(ValueError("broken"))

    async def content():
        yield "a"
        await fail()

    options = {} if where == "content" else {"data_sender_callable": fail}
    with pytest.raises(ValueError, match="broken"):
        await body_of(library.EventSourceResponse(content() if where == "content" else idle(), **options))


@pytest.fixture
def shut_down(library, anyio_backend_name, monkeypatch):
    """Say that the server goes, as applications do."""
    if library is compat:
        return partial(setattr, compat.AppStatus, "should_exit", True)
    if anyio_backend_name == "trio":
        pytest.skip("not applicable: sse-starlette's watcher is an asyncio task")
    return partial(monkeypatch.setattr, library.AppStatus, "should_exit", True)


async def test_should_exit(library, shut_down):
    """`AppStatus.should_exit = True` cancels the content of every stream, and sets its event."""
    log, event = [], anyio.Event()
    response = library.EventSourceResponse(idle(log, "a"), shutdown_event=event)
    assert not library.AppStatus.should_exit
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        shut_down()
        assert library.AppStatus.should_exit
        await stream.wait_closed()
    assert event.is_set()
    assert log == ["cleaned up"]


@pytest.mark.parametrize(("seconds", "outcome"), [(1.0, "goodbye"), (60.0, "cancelled")])
async def test_shutdown_grace_period(library, shut_down, seconds, outcome):
    """The event is set first, and content that ends within the grace period ends normally."""
    event = anyio.Event()

    async def content():
        yield "a"
        await event.wait()
        await anyio.sleep(seconds)
        yield "goodbye"

    response = library.EventSourceResponse(content(), shutdown_event=event, shutdown_grace_period=5.0, sep="\n")
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        began = anyio.current_time()
        shut_down()
        await stream.wait_closed()
        assert anyio.current_time() - began < 7.0
    assert stream.body == (b"data: a\n\ndata: goodbye\n\n" if outcome == "goodbye" else b"data: a\n\n")


@pytest.mark.parametrize("options", [{"shutdown_grace_period": 60.0}, {"shutdown_event": None}])
async def test_a_client_that_leaves_has_no_grace_period(library, options):
    """Content is cancelled at once when its client has left: the grace period is for a shutdown."""
    log, event = [], anyio.Event()
    response = library.EventSourceResponse(idle(log, "a"), **{"shutdown_event": event, **options})
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        began = anyio.current_time()
        stream.disconnect()
        await stream.wait_closed()
        assert anyio.current_time() - began < 1.0
    assert log == ["cleaned up"]
    assert not event.is_set()


# --- what is not the same: each has its line in docs/sse-starlette.md


async def test_ping_is_silence():
    """Events make a ping needless."""

    async def content():
        for _ in range(5):
            await anyio.sleep(0.6)
            yield "a"

    assert b"ping" not in await body_of(compat.EventSourceResponse(content(), ping=1))


async def test_the_last_chunk_at_a_shutdown():
    """A shutdown ends the body in order."""
    async with open_test_stream(compat.EventSourceResponse(idle(None, "a")), bridge=False) as stream:
        await stream.receive()
        compat.AppStatus.should_exit = True
        await stream.wait_closed()
    assert stream.messages[-1] == {"type": "http.response.body", "body": b"", "more_body": False}
    assert stream.close_reason is CloseReason.SHUTDOWN


async def test_what_is_closed():
    """The iterable, and what it is iterated by, are closed however the stream ends."""
    iterator = Closing("a", seconds=60.0)

    class Iterable(Closing):
        def __aiter__(self):
            return iterator

    iterable = Iterable()
    response = compat.EventSourceResponse(iterable, cleanup_timeout=None)
    async with open_test_stream(response, bridge=False, close_within=100.0) as stream:
        await stream.receive()
        stream.disconnect()
        await stream.wait_closed()
    assert (iterator.closed, iterable.closed) == ("done", "done")


async def test_an_iterable_that_can_not_be_closed():
    """Not every async iterable has an `aclose()`."""

    class Countdown:
        left = 2

        def __aiter__(self):
            return self

        async def __anext__(self):
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    assert await body_of(compat.EventSourceResponse(Countdown(), sep="\n")) == b"data: 1\n\ndata: 0\n\n"


async def test_no_client_has_left():
    """The handler isn't called for other endings, though a server says http.disconnect after the last chunk, too."""
    messages = []

    async def closed(message):
        messages.append(message)

    assert await body_of(compat.EventSourceResponse(generate("a"), client_close_handler_callable=closed))
    assert not messages


async def test_a_client_that_send_finds_gone():
    """A client that left is not an error."""
    messages = []

    async def closed(message):
        messages.append(message)

    async def content():
        yield "a"
        await anyio.sleep(1)
        yield "b"

    response = compat.EventSourceResponse(content(), client_close_handler_callable=closed)
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        stream.fail_send(OSError("gone"))
        await stream.wait_closed()
    assert messages == [{"type": "http.disconnect"}]


async def test_a_client_that_leaves_in_the_grace_period():
    """The next item finds it gone, and the content is closed: it isn't cancelled before the period is over."""
    log, event = [], anyio.Event()

    async def content():
        try:
            yield "a"
            await event.wait()
            await anyio.sleep(2)
            log.append("goes on")
            yield "b"
            log.append("never")
        finally:
            log.append("cleaned up")

    response = compat.EventSourceResponse(content(), shutdown_event=event, shutdown_grace_period=5)
    async with open_test_stream(response, bridge=False) as stream:
        await stream.receive()
        compat.AppStatus.should_exit = True
        await anyio.sleep(0.1)
        stream.disconnect()
        await stream.wait_closed()
    assert log == ["goes on", "cleaned up"]


@pytest.mark.parametrize(("version", "is_there"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)])
async def test_connection_header(version, is_there):
    """HTTP/2 and HTTP/3 forbid a Connection header, so there it is left out."""
    response = compat.EventSourceResponse(generate("a"))

    async def app(scope, receive, send):
        await response({**scope, "http_version": version}, receive, send)

    async with open_test_stream(app, bridge=False) as stream:
        await stream.wait_closed()
    assert ("connection" in stream.headers) is is_there


# --- what sse-starlette has not


async def test_events_of_this_library():
    """Content may yield sse_trio's own events, sent with the response's line end, and so may a ping's factory."""
    event = sse_trio.ServerSentEvent("a", id="1")
    response = compat.EventSourceResponse(idle(None, event), ping=1, ping_message_factory=lambda: event)
    async with open_test_stream(response, bridge=False) as stream:
        await anyio.sleep(1.5)
        assert stream.body == b"id: 1\r\ndata: a\r\n\r\n" * 2
        stream.disconnect()


async def test_events_of_sse_starlette(original):
    """Content may yield events of sse-starlette itself, so the modules of an application can be moved one by one."""

    class Price(original.ServerSentEvent):
        """An event of an application's own."""

    events = [
        original.ServerSentEvent("a", event="tick"),
        original.JSONServerSentEvent({"a": 1}, sep="\n"),
        Price("9.5"),
    ]
    response = compat.EventSourceResponse(generate(*events), ping=1, ping_message_factory=lambda: events[0])
    assert await body_of(response) == b"".join(event.encode() for event in events)


async def test_a_group():
    """A stream with its own group is not one of AppStatus's, and ends with its group, in its own line ends."""
    group = StreamGroup(farewell=sse_trio.ServerSentEvent("goodbye"))
    async with open_test_stream(compat.EventSourceResponse(idle(None, "a"), group=group), bridge=False) as stream:
        await stream.receive()
        compat.AppStatus.should_exit = True
        await anyio.sleep(1)
        assert not stream.is_closed
        assert group.statistics().open_streams == 1
        group.request_shutdown()
        await stream.wait_closed()
    assert stream.body == b"data: a\r\n\r\ndata: goodbye\r\n\r\n"
    assert stream.close_reason is CloseReason.SHUTDOWN


async def test_app_status_begins_anew():
    """No shutdown is left over from another event loop."""
    assert not compat.AppStatus.should_exit
    compat.AppStatus.handle_exit(15, None)
    assert compat.AppStatus.should_exit


async def test_streams_open_again_after_false():
    """`should_exit = False`, as in fixtures, lets streams open again; those that were told end all the same."""
    async with open_test_stream(compat.EventSourceResponse(idle(None, "a")), bridge=False) as first:
        await first.receive()
        compat.AppStatus.should_exit = True
        compat.AppStatus.should_exit = False
        assert not compat.AppStatus.should_exit
        await first.wait_closed()
    assert first.close_reason is CloseReason.SHUTDOWN
    async with open_test_stream(compat.EventSourceResponse(idle(None, "a")), bridge=False) as second:
        await second.receive()
        await anyio.sleep(1)
        assert not second.is_closed
        compat.AppStatus.should_exit = True
        await second.wait_closed()
    assert second.close_reason is CloseReason.SHUTDOWN


async def test_streams_open_again_after_an_idle_shutdown():
    """`should_exit = False` takes a shutdown back that no stream was there to hear of."""
    compat.AppStatus.should_exit = True
    await anyio.sleep(1)
    compat.AppStatus.should_exit = False
    await anyio.sleep(1)
    assert await body_of(compat.EventSourceResponse(generate("a"), sep="\n")) == b"data: a\n\n"


@pytest.mark.usefixtures("real_clock")
async def test_app_status_in_a_thread_of_ones_own():
    """Set in any thread, it ends the streams of the loops in which one was opened, and is seen there meanwhile."""
    seen = []

    def set_and_look():
        seen.append(compat.AppStatus.should_exit)
        compat.AppStatus.should_exit = True
        seen.append(compat.AppStatus.should_exit)

    async with open_test_stream(compat.EventSourceResponse(idle(None, "a")), bridge=False) as stream:
        await stream.receive()
        thread = threading.Thread(target=set_and_look)
        thread.start()
        thread.join()  # the loop stands still, so that the stream is there
        await stream.wait_closed()
    assert stream.close_reason is CloseReason.SHUTDOWN
    assert seen == [False, True]


@pytest.mark.usefixtures("real_clock")
async def test_app_status_in_a_worker_thread():
    """A generator without `async` may look at it."""

    def look():
        before = compat.AppStatus.should_exit
        compat.AppStatus.should_exit = True
        return before, compat.AppStatus.should_exit

    assert await anyio.to_thread.run_sync(look) == (False, True)


@pytest.mark.parametrize("anyio_backend", [None])
def test_fixtures_of_applications(library, anyio_backend, monkeypatch):
    """Fixtures may assign these attributes before and after a test, without an event loop."""
    status = library.AppStatus
    monkeypatch.setattr(status, "should_exit", status.should_exit)
    monkeypatch.setattr(status, "should_exit_event", object(), raising=False)
    monkeypatch.setattr(status, "original_handler", None)
    status.should_exit = False
    status.should_exit_event = None
    status.enable_automatic_graceful_drain = True
    status.enable_automatic_graceful_drain_mode()
    assert status.enable_automatic_graceful_drain is True
    status.should_exit = True


@pytest.mark.parametrize("anyio_backend", [None])
def test_nothing_is_left_of_a_fixture(anyio_backend):
    """A flag that was set where no stream can hear of it is not there for a server that starts later."""
    compat.AppStatus.should_exit = True
    assert not compat.AppStatus.should_exit
    assert anyio.run(body_of, compat.EventSourceResponse(generate("a"), sep="\n")) == b"data: a\n\n"


@pytest.mark.parametrize("anyio_backend", [None])
def test_what_app_status_refuses(anyio_backend):
    """A setting that would affect the whole process is an error that says what to write instead."""
    with pytest.raises(NotImplementedError, match=r"StreamGroup\(signals=False\)"):
        compat.AppStatus.disable_automatic_graceful_drain()
    with pytest.raises(NotImplementedError, match=r"StreamGroup\(signals=False\)"):
        compat.AppStatus.enable_automatic_graceful_drain = False
    with pytest.raises(NotImplementedError, match="nothing was replaced here"):
        compat.AppStatus.original_handler = print
    assert compat.AppStatus.original_handler is compat.AppStatus.should_exit_event is None


# --- in the place of sse-starlette

IMPORTS = """
from sse_starlette import EventSourceResponse, JSONServerSentEvent, ServerSentEvent, __version__, event, sse
from sse_starlette.event import JSONServerSentEvent, ServerSentEvent, ensure_bytes
from sse_starlette.sse import AppStatus, EventSourceResponse, SendTimeoutError, ServerSentEvent, ensure_bytes
from sse_starlette.sse import AsyncContentStream, Content, ContentStream, SyncContentStream
import importlib.util, sse_starlette, sse_starlette.event, sse_starlette.sse
assert importlib.util.find_spec("sse_starlette") and importlib.util.find_spec("sse_starlette.sse")
assert sse_starlette.__version__.startswith("3.")
assert sse.SendTimeoutError is SendTimeoutError and sse_starlette.EventSourceResponse is EventSourceResponse
assert set(sse_starlette.__all__) == {"EventSourceResponse", "ServerSentEvent", "JSONServerSentEvent"}
"""
INSTALL = "import sse_trio.compat\nsse_trio.compat.install()\nsse_trio.compat.install()\n"


def run_python(program):
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.mark.parametrize("anyio_backend", [None])
@pytest.mark.parametrize("first", ["", INSTALL], ids=["sse_starlette", "sse_trio.compat"])
def test_imports(first, anyio_backend, request):
    """After install() every public import of sse-starlette's finds the adapter, and is one of sse-starlette's."""
    if not first:
        request.getfixturevalue("original")
    whose = f"assert EventSourceResponse.__module__.startswith({'sse_trio' if first else 'sse_starlette'!r})"
    assert run_python(first + IMPORTS + whose) == (0, "")


@pytest.mark.parametrize("anyio_backend", [None])
def test_install(anyio_backend, monkeypatch):
    """It takes the place of a package that was not imported yet, once, and never of one that was."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "sse_starlette"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    compat.install()
    installed = sys.modules["sse_starlette"]
    assert installed.EventSourceResponse is compat.EventSourceResponse
    assert installed.sse.AppStatus is sys.modules["sse_starlette.sse"].AppStatus is compat.AppStatus
    assert installed.event.ensure_bytes is sys.modules["sse_starlette.event"].ensure_bytes is compat.ensure_bytes
    compat.install()
    assert sys.modules["sse_starlette"] is installed
    sys.modules["sse_starlette"] = ModuleType("sse_starlette")
    with pytest.raises(RuntimeError, match="imported before"):
        compat.install()


@pytest.mark.parametrize("anyio_backend", [None])
@pytest.mark.parametrize(
    ("program", "error"),
    [
        (INSTALL + "import sse_starlette.nothing", "ModuleNotFoundError"),
        (INSTALL + "from sse_starlette.sse import _ping", "ImportError"),
        (
            "import sys; sys.modules['sse_starlette.event'] = sys\n" + INSTALL,
            "RuntimeError: sse_starlette was imported before",
        ),
    ],
)
def test_imports_that_can_not_be_had(program, error, anyio_backend):
    """A name that the adapter has not, and an install() that comes too late, are errors."""
    code, stderr = run_python(program)
    assert (code, error in stderr) == (1, True), stderr


# --- HEAD


@pytest.mark.parametrize("stalled", ["http.response.start", "http.response.body"])
async def test_send_timeout_on_head(library, stalled):
    """The answer to a HEAD is bounded, too."""

    async def send(message):
        if message["type"] == stalled:
            await anyio.sleep_forever()

    response = library.EventSourceResponse(generate("a"), send_timeout=2.0)
    with anyio.fail_after(10), pytest.raises(library.SendTimeoutError):
        await response({"type": "http", "method": "HEAD", "headers": []}, anyio.sleep_forever, send)


async def test_head_in_small_letters(library):
    """A method in small letters, as some clients in tests have it, is the same."""
    async with open_test_stream(library.EventSourceResponse(idle()), method="head", bridge=False) as stream:
        await stream.wait_closed()
    assert [message.get("more_body") for message in stream.messages] == [None, False]


async def test_messages_before_the_first_event(library):
    """No message but the head comes before the first event: who reads messages takes the first body for it."""

    async def content():
        await anyio.sleep(1)
        yield b"data: a\n\n"

    async with open_test_stream(library.EventSourceResponse(content()), bridge=False) as stream:
        await stream.receive()
        assert [message.get("body") for message in stream.messages] == [None, b"data: a\n\n"]


def test_what_the_adapter_shows_of_itself():
    """A repr() of a response says what it streams, that of an event has its fields."""
    response = compat.EventSourceResponse([], ping=5)
    assert re.fullmatch(r"<EventSourceResponse: 200, <async_generator .*>, ping=5>", repr(response))
    assert repr(compat.ServerSentEvent("x", id="7", sep="\n")) == "ServerSentEvent(data='x', id='7')"
    assert repr(compat.JSONServerSentEvent({"a": 1})) == """JSONServerSentEvent(data='{"a":1}')"""
