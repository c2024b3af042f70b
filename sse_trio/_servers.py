# The servers: one small class for each that is known, which reaches what lies behind its `receive` and `send`.
#
# ASGI offers no way to drop a connection and no notice of a shutdown; the objects behind a server's callables do.
#
# Rule 1: everything that knows a server by name is in this file. The rest of the package knows `ServerConnection`.
# Rule 2: no server is imported. An object is a server's if its class says so, and each attribute on the way is
#         checked; whatever is missing makes that one ability absent.
# Rule 3: nothing of a server is changed or replaced, only what it calls itself is called.
# Rule 4: tests/e2e/test_bridge_reach.py proves for each server installed that all of this is still there.

from __future__ import annotations

from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import TYPE_CHECKING, Any, cast

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from starlette.types import Receive, Scope, Send

    from ._connection import ServerConnection, ServerShutdown
    from ._reason import CloseReason

__all__ = ("EXTENSION", "connection_of", "find_connection")

EXTENSION = "sse_trio"  # the key in scope["extensions"] under which ServerBridge places {"connection": ...}

_CANCEL = 0x8  # RFC 9113 section 7: "the stream is no longer needed"
_RESET_WITHIN = 0.5  # seconds; a connection that takes no 13 bytes of RST_STREAM in this time is stalled as a whole
_MOST_WRAPPERS = 32  # Starlette has two, and one for each route; a middleware may well be another
_LINGER_NONE = pack("ii", 1, 0)  # struct linger: on, 0 seconds


def find_connection(scope: Scope, receive: Receive, send: Send) -> ServerConnection:
    """The connection behind these callables: what ``ServerBridge`` placed in the scope, else what they lead to.

    Never raises; a server that is not known gives a connection that can do nothing.
    """
    extensions: Mapping[str, Mapping[str, ServerConnection]] = scope.get("extensions") or {}
    placed = extensions.get(EXTENSION, {}).get("connection")
    return placed if placed is not None else connection_of(receive, send)


def connection_of(receive: Receive, send: Send) -> ServerConnection:
    """The connection that a server's own ``receive`` and ``send`` lead to, the latter also through plain wrappers."""
    cycle = _owner(receive, "uvicorn")
    if cycle is not None:
        return _Uvicorn(cycle)
    stream = _owner(_innermost(send), "hypercorn")
    if stream is not None:
        return _hypercorn(stream)
    return _Unknown()


def _innermost(send: object) -> object:
    # Starlette's wrappers are closures over the `send` that they call, each around the next. (What `receive` there is
    # of hypercorn's is a queue's, and leads nowhere.)
    for _ in range(_MOST_WRAPPERS):
        names = getattr(getattr(send, "__code__", None), "co_freevars", ())
        cells = getattr(send, "__closure__", None) or ()
        inner = dict(zip(names, cells, strict=False)).get("send")
        try:
            send = send if inner is None else inner.cell_contents
        except ValueError:  # the cell is empty, by now
            return send
    return send


def _owner(bound: object, package: str) -> Any:
    """The object whose method this is, if its class or a base of it comes from this package."""
    owner = getattr(bound, "__self__", None)
    if any(cls.__module__.partition(".")[0] == package for cls in type(owner).__mro__):
        return owner
    return None


class _Unknown:
    """A server that cannot be asked anything, and the answers that a known one starts from."""

    __slots__ = ("wait_disconnect",)

    send_is_unbounded = False

    def __init__(self) -> None:
        self.wait_disconnect: Callable[[], Coroutine[Any, Any, None]] | None = None

    @property
    def is_lost(self) -> bool | None:
        return None

    def abort(self) -> bool:
        return False

    async def wait_flushed(self) -> None:
        return

    def shutdown_event(self) -> ServerShutdown | None:
        return None

    def stream_closed(self, reason: CloseReason, /) -> None:
        """No server wants to know."""


class _Uvicorn(_Unknown):
    """uvicorn, with h11 and with httptools: ``receive`` is a method of the request's ``RequestResponseCycle``.

    A WebSocket's is one of the protocol itself, which has the transport as well, but neither flags nor flow control.
    """

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Any) -> None:
        super().__init__()
        self._cycle = cycle

    @property
    def is_lost(self) -> bool | None:
        return getattr(self._cycle, "disconnected", None)

    def abort(self) -> bool:
        # A request that is over: uvicorn replaces its own method here by a lambda once the application has returned.
        on_response = getattr(self._cycle, "on_response", None)
        if on_response is not None and _owner(on_response, "uvicorn") is None:
            return False
        return _abort_transport(getattr(self._cycle, "transport", None))

    async def wait_flushed(self) -> None:
        transport = getattr(self._cycle, "transport", None)
        await _flush_transport(transport, getattr(getattr(self._cycle, "flow", None), "drain", None))


class _Hypercorn(_Unknown):
    """hypercorn: ``send`` is a method of ``HTTPStream`` or ``WSStream``, which lead to protocol and ``TCPServer``."""

    __slots__ = ("_protocol", "_server", "_stream")

    def __init__(self, stream: Any, protocol: Any, server: Any) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._server = server

    @property
    def is_lost(self) -> bool | None:
        return getattr(self._stream, "closed", None)

    def abort(self) -> bool:
        return self._is_current() and self._drop()

    def shutdown_event(self) -> ServerShutdown | None:
        terminated = getattr(getattr(self._stream, "context", None), "terminated", None)
        usable = hasattr(terminated, "is_set") and hasattr(terminated, "wait")
        return cast("ServerShutdown", terminated) if usable else None

    def _is_current(self) -> bool:
        # H11Protocol.stream is None between requests, and then the connection is still only ours.
        return getattr(self._protocol, "stream", None) in {None, self._stream}

    def _drop(self) -> bool:
        return False


