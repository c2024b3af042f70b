"""What each server's adapter does with the objects it finds, and that it degrades where they are built otherwise."""

from __future__ import annotations

import socket as sockets
from functools import partial
from socket import SHUT_WR, SO_SNDBUF, SOL_SOCKET, socketpair
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trio
from anyio.lowlevel import checkpoint

from sse_trio import CloseReason, EventSendChannel, EventSourceResponse
from sse_trio._servers.connection import Connection
from sse_trio._servers.discovery import EXTENSION, connection_of, find_connection
from sse_trio._servers.transports import wait_acknowledged

from ._packages import by_package

pytestmark = pytest.mark.anyio


class FakeSocket:
    def __init__(self) -> None:
        self.options: list[tuple[object, ...]] = []
        self.closed = self.is_gone = False
        self.shut: list[int] = []

    def shutdown(self, how: int) -> None:
        if self.is_gone:
            raise OSError("not connected")
        self.shut.append(how)

    def fileno(self) -> int:
        raise NotImplementedError

    def setsockopt(self, *option: object) -> None:
        self.options.append(option)

    def close(self) -> None:
        self.closed = True


class FakeTransport:
    """An asyncio transport as far as abort and the flush go."""

    def __init__(self) -> None:
        self.socket = FakeSocket()
        self.aborted = False
        self.closed = anyio.Event()
        self.unsent = 0
        self.limits: list[int | None] = []

    def abort(self) -> None:
        self.aborted = True
        self.closed.set()

    def close(self) -> None:
        self.closed.set()

    def get_extra_info(self, name: str) -> FakeSocket:
        assert name == "socket"
        return self.socket

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None) -> None:
        self.limits.append(high)


class FakeEvent:
    """hypercorn's wrapper of both loops' events: set is async."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def set(self) -> None:
        self._event.set()

    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()


class Of:
    """An object of a package's class, with these attributes and two methods to be found by."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    async def receive(self) -> Any:
        raise NotImplementedError

    async def __call__(self, *_: object) -> None:
        raise NotImplementedError

    async def method(self, *_: object) -> None:
        raise NotImplementedError


class OfUvicorn(Of):
    __module__ = "uvicorn.protocols.http.fake_impl"


class OfHypercorn(Of):
    __module__ = "hypercorn.protocol.fake"


async def plain(*_: object) -> Any:
    raise NotImplementedError


def on_uvicorn(**attributes: Any) -> Any:
    return connection_of(OfUvicorn(**attributes).receive, plain)


def on_hypercorn(server: Any, *, protocol: dict[str, Any] | None = None, **attributes: Any) -> Any:
    """The chain HTTPStream -> protocol -> TCPServer; `attributes` are the stream's."""
    protocol_send = server.method if server is not None else plain
    chained = OfHypercorn(send=protocol_send, **(protocol or {}))
    stream = OfHypercorn(**{"send": chained.method, "closed": False, "stream_id": 1, **attributes})
    return connection_of(plain, stream.method)


async def test_a_client_that_acknowledges_nothing() -> None:
    """A flush waits one second at most for the client's kernel, and not at all on a closed socket."""
    client, ours = socketpair()
    with client, ours:
        ours.send(b"never read")
        began = anyio.current_time()
        await wait_acknowledged(ours.fileno)
        assert anyio.current_time() - began == 1.0
    await wait_acknowledged(ours.fileno)


async def test_callables_that_lead_nowhere() -> None:
    """An unknown server has a connection that can do nothing beyond ASGI."""
    connection = find_connection({"type": "http"}, plain, plain)
    await connection.wait_flushed()
    assert connection.is_lost is None
    assert connection.abort() is False
    assert connection.shutdown_event() is None
    assert not connection.has_inbox
    assert connection.in_worker is False
    await connection.before_final()


def wrap(send: Any) -> Any:
    """As Starlette does it."""

    async def wrapper(message: object) -> None:
        await send(message)

    return wrapper


