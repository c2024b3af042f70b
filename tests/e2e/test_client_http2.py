# The client over HTTP/2, where a connection is shared: streams that are left, and connections that are dead.
#
# Rule: the server, the proxy and the clocks are real; how many connections there were, the proxy has counted.

from __future__ import annotations

import ssl
from contextlib import asynccontextmanager, suppress

import anyio
import httpx
import pytest
import trustme
from anyio.abc import SocketAttribute

from sse_trio.client import open_event_source

from ._servers import serve
from .test_client import Proxy, close

STREAMS = 5  # that the server allows a connection; by default hypercorn allows 100, which takes twenty times as long
MORE_THAN_STREAMS = 2 * STREAMS + 5
IDLE = 1.0  # seconds, in which a busy machine still sets up a connection: httpcore leaks one that is cancelled in it

pytestmark = [pytest.mark.timeout(120), pytest.mark.e2e, pytest.mark.anyio, pytest.mark.usefixtures("real_clock")]


class FreezingProxy(Proxy):
    """Forwards everything, until its connections freeze: they stay open, and nothing comes any more."""

    def __init__(self, port):
        super().__init__(port, close, None)
        self.frozen = 0

    def freeze(self):
        self.frozen = self.connections

    async def forward_requests(self, downstream, upstream):
        await super().forward_requests(downstream, upstream)
        await upstream.send_eof()

    async def forward_answer(self, upstream, downstream):
        number = self.connections
        try:
            async for data in upstream:
                if number <= self.frozen:
                    await anyio.sleep_forever()
                await downstream.send(data)
        except anyio.BrokenResourceError:
            pass


class Telling(httpx.AsyncBaseTransport):
    """Says when the headers of a request were sent: a cancellation before that costs httpcore the connection."""

    def __init__(self, transport):
        self.transport = transport
        self.sent = anyio.Event()

    async def handle_async_request(self, request):
        trace = request.extensions.get("trace")

        async def tell(name, info):
            if trace is not None:
                await trace(name, info)
            if name == "http2.send_request_headers.complete":
                self.sent.set()

        request.extensions = {**request.extensions, "trace": tell}
        return await self.transport.handle_async_request(request)

    async def aclose(self):
        await self.transport.aclose()


@pytest.fixture(scope="module")
def certificate():
    authority = trustme.CA()
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context, authority.issue_cert("localhost")


@pytest.fixture(scope="module", params=["hypercorn-trio", "hypercorn-asyncio"])
def server(request, certificate, tmp_path_factory):
    folder = tmp_path_factory.mktemp("h2")
    certificate[1].private_key_and_cert_chain_pem.write_to_path(folder / "pem")
    (folder / "config.toml").write_text(f"h2_max_concurrent_streams = {STREAMS}")
    options = [f"--keyfile={folder / 'pem'}", f"--certfile={folder / 'pem'}", f"--config={folder / 'config.toml'}"]
    with serve(request.param, folder / "server", *options, app="client_app:app") as server:
        yield server


@asynccontextmanager
async def open_proxy(port):
    proxy = FreezingProxy(port)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    proxy.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, proxy.handle)
        yield proxy
        tasks.cancel_scope.cancel()


@pytest.fixture
def connect(server, certificate):
    """Opens a proxy to the server, and a client that goes through it; with an end for everything."""

    @asynccontextmanager
    async def connect(wrap=lambda transport: transport):
        with anyio.fail_after(50):  # far more than it takes, as the machine may be busy
            async with open_proxy(server.port) as proxy:
                transport = wrap(httpx.AsyncHTTPTransport(http2=True, verify=certificate[0]))
                base_url = f"https://localhost:{proxy.port}"
                async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
                    yield client, proxy

    return connect


async def read_one(client, url, leave):
    """Open a source, take an event, and leave it in this way."""
    async with open_event_source(url, client=client, retry=0.01) as source:
        await anext(source)
        assert source.response.http_version == "HTTP/2"
        if leave == "close":
            source.close()
        elif leave == "cancel":
            with anyio.move_on_after(0.001):
                await anext(source)


