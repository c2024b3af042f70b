"""Connections of httpcore that a cancellation finds open, with no request on them yet."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import httpcore
import httpx
import pytest

from sse_trio.client import open_event_source
from sse_trio.client._opening import OpeningWatch

pytestmark = pytest.mark.anyio

CONNECTED = b"HTTP/1.1 200 OK\r\n\r\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: x\n\n"


class Network(httpcore.AsyncMockBackend):
    """Connects to a server in memory, and tells when a connection is open: "connect", and "tls"."""

    def __init__(self, *answers):
        self.answers = answers
        self.streams = []
        self.on_open = lambda what: None

    async def connect_tcp(self, *args, **options):
        self.streams.append(Stream(self))
        self.on_open("connect")
        return self.streams[-1]


class Stream(httpcore.AsyncMockStream):
    def __init__(self, network):
        super().__init__([*network.answers])
        self.network = network

    async def start_tls(self, *args, **options):
        self.network.on_open("tls")
        return self

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        await super().aclose()

    @property
    def is_closed(self):
        return self._closed


def client_on(network, proxy):
    """A client whose pool has one place."""
    transport = httpx.AsyncHTTPTransport(proxy=proxy, limits=httpx.Limits(max_connections=1))
    transport._pool._network_backend = network
    return httpx.AsyncClient(transport=transport)


@pytest.mark.parametrize(
    ("url", "proxy", "answers", "when"),
    [
        ("http://test/", None, [STREAM], "connect"),
        ("https://test/", None, [STREAM], "tls"),
        ("http://test/", "http://proxy/", [STREAM], "connect"),
        ("https://test/", "http://proxy/", [CONNECTED, STREAM], "connect"),
        ("https://test/", "http://proxy/", [CONNECTED, STREAM], "tls"),
    ],
)
async def test_a_connection_that_no_request_has_used_is_closed(url, proxy, answers, when):
    """A cancellation just when a connection is open leaves neither a socket nor a taken place in the client's pool."""
    network = Network(*answers)
    async with client_on(network, proxy) as client:
        with anyio.CancelScope() as scope:
            network.on_open = lambda what: what == when and scope.cancel()
            async with open_event_source(url, client=client):
                pytest.fail("opened")
        assert scope.cancelled_caught
        assert [stream.is_closed for stream in network.streams] == [True]
        async with open_event_source(url, client=client) as source:
            assert (await anext(source)).data == "x"
    assert [stream.is_closed for stream in network.streams] == [True, True]


async def test_connections_of_others_are_left_alone():
    """A connection that isn't the request's own, or has served one, or is of another transport, is not closed."""

    class Transport(httpx.AsyncBaseTransport):
        def __init__(self, *requests):
            self._pool = SimpleNamespace(_requests=requests)

    def trace():
        pytest.fail("called")

    others = SimpleNamespace(request=SimpleNamespace(extensions={"trace": print}))
    closed = SimpleNamespace(is_closed=lambda: True)
    own = SimpleNamespace(request=SimpleNamespace(extensions={"trace": trace}), connection=closed)
    for transport in (Transport(SimpleNamespace(), others), Transport(others, own), httpx.MockTransport(print)):
        async with httpx.AsyncClient(transport=transport) as client:
            watch = OpeningWatch(client)
            watch.note("connection.connect_tcp.started", trace)
            watch.note("connection.connect_tcp.complete", trace)
            await watch.send_failed()
