"""Compressed streams: what is negotiated and said in headers, and what a client decodes when."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.routing import Route

from sse_trio import EventSourceResponse, ServerSentEvent, StreamGroup, open_event_channel, open_hub
from sse_trio.client import open_event_source
from sse_trio.testing import StreamingASGITransport, wait_all_tasks_blocked

from ..servers._fake_connection import FakeConnection
from ..wire._decoders import DECODERS

pytestmark = pytest.mark.anyio

ALL = ("zstd", "br", "gzip")
PING = b": ping\n"


async def produce(send_channel, *events):
    """Send events, and return."""
    for event in events:
        await send_channel.send(event)


class Request:
    """A request, by hand: its scope, and the messages of the response."""

    def __init__(self, accept_encoding=None, *, method="GET", cache_control=None, connection=None):
        headers = {"accept-encoding": accept_encoding, "cache-control": cache_control}
        self.scope = {
            "type": "http",
            "method": method,
            "path": "/",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items() if value is not None],
        }
        if connection is not None:
            self.scope["extensions"] = {"sse_trio": {"connection": connection}}
        self.connection = connection
        self.messages = []
        self.left = anyio.Event()

    async def receive(self):
        if self.connection is not None:
            return await self.connection.receive()
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if self.connection is not None:
            await self.connection.send(message)
        self.messages.append(message)

    async def serve(self, response):
        await response(self.scope, self.receive, self.send)
        return self

    @property
    def headers(self):
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def bodies(self):
        return [message["body"] for message in self.messages[1:]]


async def headers_of(response, *args, **options):
    return (await Request(*args, **options).serve(response)).headers


# --- what is negotiated


async def test_nobody_else_compresses_a_stream():
    """Without compress=, the head tells proxies not to compress the stream, which would delay events; headers= win."""
    for accept_encoding in (None, "gzip"):
        headers = await headers_of(EventSourceResponse(produce, "a"), accept_encoding)
        assert headers["cache-control"] == "no-store, no-transform"
        headers = await headers_of(EventSourceResponse(produce, "a", compress=ALL), accept_encoding)
        assert headers["cache-control"] == "no-store"
        for compress in (None, ALL):
            options = {"headers": {"x-own": "1"}, "compress": compress}
            headers = await headers_of(EventSourceResponse(produce, "a", **options), accept_encoding)
            assert headers["cache-control"] == ("no-store" if compress else "no-store, no-transform")
            options = {"headers": {"CACHE-CONTROL": "max-age=1"}, "compress": compress}
            headers = await headers_of(EventSourceResponse(produce, "a", **options), accept_encoding)
            assert headers["cache-control"] == "max-age=1"


@pytest.mark.parametrize(
    ("accept_encoding", "coding"), [("gzip, br, zstd", "zstd"), ("gzip, br", "br"), ("gzip", "gzip")]
)
async def test_a_client_gets_the_first_coding_that_it_accepts(accept_encoding, coding):
    """The server's order decides among the codings that a client likes as much, and both headers say so."""
    request = await Request(accept_encoding).serve(EventSourceResponse(produce, "a", "b", compress=ALL))
    assert request.headers["content-encoding"] == coding
    assert request.headers["vary"] == "Accept-Encoding"
    decoder = DECODERS[coding]()
    assert b"".join(map(decoder.decode, request.bodies)) == b"data: a\n\ndata: b\n\n"
    assert decoder.is_whole
    assert request.messages[-1]["more_body"] is False


@pytest.mark.parametrize("accept_encoding", [None, "", "identity", "deflate", "zstd;q=0, br;q=0, gzip;q=0"])
async def test_identity_varies_too(accept_encoding):
    """A client that accepts none of the codings gets text, and Vary tells caches that others may not."""
    request = await Request(accept_encoding).serve(EventSourceResponse(produce, "a", compress=ALL))
    assert "content-encoding" not in request.headers
    assert request.headers["vary"] == "Accept-Encoding"
    assert b"".join(request.bodies) == b"data: a\n\n"


