"""The HTTP/2 stream of a source where httpcore's connection is broken, or not to be found (see e2e for the rest)."""

from __future__ import annotations

from types import SimpleNamespace

import anyio
import httpx
import pytest

from sse_trio.client import open_event_source
from sse_trio.client._body import close
from sse_trio.client._http2 import Http2Watch
from sse_trio.client._httpcore import find_connection

pytestmark = pytest.mark.anyio


class TooManyStreamsError(Exception):
    """h2's, by its name."""


class Connection:
    """As much of httpcore's HTTP/2 connection as is reached."""

    def __init__(self):
        self._events = {1: []}
        self._used_all_stream_ids = False
        stream = SimpleNamespace(closed=False)
        self._h2_state = SimpleNamespace(streams={1: stream}, reset_stream=lambda *args: self.resets.append(args))
        self.resets = []
        self.is_closed = False

    async def _write_outgoing_data(self, request):
        raise httpx.WriteError("the connection is broken")

    async def aclose(self):
        self.is_closed = True


class Transport(httpx.AsyncBaseTransport):
    """As much of httpx's transport as is reached."""

    def __init__(self, request, connection):
        waiting = SimpleNamespace(request=request, connection=SimpleNamespace(_connection=connection))
        self._pool = SimpleNamespace(_requests=[SimpleNamespace(), waiting])


def new_request():
    return SimpleNamespace(extensions={})


async def begin(client, request):
    watch = Http2Watch(client)
    await watch.trace("http2.send_request_headers.started", {"request": request, "stream_id": 1})
    return watch


async def test_a_connection_that_is_broken_is_retired():
    """If the reset can't be written, the connection takes no new requests, and is closed once empty."""
    request, connection = new_request(), Connection()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = await begin(client, request)
        assert not watch.is_retired
        await watch.trace("http2.response_closed.started", {"stream_id": 1})
        assert connection.resets == [(1, 8)]
        assert watch.is_retired
        await watch.retire()
        assert not connection.is_closed
        connection._events.clear()
        await watch.retire()
        assert connection.is_closed


async def test_what_had_come_for_a_stream_is_acknowledged():
    """Bytes that no one will read don't shrink the connection's window: they are acknowledged with the reset."""
    request, connection, acknowledged = new_request(), Connection(), []
    connection._events[1] = [SimpleNamespace(flow_controlled_length=300), SimpleNamespace()]
    connection._h2_state.acknowledge_received_data = lambda *args: acknowledged.append(args)
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = await begin(client, request)
        await watch.trace("http2.response_closed.started", {"stream_id": 1})
        assert acknowledged == [(300, 1), (0, 1)]
        assert connection.resets == [(1, 8)]


async def test_a_stream_that_is_closed_is_not_reset():
    """A stream that has ended, or that h2 has forgotten, is not reset."""
    request, connection = new_request(), Connection()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = await begin(client, request)
        connection._h2_state.streams.clear()
        await watch.trace("http2.response_closed.started", {"stream_id": 1})
        assert connection.resets == []


async def test_a_connection_that_cannot_be_found():
    """If a transport hides its connections, they are left alone, and nothing fails."""
    request = new_request()
    async with httpx.AsyncClient(transport=Transport(new_request(), None)) as client:
        watch = await begin(client, request)
        await watch.trace("http2.send_request_headers.failed", {"exception": TooManyStreamsError()})
        await watch.trace("http2.response_closed.started", {"stream_id": 1})
        await watch.retire()
        assert not watch.is_retired


async def test_a_connection_without_room_is_retired():
    """A connection without free streams takes no new requests; for other failures it is kept."""
    request, connection = new_request(), Connection()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = await begin(client, request)
        await watch.trace("http2.send_request_headers.failed", {"exception": OSError()})
        assert not watch.is_retired
        await watch.trace("http2.send_request_headers.failed", {"exception": TooManyStreamsError()})
        assert watch.is_retired


async def test_headers_whose_write_was_cancelled():
    """The server may never have got them: the connection takes no new requests, and the stream is not reset."""
    request, connection = new_request(), Connection()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = await begin(client, request)
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class() as cancelled:
                await watch.trace("http2.send_request_headers.failed", {"exception": cancelled})
                raise
        assert watch.is_retired
        await watch.trace("http2.response_closed.started", {"stream_id": 1})
        assert connection.resets == []


async def test_a_connection_that_was_not_set_up():
    """If httpcore is cancelled while it sets up a connection, the next request gets a new one."""
    request, connection = new_request(), Connection()
    connection._events.clear()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = Http2Watch(client)
        await watch.send_failed()
        assert not watch.is_retired
        await watch.trace("http2.send_connection_init.started", {"request": request})
        await watch.send_failed()
        assert watch.is_retired
        assert connection.is_closed


async def test_a_connection_that_was_set_up():
    """A request that fails later doesn't retire its connection."""
    request, connection = new_request(), Connection()
    async with httpx.AsyncClient(transport=Transport(request, connection)) as client:
        watch = Http2Watch(client)
        await watch.trace("http2.send_connection_init.started", {"request": request})
        await watch.trace("http2.send_request_headers.started", {"request": request, "stream_id": 1})
        await watch.send_failed()
        assert not watch.is_retired


@pytest.mark.parametrize("has_stream", [False, True])
async def test_closing_the_response_of_an_unknown_transport(serve, stream, has_stream):
    """An HTTP/2 response whose stream couldn't be reset has its connection closed, if httpcore hands it out."""
    closed = []

    class NetworkStream:
        async def aclose(self):
            closed.append(True)

    network_stream = NetworkStream() if has_stream else None
    server = serve(stream(100))
    async with server.client() as client:
        response = await client.send(client.build_request("GET", "/", timeout=None), stream=True)
        response.extensions |= {"http_version": b"HTTP/2", "network_stream": network_stream}
        await close(response)
    assert closed == [True] * has_stream


async def test_the_trace_reaches_redirects(serve, stream):
    """Each request of a source has the extension that httpcore calls, those after a redirect included."""
    server = serve(stream(status=307, content_type="", location="/there"), stream("data: x\n\n"), stream(status=204))
    async with server.client() as client, open_event_source("/", client=client, reconnect=False) as source:
        assert [event.data async for event in source] == ["x"]
    assert len(server.requests) == 2
    for request in server.requests:
        await request.extensions["trace"]("http11.send_request_headers.started", {})
    await anyio.lowlevel.checkpoint()


def test_a_connection_that_is_not_of_http_2_is_left_alone():
    """A response over HTTP/1.1, or through an unknown pool, has no connection to reset."""
    request = object()
    transport = httpx.AsyncHTTPTransport()
    client = SimpleNamespace(transport=transport)
    transport._pool = SimpleNamespace(_requests=[SimpleNamespace(request=request, connection=object())])  # type: ignore[assignment]
    assert find_connection(client, request) is None  # type: ignore[arg-type]
    assert find_connection(client, object()) is None  # type: ignore[arg-type]
