# What is known of hypercorn: over HTTP/1.1 and for WebSockets here, on either loop; of its HTTP/2 in hypercorn_h2.py,
# of writing past its `send` in hypercorn_direct.py. The rules for all servers are in discovery.py. A fact of one
# version stands where it is used, as `[hypercorn 0.18]`.

from __future__ import annotations

from contextlib import suppress
from multiprocessing import parent_process
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any, cast

from .._reasons import CloseReason
from .connection import Connection
from .hangup import current_hangups
from .hypercorn_direct import HypercornDirectWriter, HypercornTrioDirectWriter, trio_fileno
from .nobody_between import is_own_method
from .transports import (
    abort_transport,
    close_transport,
    flush_transport,
    hold_back,
    is_flushed,
    is_in_chunks,
    reset_on_close,
    wait_acknowledged,
)

if TYPE_CHECKING:
    from starlette.types import Send

    from .connection import ServerShutdown
    from .direct_write import DirectWriter

__all__ = ("Hypercorn", "HypercornAsyncio", "HypercornTrio")

_CLIENT_LOST = frozenset((CloseReason.DISCONNECTED, CloseReason.SEND_TIMEOUT))


class Hypercorn(Connection):
    """hypercorn: ``send`` is a method of ``HTTPStream`` or ``WSStream``, which lead to protocol and ``TCPServer``."""

    __slots__ = ("_is_aborted", "_protocol", "_server", "_stream", "_watched_fd")

    def __init__(self, stream: Any, protocol: Any, server: Any) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._server = server
        self._is_aborted = False
        self._watched_fd = -1

    @property
    def is_lost(self) -> bool | None:
        return getattr(self._stream, "closed", None)

    @property
    def in_worker(self) -> bool:
        """Whether this is one of hypercorn's own processes.

        If there are several, the parent ends the others as soon as one has ended [hypercorn 0.18], about a tenth of a
        second after it has asked all of them to stop.
        """
        return parent_process() is not None

    def is_own_send(self, send: Send, /) -> bool:
        return is_own_method(send, self._stream, "hypercorn")

    def abort(self) -> bool:
        self._is_aborted = self._is_current() and self.drop()
        return self._is_aborted

    def cut_off(self) -> None:
        if self._is_current():
            self._close()

    def shutdown_event(self) -> ServerShutdown | None:
        terminated = getattr(getattr(self._stream, "context", None), "terminated", None)
        usable = hasattr(terminated, "is_set") and hasattr(terminated, "wait")
        return cast("ServerShutdown", terminated) if usable else None

    def watch_hangup(self) -> None:
        if not hasattr(self._stream, "app_put"):
            return
        hangups, fd = current_hangups(), self.open_fileno()
        if hangups is not None and fd >= 0:
            self._watched_fd = fd
            hangups.watch(fd, self)
        self.look(hung_up=False)  # it may be lost already

    def look(self, *, hung_up: bool) -> bool:
        """Act on what has happened to the client; return whether to look again (``hangup.Watched``)."""
        if self._stream.closed or not (hung_up or self._is_dropped()):
            return False
        if not self._has_request_waiting():
            return True  # hypercorn reads on, and is about to notice
        self._protocol.task_group.spawn(self._stream.app_put, {"type": "http.disconnect"})
        return False

    def open_fileno(self) -> int:
        """The connection's socket, or -1 if it is closed or out of reach."""
        return -1

    def _is_dropped(self) -> bool:
        return False

    def stream_closed(self, reason: CloseReason, /) -> None:
        if self._watched_fd != -1 and (hangups := current_hangups()) is not None:
            hangups.forget(self._watched_fd, self)
        if (self._is_aborted or reason in _CLIENT_LOST) and self._has_request_waiting():
            self._protocol.task_group.spawn(self._complete)

    def _has_request_waiting(self) -> bool:
        trailing = getattr(getattr(self._protocol, "connection", None), "trailing_data", (b"",))
        spawns = hasattr(getattr(self._protocol, "task_group", None), "spawn")
        return bool(trailing[0]) and spawns and hasattr(self._stream, "app_send")

    async def wait_acknowledged(self) -> None:
        """Return once the client's kernel has what was written, or doesn't answer; only while the server shuts down."""
        shutdown = self.shutdown_event()
        if shutdown is not None and shutdown.is_set():
            await self.wait_flushed()
            await wait_acknowledged(self.open_fileno)

    async def _complete(self) -> None:
        """End the response, for which the connection's reading task would wait forever. Runs in hypercorn's nursery."""
        with suppress(Exception):  # the client is gone; this runs in hypercorn's nursery
            try:
                await self._stream.app_send({"type": "http.response.body", "body": b"", "more_body": False})
            except Exception:  # noqa: BLE001 -- trio's, which this file can't name
                # On trio hypercorn may be closing the socket, which it does without its lock, and the write is refused
                # as busy. The response is complete for h11 by then, but hypercorn hasn't gone on to the next request;
                # it has no public way to.
                # Or hypercorn was stopped while it wrote the head, and refuses a body. It is not complete then, and h11
                # would have the reading task wait for that.
                if self._is_current():
                    if is_in_chunks(self._protocol.connection):
                        self._protocol.connection.send_failed()
                    await self._protocol._maybe_recycle()

    def drop(self) -> bool:
        """Drop the connection with all of its streams; whether that could be done."""
        return False

    @property
    def send_lock(self) -> Any:
        """The lock that hypercorn holds while it writes to the connection."""
        return self._server.send_lock

    def _is_current(self) -> bool:
        # H11Protocol.stream is None between requests; the connection is then still this stream's.
        return getattr(self._protocol, "stream", None) in {None, self._stream}

    def _close(self) -> None:
        """Nothing within reach."""