@pytest.mark.parametrize("interval", ["0.01", "1000.0"])
@pytest.mark.parametrize("leave", ["break", "close", "cancel"])
async def test_a_source_that_is_left_resets_its_stream(connect, leave, interval):
    """More sources than a connection has streams, one after another: all work, and the server has none left."""
    async with connect() as (client, proxy):
        for _ in range(MORE_THAN_STREAMS):
            await read_one(client, f"/endless/{interval}", leave)
        assert (await client.get("/none-open")).text == "none"
        assert proxy.connections == 1


async def test_cancelled_before_the_answer(connect):
    """A source that is cancelled while it waits for the head leaves no stream behind either."""
    telling = []

    def wrap(transport):
        telling.append(Telling(transport))
        return telling[0]

    async with connect(wrap) as (client, proxy):
        await client.get("/none-open")
        for _ in range(MORE_THAN_STREAMS):
            telling[0].sent = anyio.Event()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(read_one, client, "/never", "break")
                await telling[0].sent.wait()
                tasks.cancel_scope.cancel()
        assert (await client.get("/none-open")).text == "none"
        assert proxy.connections == 1


async def test_a_connection_that_is_dead(connect):
    """After idle_timeout, the next attempt has a new connection: the dead one gets no more requests."""
    async with (
        connect() as (client, proxy),
        open_event_source("/endless/0.05", client=client, idle_timeout=IDLE, retry=0.01) as source,
    ):
        await anext(source)
        proxy.freeze()
        while source.attempt == 1:
            await anext(source)
        # On a machine that is slower than idle_timeout, another attempt may fail; each has a connection of its own.
        assert proxy.connections == source.attempt


async def test_a_connection_that_is_dead_before_the_answer(connect):
    """The same where the connection died between two requests, so that no head ever comes."""
    async with connect() as (client, proxy):
        await client.get("/none-open")
        proxy.freeze()
        async with open_event_source("/endless/0.05", client=client, idle_timeout=IDLE, retry=0.01) as source:
            await anext(source)
            assert proxy.connections == source.attempt


async def test_a_stream_that_is_silent_costs_its_neighbours_nothing(connect):
    """A source that gives up a silent stream goes to another connection, and those on the first one stay there."""
    async with (
        connect() as (client, proxy),
        open_event_source("/endless/0.05", client=client) as neighbour,
        open_event_source("/endless/1000.0", client=client, idle_timeout=IDLE, retry=0.01) as silent,
    ):
        while silent.attempt == 1:
            with suppress(TimeoutError):
                await silent.receive(timeout=0.05)
        await silent.receive(timeout=30)
        for _ in range(30):
            await anext(neighbour)
        assert neighbour.attempt == 1
        assert proxy.connections == silent.attempt


class Wrapped(httpx.AsyncBaseTransport):
    """A transport around httpx's, as those that cache or retry are."""

    def __init__(self, inner):
        self.inner = inner

    async def handle_async_request(self, request):
        return await self.inner.handle_async_request(request)

    async def aclose(self):
        await self.inner.aclose()


class Hidden(Wrapped):
    """One whose connections can't be found."""

    def __init__(self, inner):
        super().__init__([inner])

    async def handle_async_request(self, request):
        return await self.inner[0].handle_async_request(request)

    async def aclose(self):
        await self.inner[0].aclose()


async def test_a_transport_in_another(connect):
    """The streams of a transport that another one wraps are reset, too."""
    async with connect(Wrapped) as (client, proxy):
        for _ in range(5):
            await read_one(client, "/endless/1000.0", "break")
        assert (await client.get("/none-open")).text == "none"
        assert proxy.connections == 1


async def test_a_transport_that_hides(connect):
    """Where a stream can't be reached, its connection goes with it, so that the server has none left either."""
    async with connect() as (other, _proxy), connect(Hidden) as (client, proxy):
        for n in range(3):
            await read_one(client, "/endless/1000.0", "break")
            assert proxy.connections == n + 1
        assert (await other.get("/none-open")).text == "none"


async def test_streams_that_others_left_behind(connect):
    """A connection that has no stream left, because of requests that weren't ours, is given up for a new one."""
    async with connect() as (client, proxy):
        for _ in range(STREAMS):
            async with client.stream("GET", "/endless/1000.0"):
                pass
        async with open_event_source("/endless/0.05", client=client, retry=0.01) as source:
            await anext(source)
        assert proxy.connections == 2