class _HypercornAsyncio(_Hypercorn):
    """The worker classes ``asyncio`` and ``uvloop``: the connection is an ``asyncio.StreamWriter``."""

    __slots__ = ()

    async def wait_flushed(self) -> None:
        writer = self._server.writer
        await _flush_transport(writer.transport, writer.drain)

    def _drop(self) -> bool:
        return _abort_transport(self._server.writer.transport)


class _HypercornTrio(_Hypercorn):
    """The worker class ``trio``: the connection is a ``trio.SocketStream``, alone or in a ``trio.SSLStream``."""

    __slots__ = ()

    def _drop(self) -> bool:
        stream = getattr(self._server.stream, "transport_stream", self._server.stream)
        socket: Any = getattr(stream, "socket", None)
        if not hasattr(socket, "close"):
            return False
        # trio wakes whoever is inside send_all or receive_some with ClosedResourceError, shielded or not.
        _reset_on_close(socket)
        socket.close()
        return True


class _HypercornH2(_Unknown):
    """One HTTP/2 stream of a hypercorn connection: aborting it must leave the connection's other streams alone."""

    __slots__ = ("_carrier", "_protocol", "_stream")

    # StreamBuffer.push() waits while the buffer is full, but StreamBuffer.pop() ends that wait whenever it has taken
    # less than 16 KiB, so also when it took nothing because the client's window is shut [hypercorn 0.18].
    send_is_unbounded = True

    def __init__(self, stream: Any, protocol: Any, carrier: _Hypercorn) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._carrier = carrier

    @property
    def is_lost(self) -> bool | None:
        return self._carrier.is_lost

    async def wait_flushed(self) -> None:
        buffer = self._protocol.stream_buffers.get(self._stream.stream_id)
        if buffer is not None and buffer.buffer:
            await buffer.drain()

    def shutdown_event(self) -> ServerShutdown | None:
        return self._carrier.shutdown_event()

    def abort(self) -> bool:
        try:
            if self._stream.stream_id not in self._protocol.streams:
                return True  # reset by the client, or ended
            self._protocol.connection.reset_stream(self._stream.stream_id, error_code=_CANCEL)
            self._protocol.task_group.spawn(self._send_reset)
        except Exception:  # noqa: BLE001  h2's ProtocolError, which this file cannot name; the nursery may be closed
            return False
        return True

    async def _send_reset(self) -> None:
        """Runs in the nursery of the connection, since the reset is a frame among the frames of other streams."""
        flushed = anyio.Event()
        async with anyio.create_task_group() as nursery:
            nursery.start_soon(self._release_and_flush, flushed)
            with anyio.move_on_after(_RESET_WITHIN):
                await flushed.wait()
            if not flushed.is_set():
                # Not this stream is stalled but the socket, and hypercorn writes to that shielded: all of it must go.
                self._carrier._drop()  # noqa: SLF001

    async def _release_and_flush(self, flushed: anyio.Event) -> None:
        stream_id, protocol = self._stream.stream_id, self._protocol
        try:
            # Whoever waits for room or for the end of this stream's buffer goes on; hypercorn's own sending task
            # then finds the stream closed and forgets it.
            await protocol.stream_buffers[stream_id].close()
            protocol.priority.unblock(stream_id)
            await protocol.has_data.set()
            await protocol._flush()  # noqa: SLF001  there is no public way to have h2's pending bytes sent
            async with self._carrier._server.send_lock:  # noqa: SLF001
                pass  # another task may have taken our bytes along with its own; the lock is handed on in order
        except Exception:  # noqa: BLE001, S110  the stream ended meanwhile; this runs in hypercorn's nursery
            pass
        finally:
            flushed.set()


def _hypercorn(stream: Any) -> ServerConnection:
    protocol = _owner(getattr(stream, "send", None), "hypercorn")
    server = _owner(getattr(protocol, "send", None), "hypercorn")
    if hasattr(getattr(server, "writer", None), "transport"):
        carrier: _Hypercorn = _HypercornAsyncio(stream, protocol, server)
    elif hasattr(server, "stream"):
        carrier = _HypercornTrio(stream, protocol, server)
    else:
        carrier = _Hypercorn(stream, protocol, server)  # HTTP/3, or a hypercorn that is built otherwise
    if hasattr(protocol, "stream_buffers") and hasattr(getattr(protocol, "connection", None), "reset_stream"):
        return _HypercornH2(stream, protocol, carrier)
    return carrier


def _abort_transport(transport: Any) -> bool:
    if not hasattr(transport, "abort"):
        return False
    _reset_on_close(transport.get_extra_info("socket"))
    transport.abort()
    return True


def _reset_on_close(socket: Any) -> None:
    # Without this the kernel goes on holding and offering the unsent bytes to a client that takes none. With it
    # the client learns by a RST that its stream was cut off.
    with suppress(AttributeError, OSError):  # not a TCP socket, or closed already
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NONE)


async def _flush_transport(transport: Any, drain: Callable[[], Awaitable[None]] | None) -> None:
    """Wait until an asyncio transport is empty: by a high-water mark of 0, for there is no event for "empty"."""
    if drain is None or not hasattr(transport, "set_write_buffer_limits"):
        return
    try:
        if transport.get_write_buffer_size() == 0:
            return
        transport.set_write_buffer_limits(high=0)
        try:
            await drain()
        finally:
            transport.set_write_buffer_limits()  # asyncio's defaults, which uvicorn and hypercorn use
    except (OSError, RuntimeError):
        pass  # the client went away; RuntimeError is uvloop's for a closed transport