@pytest.mark.parametrize("options", [{}, {"compress": None}, {"compress": ()}])
async def test_it_is_off_by_default(options):
    """Without compress=, or with none to offer, no header mentions it."""
    headers = await headers_of(EventSourceResponse(produce, "a", **options), "gzip, br, zstd")
    assert {"content-encoding", "vary"}.isdisjoint(headers)


async def test_no_transform_of_the_response():
    """A response with no-transform is not compressed for any client, so it doesn't vary either."""
    response = EventSourceResponse(produce, "a", compress=ALL, headers={"Cache-Control": "no-store, no-transform"})
    headers = await headers_of(response, "gzip")
    assert {"content-encoding", "vary"}.isdisjoint(headers)


async def test_no_transform_of_the_request():
    """A request that says no-transform gets text."""
    response = EventSourceResponse(produce, "a", compress=ALL)
    headers = await headers_of(response, "gzip", cache_control="no-transform")
    assert "content-encoding" not in headers
    assert headers["vary"] == "Accept-Encoding"


async def test_a_coding_of_the_applications_own():
    """A body that is already encoded is left alone."""
    response = EventSourceResponse(produce, "a", compress=ALL, headers={"Content-Encoding": "aes128gcm"})
    headers = await headers_of(response, "gzip")
    assert headers["content-encoding"] == "aes128gcm"
    assert "vary" not in headers


async def test_vary_is_added_to():
    """Other headers that a response varies on stay."""
    response = EventSourceResponse(produce, "a", compress=ALL, headers={"Vary": "Cookie"})
    assert (await headers_of(response, "gzip"))["vary"] == "Cookie, Accept-Encoding"


async def test_head():
    """HEAD is answered with the same headers, and not a byte of any coding."""
    request = await Request("gzip", method="HEAD").serve(EventSourceResponse(produce, "a", compress=ALL))
    assert request.headers["content-encoding"] == "gzip"
    assert request.bodies == [b""]