class HypercornAsyncio(Hypercorn):
    """The worker classes ``asyncio`` and ``uvloop``: the connection is an ``asyncio.StreamWriter``."""

    __slots__ = ()

    def new_direct_writer(self, send: Send, /) -> DirectWriter:
        return HypercornDirectWriter(self._stream, self._protocol, self._server, send)

    @property
    def is_flushed(self) -> bool:
        return is_flushed(self._server.writer.transport)

    async def wait_flushed(self) -> None:
        writer = self._server.writer
        await flush_transport(writer.transport, writer.drain)

    def open_fileno(self) -> int:
        socket: Any = self._server.writer.transport.get_extra_info("socket")
        return -1 if socket is None or self._is_dropped() else socket.fileno()

    def _is_dropped(self) -> bool:
        return bool(self._server.writer.transport.is_closing())

    def drop(self) -> bool:
        return abort_transport(self._server.writer.transport)

    def _close(self) -> None:
        close_transport(self._server.writer.transport)


class HypercornTrio(Hypercorn):
    """The worker class ``trio``: the connection is a ``trio.SocketStream``, alone or in a ``trio.SSLStream``."""

    __slots__ = ()

    send_yields = True
    can_hold_back = True

    @property
    def is_flushed(self) -> bool:
        return True  # `send` returns when the kernel has everything

    def new_direct_writer(self, send: Send, /) -> DirectWriter | None:
        is_writable = trio_fileno(self._server.stream) is not None and hasattr(self._server, "send_lock")
        return HypercornTrioDirectWriter(self._stream, self._protocol, self._server, send) if is_writable else None

    def says_gone(self, error: Exception, /) -> bool:
        # All who send hold `send_lock`. So a busy socket is one that hypercorn is closing: it does so without that lock
        # when the request's body was cut short.
        return type(error).__name__ == "BusyResourceError" and type(error).__module__.partition(".")[0] == "trio"

    def hold_back(self) -> None:
        hold_back(self._socket(), on=True)

    def let_go(self) -> None:
        hold_back(self._socket(), on=False)

    def open_fileno(self) -> int:
        fileno = getattr(self._socket(), "fileno", None)
        return -1 if fileno is None else fileno()

    def drop(self) -> bool:
        socket = self._socket()
        if not hasattr(socket, "close"):
            return False
        # trio wakes a task inside send_all or receive_some with ClosedResourceError, shielded or not.
        reset_on_close(socket)
        socket.close()
        return True

    def _close(self) -> None:
        socket = self._socket()
        if hasattr(socket, "shutdown"):
            with suppress(OSError):  # the client is gone
                socket.shutdown(SHUT_WR)  # hypercorn notices when it writes, and closes the socket

    def _socket(self) -> Any:
        stream = getattr(self._server.stream, "transport_stream", self._server.stream)
        return getattr(stream, "socket", None)