async def test_wrappers_lead_to_the_server() -> None:
    """A `send` is found behind functions that call it, as Starlette's do, but not behind other callables."""
    terminated = FakeEvent()
    stream = OfHypercorn(send=OfHypercorn(send=plain).method, context=SimpleNamespace(terminated=terminated))
    assert connection_of(plain, wrap(wrap(stream.method))).shutdown_event() is terminated
    assert connection_of(plain, wrap(partial(stream.method))).shutdown_event() is None


async def test_uvicorn_behind_a_wrapped_receive() -> None:
    """A `send` leads to uvicorn's connection where a middleware, such as OpenTelemetry's, wraps `receive` as well."""
    transport = FakeTransport()
    cycle = OfUvicorn(transport=transport, on_response=OfUvicorn().method)
    connection = connection_of(plain, wrap(wrap(cycle.method)))
    assert connection.abort() is True
    assert transport.aborted


async def test_the_servers_own_send(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection knows its server's own `send` from any other."""
    monkeypatch.setattr(OfUvicorn, "method", by_package("uvicorn.fake", OfUvicorn.method))
    cycle = OfUvicorn(**dict.fromkeys(("transport", "response_complete", "disconnected", "chunked_encoding"), None))
    cycle.response_started = False
    on_uvicorn = connection_of(cycle.receive, plain)
    assert on_uvicorn.is_own_send(cycle.method)
    assert not on_uvicorn.is_own_send(wrap(cycle.method))
    monkeypatch.setattr(OfHypercorn, "method", by_package("hypercorn.fake", OfHypercorn.method))
    stream = OfHypercorn(send=plain, closed=False, stream_id=1)
    on_hypercorn = connection_of(plain, stream.method)
    assert on_hypercorn.is_own_send(stream.method)
    assert not on_hypercorn.is_own_send(wrap(stream.method))


async def test_servers_that_keep_the_head_back() -> None:
    """granian and daphne send the head with the first body message."""

    class OfGranian(Of):
        __module__ = "granian._granian"

    class OfDaphne(Of):
        __module__ = "daphne.server"

    daphne = partial(OfDaphne().method, "protocol")
    for connection in (connection_of(OfGranian().receive, plain), connection_of(plain, daphne)):
        assert connection.head_needs_body
        assert connection.is_lost is None
    for connection in (
        on_uvicorn(),
        on_hypercorn(None),
        connection_of(plain, plain),
        connection_of(plain, partial(plain)),
    ):
        assert not connection.head_needs_body


async def test_wrappers_without_an_end() -> None:
    """A wrapper whose `send` is gone, or that is its own `send`, leads nowhere."""

    def forgetful(send: Any) -> Any:
        async def wrapper(message: object) -> None:
            await send(message)  # noqa: F821

        del send
        return wrapper

    async def send(message: object) -> None:
        await send(message)

    for endless in (forgetful(plain), send):
        assert connection_of(plain, endless).shutdown_event() is None


async def test_placed_connection_comes_first() -> None:
    """The connection that ServerBridge placed in the scope wins, whatever middlewares made of the callables."""
    placed = object()
    scope = {"type": "http", "extensions": {"sse_trio": {"connection": placed}}}
    assert find_connection(scope, OfUvicorn().receive, plain) is placed


async def test_foreign_extension_is_not_mistaken() -> None:
    """An empty extension of the same name is ignored."""
    assert find_connection({"type": "http", "extensions": {"sse_trio": {}}}, plain, plain).abort() is False


class TestUvicorn:
    async def test_abort(self) -> None:
        """The transport is aborted with a RST, so that the kernel keeps nothing for a stalled client."""
        transport = FakeTransport()
        assert on_uvicorn(transport=transport, on_response=OfUvicorn().method).abort() is True
        assert transport.aborted
        assert len(transport.socket.options) == 1

    async def test_subclass_from_elsewhere_is_known(self) -> None:
        """Your own protocol class is recognized as uvicorn's if it derives from one of uvicorn's."""

        class Mine(OfUvicorn):
            __module__ = "mine"

        assert connection_of(Mine(transport=FakeTransport()).receive, plain).abort() is True

    async def test_no_abort_of_the_next_request(self) -> None:
        """A connection that serves the next request is left alone; between requests it is still this one's."""
        transport = FakeTransport()
        assert on_uvicorn(transport=transport, on_response=lambda: None).abort() is False
        assert not transport.aborted

    async def test_cut_off(self) -> None:
        """The transport is closed, which sends what it holds, and not reset; unless it is the next request's."""
        for on_response, closed in ((OfUvicorn().method, True), (lambda: None, False)):
            transport = FakeTransport()
            on_uvicorn(transport=transport, on_response=on_response).cut_off()
            assert (transport.closed.is_set(), transport.aborted) == (closed, False)
        on_uvicorn(transport=object()).cut_off()

    async def test_abort_without_a_transport(self) -> None:
        """A uvicorn that is built differently can't be aborted, which is not an error."""
        assert on_uvicorn().abort() is False
        assert on_uvicorn(transport=object()).abort() is False

    @pytest.mark.parametrize("error", [OSError, AttributeError])
    async def test_abort_without_linger(self, error: type[Exception]) -> None:
        """A unix socket, or one that is closed, is aborted without the option."""
        transport = FakeTransport()

        def refuse(*_: object) -> None:
            raise error

        transport.socket.setsockopt = refuse  # type: ignore[method-assign]
        assert on_uvicorn(transport=transport).abort() is True

    async def test_is_lost(self) -> None:
        """The connection reports the request's flag; a WebSocket's protocol has none."""
        assert on_uvicorn(disconnected=False).is_lost is False
        assert on_uvicorn(disconnected=True).is_lost is True
        assert on_uvicorn().is_lost is None

    async def test_no_shutdown_event(self) -> None:
        """Without access to the protocol there is no shutdown event (test_uvicorn_exit.py tests where there is one)."""
        assert on_uvicorn(transport=FakeTransport()).shutdown_event() is None


class TestWaitFlushed:
    def connection(self, transport: Any, drain: Any) -> Any:
        return on_uvicorn(transport=transport, flow=SimpleNamespace(drain=drain))

    async def test_empty_buffer(self) -> None:
        """If nothing is unsent, the wait returns at once and leaves the limits alone."""
        transport = FakeTransport()
        await self.connection(transport, plain).wait_flushed()
        assert transport.limits == []

    async def test_waits_for_an_empty_buffer(self) -> None:
        """The high-water mark is 0 while it waits, so that drain means empty, and asyncio's own afterwards."""
        transport = FakeTransport()
        transport.unsent = 5

        async def drain() -> None:
            assert transport.limits == [0]
            await checkpoint()

        await self.connection(transport, drain).wait_flushed()
        assert transport.limits == [0, None]

    async def test_cancelling_restores_the_limits(self) -> None:
        """A cancelled wait leaves the transport as it was."""
        transport = FakeTransport()
        transport.unsent = 5
        with anyio.move_on_after(0.01):
            await self.connection(transport, anyio.sleep_forever).wait_flushed()
        assert transport.limits == [0, None]

    @pytest.mark.parametrize("error", [ConnectionResetError, RuntimeError])
    async def test_client_that_is_gone(self, error: type[Exception]) -> None:
        """The wait ends when the client leaves."""
        transport = FakeTransport()
        transport.unsent = 5

        async def drain() -> None:
            raise error

        await self.connection(transport, drain).wait_flushed()

    async def test_without_flow_control(self) -> None:
        """Without flow control, there is no wait."""
        await on_uvicorn(transport=FakeTransport()).wait_flushed()
        await on_uvicorn(transport=object(), flow=SimpleNamespace(drain=plain)).wait_flushed()

    async def test_whether_there_is_anything_to_flush(self) -> None:
        """A transport that is empty, can't be asked or is closed holds nothing."""

        class Closed:
            def get_write_buffer_size(self) -> int:
                raise RuntimeError

        transport = FakeTransport()
        server = OfHypercorn(writer=SimpleNamespace(transport=transport, drain=plain))
        connections = self.connection(transport, plain), on_hypercorn(server)
        assert [each.is_flushed for each in connections] == [True, True]
        transport.unsent = 5
        assert [each.is_flushed for each in connections] == [False, False]
        assert [self.connection(each, plain).is_flushed for each in (object(), Closed())] == [True, True]

    async def test_hypercorn_on_asyncio(self) -> None:
        """hypercorn's StreamWriter buffers, too, and is drained in the same way."""
        transport = FakeTransport()
        transport.unsent = 5

        async def drain() -> None:
            transport.unsent = 0

        server = OfHypercorn(writer=SimpleNamespace(transport=transport, drain=drain))
        await on_hypercorn(server).wait_flushed()
        assert transport.unsent == 0


class TestHypercorn:
    async def test_shutdown_event(self) -> None:
        """Every connection of a worker hands out the worker's own event."""
        context = SimpleNamespace(terminated=FakeEvent())
        first, second = (on_hypercorn(None, context=context).shutdown_event() for _ in range(2))
        assert first is second is context.terminated
        await context.terminated.set()
        await first.wait()
        assert first.is_set()

    @pytest.mark.parametrize("context", [None, SimpleNamespace(), SimpleNamespace(terminated=object())])
    async def test_no_shutdown_event(self, context: object) -> None:
        """Without access to the protocol there is no shutdown event (test_uvicorn_exit.py tests where there is one)."""
        assert on_hypercorn(None, context=context).shutdown_event() is None

    async def test_in_worker(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A server is in a worker process if its process is a child of Python's multiprocessing."""
        assert not on_hypercorn(None).in_worker
        monkeypatch.setattr("sse_trio._servers.hypercorn.parent_process", object)
        assert on_hypercorn(None).in_worker

    async def test_is_lost(self) -> None:
        """The connection reports the request's flag; a WebSocket's protocol has none."""
        assert on_hypercorn(None).is_lost is False
        assert on_hypercorn(None, closed=True).is_lost is True

    async def test_socket_that_it_is_closing(self) -> None:
        """On trio, BusyResourceError from a send means that hypercorn is closing the connection; other errors don't."""
        connection = on_hypercorn(OfHypercorn(stream=SimpleNamespace()))
        assert connection.says_gone(trio.BusyResourceError("another task is currently sending data"))
        assert not connection.says_gone(RuntimeError("on purpose"))
        assert not Connection().says_gone(trio.BusyResourceError("of something else"))

    async def test_abort_on_asyncio(self) -> None:
        """The asyncio worker's transport is aborted."""
        transport = FakeTransport()
        server = OfHypercorn(writer=SimpleNamespace(transport=transport, drain=plain))
        assert on_hypercorn(server).abort() is True
        assert transport.aborted

    @pytest.mark.parametrize("tls", [False, True])
    async def test_abort_on_trio(self, *, tls: bool) -> None:
        """The trio worker's socket is closed, also from under TLS."""
        socket = FakeSocket()
        stream = SimpleNamespace(socket=socket)
        server = OfHypercorn(stream=SimpleNamespace(transport_stream=stream) if tls else stream)
        assert on_hypercorn(server).abort() is True
        assert socket.closed
        assert len(socket.options) == 1

    async def test_trio_has_nothing_to_flush(self) -> None:
        """The trio worker's `send` returns when the kernel has everything, and yields each time."""
        connection = on_hypercorn(OfHypercorn(stream=SimpleNamespace(socket=FakeSocket())))
        assert (connection.is_flushed, connection.send_yields) == (True, True)
        await connection.wait_flushed()

    async def test_cut_off_on_asyncio(self) -> None:
        """The asyncio worker's transport is closed; unless it is the next request's."""
        for current, closed in ((None, True), (object(), False)):
            transport = FakeTransport()
            server = OfHypercorn(writer=SimpleNamespace(transport=transport, drain=plain))
            on_hypercorn(server, protocol={"stream": current}).cut_off()
            assert (transport.closed.is_set(), transport.aborted) == (closed, False)

    @pytest.mark.parametrize("tls", [False, True])
    async def test_cut_off_on_trio(self, *, tls: bool) -> None:
        """Nothing more can be written to the trio worker's socket, also from under TLS; what was written is sent."""
        socket = FakeSocket()
        stream = SimpleNamespace(socket=socket)
        connection = on_hypercorn(OfHypercorn(stream=SimpleNamespace(transport_stream=stream) if tls else stream))
        connection.cut_off()
        assert (socket.shut, socket.closed) == ([SHUT_WR], False)
        socket.is_gone = True
        connection.cut_off()

    @pytest.mark.parametrize("tls", [False, True])
    async def test_holding_back_on_trio(self, *, tls: bool) -> None:
        """The kernel keeps what is less than a packet until it is let go, also from under TLS."""
        with sockets.socket() as tcp:
            stream = SimpleNamespace(socket=tcp)
            connection = on_hypercorn(OfHypercorn(stream=SimpleNamespace(transport_stream=stream) if tls else stream))
            assert connection.can_hold_back
            seen = []
            for step in (connection.hold_back, connection.let_go):
                step()
                seen.append(bool(tcp.getsockopt(sockets.IPPROTO_TCP, sockets.TCP_CORK)))
            assert seen == [True, False]
        connection.let_go()  # it is closed

    async def test_holding_back_without_tcp(self) -> None:
        """Nothing happens if the connection can't be reached, is a unix socket, or isn't known."""
        Connection().hold_back()
        Connection().let_go()
        with sockets.socket(sockets.AF_UNIX) as unix:
            for stream in (SimpleNamespace(), SimpleNamespace(socket=unix)):
                connection = on_hypercorn(OfHypercorn(stream=stream))
                connection.hold_back()
                connection.let_go()

    async def test_cut_off_without_a_connection(self) -> None:
        """If the connection can't be reached, nothing is cut."""
        for server in (None, OfHypercorn(stream=SimpleNamespace())):
            on_hypercorn(server).cut_off()

    async def test_abort_on_trio_without_a_socket(self) -> None:
        """A stream without a socket can't be aborted."""
        assert on_hypercorn(OfHypercorn(stream=SimpleNamespace())).abort() is False

    async def test_abort_without_a_connection(self) -> None:
        """If the connection can't be reached, as over HTTP/3, there is no abort."""
        assert on_hypercorn(None).abort() is False
        assert on_hypercorn(None, send=plain).abort() is False

    @pytest.mark.parametrize("between_requests", [False, True])
    async def test_no_abort_of_the_next_request(self, *, between_requests: bool) -> None:
        """A connection that serves the next request is left alone; between requests it is still this one's."""
        transport = FakeTransport()
        server = OfHypercorn(writer=SimpleNamespace(transport=transport, drain=plain))
        current = None if between_requests else object()
        assert on_hypercorn(server, protocol={"stream": current}).abort() is between_requests
        assert transport.aborted is between_requests


class FakeH2:
    """hypercorn's H2Protocol as far as a reset goes, on a connection that may be stalled as a whole."""

    def __init__(self, nursery: Any, *, stalled: bool = False) -> None:
        self.calls: list[object] = []
        self.transport = FakeTransport()
        self.lock = anyio.Lock()
        self.server = OfHypercorn(writer=SimpleNamespace(transport=self.transport, drain=plain), send_lock=self.lock)
        if stalled:
            nursery.start_soon(self.send_for_ever)
        self.attributes: dict[str, Any] = {
            "streams": {1: object()},
            "stream_buffers": {1: SimpleNamespace(buffer=b"", close=self.close_buffer, drain=self.drain_buffer)},
            "connection": SimpleNamespace(reset_stream=self.reset_stream),
            "priority": SimpleNamespace(unblock=self.calls.append),
            "has_data": FakeEvent(),
            "task_group": SimpleNamespace(spawn=nursery.start_soon),
            "_flush": self.flush,
        }

    def connection(self) -> Any:
        return on_hypercorn(self.server, protocol=self.attributes, context=SimpleNamespace(terminated=FakeEvent()))

    def reset_stream(self, stream_id: int, error_code: int) -> None:
        self.calls.append(("reset", stream_id, error_code))

    async def close_buffer(self) -> None:
        self.calls.append("closed")

    async def drain_buffer(self) -> None:
        self.calls.append("drained")

    async def send_for_ever(self) -> None:
        async with self.lock:
            await self.transport.closed.wait()

    async def flush(self) -> None:
        await checkpoint()
        self.calls.append("flushed")


class TestHypercornH2:
    async def test_abort_resets_only_the_stream(self) -> None:
        """The stream is reset with CANCEL and its waiting writer released; the connection stays."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            assert h2.connection().abort() is True
        assert h2.calls == [("reset", 1, 8), "closed", 1, "flushed"]
        assert not h2.transport.aborted

    async def test_cut_off_resets_only_the_stream(self) -> None:
        """A stream that is cut off is reset, and the connection stays: hypercorn would leave the stream open."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            assert h2.connection().tells_failure is False
            h2.connection().cut_off()
        assert h2.calls == [("reset", 1, 8), "closed", 1, "flushed"]
        assert not h2.transport.aborted

    async def test_stalled_connection_is_dropped(self) -> None:
        """If even the reset can't be sent, the socket itself is stalled, and the connection is dropped."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery, stalled=True)
            await checkpoint()
            assert h2.connection().abort() is True
        assert h2.transport.aborted

    async def test_stream_that_is_gone(self) -> None:
        """Aborting a stream that the client reset, or that has ended, does nothing."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            h2.attributes["streams"].clear()
            assert h2.connection().abort() is True
        assert h2.calls == []

    async def test_refused_reset(self) -> None:
        """If h2 refuses because the connection is closed, nothing happens."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            del h2.attributes["task_group"]
            assert h2.connection().abort() is False

    async def test_stream_that_ends_meanwhile(self) -> None:
        """The task that sends the reset never raises, because it runs among the server's own tasks."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            h2.attributes["stream_buffers"].clear()
            assert h2.connection().abort() is True
        assert h2.calls == [("reset", 1, 8)]

    async def test_wait_flushed(self) -> None:
        """The wait lasts until the stream's buffer is empty; a stream that is empty or gone doesn't wait."""
        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            await h2.connection().wait_flushed()
            h2.attributes["stream_buffers"][1].buffer = b"held back"
            await h2.connection().wait_flushed()
            h2.attributes["stream_buffers"].clear()
            await h2.connection().wait_flushed()
        assert h2.calls == ["drained"]

    @pytest.mark.parametrize("error", [None, KeyError])
    async def test_before_final(self, error: type[Exception] | None) -> None:
        """The end of the stream is written when all of it was taken; a stream that is gone doesn't need one."""

        def end_stream(stream_id: int) -> None:
            h2.calls.append(("end", stream_id))
            if error is not None:
                raise error

        async with anyio.create_task_group() as nursery:
            h2 = FakeH2(nursery)
            h2.attributes["connection"].end_stream = end_stream
            h2.attributes["stream_buffers"][1].buffer = b"held back"
            await h2.connection().before_final()
        assert h2.calls == ["drained", ("end", 1), *([] if error else ["flushed"])]

    @pytest.mark.parametrize("shuts_down", [False, True])
    async def test_before_final_at_a_shutdown(self, shuts_down: bool) -> None:
        """hypercorn is about to close the socket: the client's kernel must have the end of the stream before that."""
        client, ours = socketpair()
        with client, ours:
            ours.send(b"the end")
            terminated = FakeEvent()
            async with anyio.create_task_group() as nursery:
                on_trio = OfHypercorn(stream=SimpleNamespace(socket=ours), send_lock=anyio.Lock())
                attributes = FakeH2(nursery).attributes
                attributes["connection"].end_stream = attributes["priority"].unblock
                context = SimpleNamespace(terminated=terminated)
                connection = on_hypercorn(on_trio, protocol=attributes, context=context)
                if shuts_down:
                    await terminated.set()
                returned = anyio.Event()

                async def write_final() -> None:
                    await connection.before_final()
                    returned.set()

                nursery.start_soon(write_final)
                await anyio.sleep(0.5)
                assert returned.is_set() is not shuts_down
                client.recv(100)
            assert returned.is_set()

    async def test_the_rest_is_the_connection_s(self) -> None:
        """Whether the stream is lost, and the shutdown event, come from the connection, as over HTTP/1.1."""
        async with anyio.create_task_group() as nursery:
            connection = FakeH2(nursery).connection()
            assert connection.send_is_unbounded
            assert connection.is_lost is False
            assert connection.shutdown_event().is_set() is False
            assert connection.in_worker is False
            assert connection.says_gone(OSError()) is False

    async def test_busy_on_trio(self) -> None:
        """The other stream that ended with this one has closed the connection: the client's end, and no error."""
        async with anyio.create_task_group() as nursery:
            on_trio = OfHypercorn(stream=SimpleNamespace(), send_lock=anyio.Lock())
            connection = on_hypercorn(on_trio, protocol=FakeH2(nursery).attributes)
            assert connection.send_is_unbounded
            assert connection.says_gone(trio.BusyResourceError("another task is currently sending data"))


class ChunkedWriter:
    """What h11 calls the state of a response that is made of chunks, by its name."""


class WritingTransport(FakeTransport):
    """One that takes what is written, and keeps it when it is full."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def write(self, data: bytes) -> None:
        self.written.append(data)


def writer_of(connection: Any) -> Any:
    """The direct writes of a connection that has them."""
    writer = connection.new_direct_writer(plain)
    assert writer is not None
    return writer


class TestUvicornDirectWriter:
    """What is written past uvicorn's `send`, and when it refuses."""

    def test_httptools(self) -> None:
        """uvicorn frames the chunks; a response that is over, a client that is gone, and a full transport refuse."""
        transport = WritingTransport()
        cycle = {
            "transport": transport,
            "response_complete": False,
            "disconnected": False,
            "chunked_encoding": None,
            "response_started": False,
        }
        assert writer_of(on_uvicorn(**cycle)).is_in_chunks is False
        writer = writer_of(on_uvicorn(**{**cycle, "response_started": True, "chunked_encoding": True}))
        assert writer.is_in_chunks is True
        assert writer.write_nowait(b"chunk") == 5
        assert writer_of(on_uvicorn(**{**cycle, "response_complete": True})).write_nowait(b"chunk") == 0
        assert writer_of(on_uvicorn(**{**cycle, "disconnected": True})).write_nowait(b"chunk") == 0
        transport.unsent = 1
        assert writer.write_nowait(b"chunk") == 0
        transport.unsent = 0
        transport.closed.set()
        assert writer.write_nowait(b"chunk") == 0
        assert transport.written == [b"chunk"]

    def test_h11(self) -> None:
        """h11 frames the chunks; its writer's class shows that."""
        transport = WritingTransport()
        h11 = SimpleNamespace(our_state="SEND_BODY", _writer=object())
        writer = writer_of(on_uvicorn(transport=transport, response_complete=False, disconnected=False, conn=h11))
        assert writer.is_in_chunks is False
        h11._writer = ChunkedWriter()
        assert writer.is_in_chunks is True
        assert writer.write_nowait(b"chunk") == 5

    async def test_it_has_no_remainders(self) -> None:
        """A transport takes a whole chunk, so there is never a remainder."""
        connection = on_uvicorn(
            transport=None, response_complete=False, disconnected=False, conn=SimpleNamespace(our_state="SEND_BODY")
        )
        with pytest.raises(NotImplementedError):
            await writer_of(connection).write_remainder(b"remainder")


@pytest.mark.parametrize(
    "connection",
    [
        connection_of(plain, plain),
        on_uvicorn(transport=WritingTransport()),
        on_hypercorn(None),
        on_hypercorn(OfHypercorn(stream=SimpleNamespace(transport_stream=None), send_lock=None)),
        on_hypercorn(OfHypercorn(stream=SimpleNamespace(socket=FakeSocket()))),
    ],
    ids=["unknown server", "other uvicorn", "HTTP/3", "TLS of trio", "other hypercorn"],
)
def test_no_direct_writes(connection: Any) -> None:
    """An unknown server, one that is built differently, and TLS on trio have no direct writes."""
    assert connection.new_direct_writer(plain) is None


def current(server: Any) -> Any:
    """A hypercorn connection whose protocol is at this very stream."""
    connection = on_hypercorn(server, protocol={"connection": SimpleNamespace(_writer=ChunkedWriter())})
    connection._protocol.stream = connection._stream
    return connection


class TestHypercornDirectWriter:
    """What is written past hypercorn's `send`, and when it refuses."""

    def test_asyncio(self) -> None:
        """Direct writes go to the transport, unless hypercorn holds its lock, or the stream is over or another's."""
        transport = WritingTransport()
        lock = SimpleNamespace(locked=lambda: False)
        connection = current(OfHypercorn(writer=SimpleNamespace(transport=transport), send_lock=lock))
        writer = writer_of(connection)
        assert writer.is_in_chunks is True
        assert writer.write_nowait(b"chunk") == 5
        lock.locked = lambda: True
        assert writer.write_nowait(b"chunk") == 0
        lock.locked = lambda: False
        connection._stream.closed = True
        assert writer.write_nowait(b"chunk") == 0
        connection._stream.closed = False
        connection._protocol.stream = None
        assert writer.write_nowait(b"chunk") == 0
        assert transport.written == [b"chunk"]

    def test_trio(self) -> None:
        """Direct writes go to the socket, which takes all, a part or nothing; a closed socket takes nothing."""
        ours, theirs = socketpair()
        with ours, theirs:
            ours.setblocking(False)
            ours.setsockopt(SOL_SOCKET, SO_SNDBUF, 4096)
            lock = SimpleNamespace(locked=lambda: False)
            writer = writer_of(current(OfHypercorn(stream=SimpleNamespace(socket=ours), send_lock=lock)))
            assert writer.write_nowait(b"chunk") == 5
            assert theirs.recv(100) == b"chunk"
            chunk = bytes(1 << 20)
            assert 0 < writer.write_nowait(chunk) < len(chunk)
            assert writer.write_nowait(chunk) == 0
            lock.locked = lambda: True
            assert writer.write_nowait(b"chunk") == 0
            lock.locked = lambda: False
            ours.close()
            assert writer.write_nowait(b"chunk") == 0

    async def test_remainder(self) -> None:
        """The remainder of a chunk is sent under hypercorn's own lock; any error means that the client is gone."""
        sent: list[object] = []

        async def send_all(data: bytes) -> None:
            if sent[1:]:
                raise LookupError
            sent.append(data)

        class Lock:
            async def __aenter__(self) -> None:
                sent.append("locked")

            async def __aexit__(self, *_: object) -> None:
                sent.append("released")

        stream = SimpleNamespace(send_all=send_all, socket=FakeSocket())
        writer = writer_of(on_hypercorn(OfHypercorn(stream=stream, send_lock=Lock())))
        await writer.write_remainder(b"remainder")
        assert sent == ["locked", b"remainder", "released"]
        with pytest.raises(anyio.BrokenResourceError):
            await writer.write_remainder(b"more")


class NeverFlushed(Connection):
    """A server whose `send` takes everything, for a client that takes nothing."""

    send_is_unbounded = True
    aborted = False
    reason: CloseReason | None = None

    def stream_closed(self, reason: CloseReason, /) -> None:
        self.reason = reason

    async def wait_flushed(self) -> None:
        await anyio.sleep_forever()

    def abort(self) -> bool:
        self.aborted = True
        return True


async def test_unbounded_send_is_bounded() -> None:
    """If `send` never waits for the client, the stream does: memory stays bounded, and send_timeout applies."""
    connection = NeverFlushed()
    scope = {"type": "http", "method": "GET", "extensions": {EXTENSION: {"connection": connection}}}
    sent = []

    async def flood(send_channel: EventSendChannel) -> None:
        while True:
            await send_channel.send("x" * 1024)
            sent.append(anyio.current_time())

    async def take(message: object) -> None:
        await checkpoint()

    began = anyio.current_time()
    await EventSourceResponse(flood, send_timeout=5)(scope, anyio.sleep_forever, take)
    assert connection.aborted
    assert connection.reason is CloseReason.SEND_TIMEOUT
    assert anyio.current_time() - began == pytest.approx(5, abs=0.2)
    assert len(sent) < 256, "a few batches of the buffer's 64 KiB"