async def test_middlewares_of_starlette():
    """CORS adds to `Vary`, and the middleware that compresses responses leaves one alone that is compressed."""

    async def endpoint(_):
        return EventSourceResponse(produce, "a", compress=ALL)

    middleware = [Middleware(CORSMiddleware, allow_origins=["https://x"]), Middleware(GZipMiddleware, minimum_size=1)]
    app = Starlette(routes=[Route("/", endpoint)], middleware=middleware)
    async with httpx.AsyncClient(transport=StreamingASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/", headers={"origin": "https://x", "accept-encoding": "gzip"})
        assert answer.text == "data: a\n\n"
        assert answer.headers.get_list("content-encoding") == ["gzip"]
        assert answer.headers["vary"].split(", ") == ["Accept-Encoding", "Origin"]


# --- what is decodable when


@pytest.fixture(params=["producer", "subscription"])
def source_kind(request):
    return request.param


@asynccontextmanager
async def opened(source_kind, **options):
    """A response of the kind, what sends an event to it, and what ends it."""
    if source_kind == "producer":
        send_channel, receive_channel = open_event_channel()
        with send_channel:
            yield EventSourceResponse(receive_channel, **options), send_channel.send, send_channel.close
    else:
        async with open_hub() as hub:

            async def publish(event):
                await hub.publish("a", event)

            yield EventSourceResponse(hub.subscribe("a"), **options), publish, hub._state.close


def expected(source_kind, text):
    return {"producer": f"data: {text}\n\n", "subscription": f"\ndata: {text}\n\n"}[source_kind].encode()


class Wire:
    """What a client has decoded so far of what was written to its connection."""

    def __init__(self, coding, connection):
        self.connection = connection
        self.decoder = DECODERS[coding]()
        self._text = b""
        self._seen = 0

    @property
    def text(self):
        body, _ = self.connection.body()
        self._text += self.decoder.decode(body[self._seen :])
        self._seen = len(body)
        return self._text


@pytest.mark.parametrize("is_express", [False, True])
@pytest.mark.parametrize("coding", ALL)
async def test_every_write_is_decodable_at_once(coding, is_express, source_kind):
    """The head goes before any event; each event and each ping can be read when it is sent, by direct writes too."""
    connection = FakeConnection(express=is_express)
    request, wire = Request(coding, connection=connection), Wire(coding, connection)
    async with (
        opened(source_kind, compress=(coding,), ping=10, retry=7) as (response, send, end),
        anyio.create_task_group() as nursery,
    ):
        nursery.start_soon(request.serve, response)
        await anyio.sleep(1)
        assert request.headers["content-encoding"] == coding
        assert wire.text.startswith(b"retry: 7\n")
        for n in range(5):
            await send(f"event {n}")
            await wait_all_tasks_blocked()
            assert wire.text.endswith(expected(source_kind, f"event {n}"))
            await anyio.sleep(11 if n == 2 else 0.1)
            assert wire.text.endswith(PING) is (n == 2)
        end()
    assert wire.text.endswith(b"event 4\n\n")
    assert wire.decoder.is_whole
    assert connection.body()[1]
    assert bool(connection.direct_writes) is is_express


@pytest.mark.parametrize("coding", ALL)
async def test_what_the_lane_refuses_is_sent_as_it_was_encoded(coding, source_kind):
    """A piece of which the socket takes a part only is finished by `send`, and encoded once."""
    connection = FakeConnection()
    request, wire = Request(coding, connection=connection), Wire(coding, connection)
    async with (
        opened(source_kind, compress=(coding,)) as (response, send, _),
        anyio.create_task_group() as nursery,
    ):
        nursery.start_soon(request.serve, response)
        await anyio.sleep(1)
        for n in range(8):
            connection.room = n % 4 * 3
            await send(f"event {n}")
            await wait_all_tasks_blocked()
            connection.change(room=1000)
            await anyio.sleep(0.1)
            assert wire.text.endswith(expected(source_kind, f"event {n}"))
        connection.change(is_gone=True)
    assert connection.direct_writes


async def test_bytes_are_those_that_are_sent(source_kind):
    """Statistics count the bytes on the wire, and those still to be written as the text that they are."""
    group = StreamGroup()
    async with opened(source_kind, compress=ALL, group=group) as (response, send, end):
        request = Request("gzip")
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(request.serve, response)
            await wait_all_tasks_blocked()
            for _ in range(50):
                await send("the same text again and again")
                await wait_all_tasks_blocked()
            (stream,) = group.streams()
            assert stream.written_events == 50
            assert stream.written_bytes == sum(map(len, request.bodies)) < 50 * 30
            end()
        assert group.statistics().written_bytes == sum(map(len, request.bodies))


@pytest.mark.parametrize("coding", ALL)
async def test_a_stream_that_fails_is_no_whole_one(coding):
    """After a failure the stream has no end in its coding either; what was said of it is readable."""

    async def fail(send_channel):
        await send_channel.send("event")
        await anyio.sleep(1)
        raise ValueError

    response = EventSourceResponse(fail, compress=ALL, on_error=lambda _: ServerSentEvent("sorry"))
    request = Request(coding)
    with pytest.raises(ValueError, match="^$"):
        await request.serve(response)
    decoder = DECODERS[coding]()
    assert b"".join(map(decoder.decode, request.bodies)) == b"data: event\n\ndata: sorry\n\n"
    assert not decoder.is_whole


@pytest.mark.parametrize("coding", ALL)
async def test_a_stream_that_ends_before_an_event(coding):
    """A stream without an event is whole, with nothing in it."""
    request = await Request(coding).serve(EventSourceResponse(produce, compress=ALL))
    decoder = DECODERS[coding]()
    assert b"".join(map(decoder.decode, request.bodies)) == b""
    assert decoder.is_whole


# --- the subscribers of a hub


class Subscriber(Request):
    """A request whose body is decoded as it comes."""

    def __init__(self, coding, response):
        super().__init__(coding)
        self.decoder = DECODERS[coding]()
        self.response = response
        self.text = b""

    async def send(self, message):
        await super().send(message)
        self.text += self.decoder.decode(message.get("body", b""))

    def events(self):
        lines = self.text.decode().split("\n")
        return [int(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("coding", ["zstd", "gzip"])
async def test_a_batch_is_compressed_once(coding):
    """Subscribers of the same topics are sent the same object."""
    async with open_hub() as hub, anyio.create_task_group() as nursery:
        responses = [EventSourceResponse(hub.subscribe("a"), compress=ALL) for _ in range(4)]
        subscribers = [Subscriber(coding, response) for response in responses]
        for subscriber in subscribers:
            nursery.start_soon(subscriber.serve, subscriber.response)
        await wait_all_tasks_blocked()
        for n in range(10):
            await hub.publish("a", str(n))
            await wait_all_tasks_blocked()
            assert [subscriber.events() for subscriber in subscribers] == [[*range(n + 1)]] * 4
            last = {id(subscriber.bodies[-1]) for subscriber in subscribers}
            assert len(last) == 1 or not n
        hub._state.close()
    assert all(subscriber.decoder.is_whole for subscriber in subscribers)


@pytest.mark.parametrize("options", [{"sep": "\r\n"}, {"filter": lambda topic, event: True}])
async def test_what_is_made_for_one_has_a_memory_of_its_own(options):
    """A subscriber with a filter or another line end gets its own bytes, compressed as well."""
    async with open_hub() as hub, anyio.create_task_group() as nursery:
        subscription = hub.subscribe("a", filter=options.pop("filter", None))
        request = Request("gzip")
        nursery.start_soon(request.serve, EventSourceResponse(subscription, compress=ALL, **options))
        await wait_all_tasks_blocked()
        for _ in range(50):
            await hub.publish("a", "the same text again and again")
            await wait_all_tasks_blocked()
        assert sum(map(len, request.bodies)) < 50 * 40
        hub._state.close()
    decoder = DECODERS["gzip"]()
    line = b"data: the same text again and again" + options.get("sep", "\n").encode()
    assert b"".join(map(decoder.decode, request.bodies)).count(line) == 50


@pytest.mark.parametrize("coding", ALL)
async def test_history_then_live_then_behind(coding):
    """One that resumes, pings and falls behind decodes every event once, in order."""
    async with open_hub(max_ring_events=4) as hub, anyio.create_task_group() as nursery:
        first = await hub.publish("a", "0")
        for n in range(1, 10):
            await hub.publish("a", str(n))
        others = [Subscriber(coding, EventSourceResponse(hub.subscribe("a"), compress=ALL)) for _ in range(3)]
        late = Subscriber(coding, EventSourceResponse(hub.subscribe("a", after=str(first)), compress=ALL))
        for subscriber in (*others, late):
            nursery.start_soon(subscriber.serve, subscriber.response)
        await wait_all_tasks_blocked()
        for n in range(10, 40):
            await hub.publish("a", str(n))
            if n % 7 == 0:
                await anyio.sleep(20)
            if n % 3:
                await wait_all_tasks_blocked()
        await wait_all_tasks_blocked()
        assert late.events() == [*range(1, 40)]
        assert [other.events() for other in others] == [[*range(10, 40)]] * 3
        hub._state.close()
    assert late.decoder.is_whole


# --- our own client


@pytest.mark.parametrize("coding", ALL)
async def test_our_client(coding, source_kind):
    """`open_event_source` gets each event while the stream is open, whichever coding its client asks for."""
    async with opened(source_kind, compress=ALL) as (response, send, _):
        options = {"base_url": "http://test", "headers": {"accept-encoding": coding}, "timeout": math.inf}
        async with (
            httpx.AsyncClient(transport=StreamingASGITransport(response), **options) as client,
            open_event_source("http://test/", client=client) as source,
        ):
            await wait_all_tasks_blocked()
            for n in range(3):
                await send(str(n))
                assert (await anext(source)).data == str(n)
