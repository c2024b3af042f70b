# hypercorn over HTTP/1.1 and for WebSockets, on either loop, reached by `send`. See _servers/discovery.py for the
# rules.

from __future__ import annotations

import os
from contextlib import suppress
from multiprocessing import parent_process
from socket import SHUT_WR
from typing import TYPE_CHECKING, Any, cast

from anyio import BrokenResourceError

from .._reasons import CloseReason
from .connection import UnknownServer
from .hangup import current_hangups
from .transports import (
    abort_transport,
    close_transport,
    flush_transport,
    is_in_chunks,
    reset_on_close,
    write_transport_nowait,
)

if TYPE_CHECKING:
    from .connection import ServerShutdown

__all__ = ("Hypercorn", "HypercornAsyncio", "HypercornTrio")

_CLIENT_LOST = frozenset((CloseReason.DISCONNECTED, CloseReason.SEND_TIMEOUT))


class Hypercorn(UnknownServer):
    """hypercorn: ``send`` is a method of ``HTTPStream`` or ``WSStream``, which lead to protocol and ``TCPServer``."""

    __slots__ = ("_protocol", "_server", "_stream", "_watched_fd")

    def __init__(self, stream: Any, protocol: Any, server: Any) -> None:
        super().__init__()
        self._stream = stream
        self._protocol = protocol
        self._server = server
        self._watched_fd = -1

    @property
    def is_lost(self) -> bool | None:
        return getattr(self._stream, "closed", None)

    @property
    def in_worker(self) -> bool:
        """Whether it is one of hypercorn's own processes.

        With several of them, the parent ends the others as soon as one has ended [hypercorn 0.18], which is about a
        tenth of a second after it has told all of them to.
        """
        return parent_process() is not None

    def abort(self) -> bool:
        return self._is_current() and self._drop()

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
        hangups, fd = current_hangups(), self._open_fileno()
        if hangups is not None and fd >= 0:
            self._watched_fd = fd
            hangups.watch(fd, self)
        self.look(hung_up=False)  # it may have been lost already

    def look(self, *, hung_up: bool) -> bool:
        if self._stream.closed or not (hung_up or self._is_dropped()):
            return False
        if not self._has_request_waiting():
            return True  # hypercorn reads on, and is about to notice
        self._protocol.task_group.spawn(self._stream.app_put, {"type": "http.disconnect"})
        return False

    def _open_fileno(self) -> int:
        return -1

    def _is_dropped(self) -> bool:
        return False

    def stream_closed(self, reason: CloseReason, /) -> None:
        if self._watched_fd != -1 and (hangups := current_hangups()) is not None:
            hangups.forget(self._watched_fd, self)
        if reason in _CLIENT_LOST and self._has_request_waiting():
            self._protocol.task_group.spawn(self._complete)

    def _has_request_waiting(self) -> bool:
        trailing = getattr(getattr(self._protocol, "connection", None), "trailing_data", (b"",))
        spawns = hasattr(getattr(self._protocol, "task_group", None), "spawn")
        return bool(trailing[0]) and spawns and hasattr(self._stream, "app_send")

    async def _complete(self) -> None:
        """Runs in the connection's nursery. Its reading task waits for the end of this response, and would for ever."""
        try:
            await self._stream.app_send({"type": "http.response.body", "body": b"", "more_body": False})
        except Exception:  # noqa: BLE001, S110  the client is gone; this runs in hypercorn's nursery
            pass

    @property
    def is_in_chunks(self) -> bool:
        return is_in_chunks(getattr(self._protocol, "connection", None))

    def _is_current(self) -> bool:
        # H11Protocol.stream is None between requests, and then the connection is still only ours.
        return getattr(self._protocol, "stream", None) in {None, self._stream}

    def _is_taken(self) -> bool:
        # Whoever writes holds `send_lock`, which is a lock of the loop's own.
        return self._server.send_lock.locked() or self._stream.closed or self._protocol.stream is not self._stream

    def _drop(self) -> bool:
        return False

    def _close(self) -> None:
        """Nothing within reach."""


class HypercornAsyncio(Hypercorn):
    """The worker classes ``asyncio`` and ``uvloop``: the connection is an ``asyncio.StreamWriter``."""

    __slots__ = ()

    @property
    def has_lane(self) -> bool:
        return True

    async def wait_flushed(self) -> None:
        writer = self._server.writer
        await flush_transport(writer.transport, writer.drain)

    def write_nowait(self, chunk: bytes, /) -> int:
        return 0 if self._is_taken() else write_transport_nowait(self._server.writer.transport, chunk)

    def _open_fileno(self) -> int:
        socket: Any = self._server.writer.transport.get_extra_info("socket")
        return -1 if socket is None or self._is_dropped() else socket.fileno()

    def _is_dropped(self) -> bool:
        return bool(self._server.writer.transport.is_closing())

    def _drop(self) -> bool:
        return abort_transport(self._server.writer.transport)

    def _close(self) -> None:
        close_transport(self._server.writer.transport)


class HypercornTrio(Hypercorn):
    """The worker class ``trio``: the connection is a ``trio.SocketStream``, alone or in a ``trio.SSLStream``."""

    __slots__ = ("_fileno", "_send_lock")

    def __init__(self, stream: Any, protocol: Any, server: Any) -> None:
        super().__init__(stream, protocol, server)
        # Kept, for this is asked at every delivery: with a thousand connections each object on the way is one more
        # that the processor's cache has lost since the last time.
        socket: Any = getattr(server.stream, "socket", None)
        self._fileno: Any = getattr(getattr(socket, "_sock", socket), "fileno", None)  # trio's calls that of its own
        self._send_lock: Any = getattr(server, "send_lock", None)

    @property
    def has_lane(self) -> bool:
        """Whether the socket takes bytes as they are: TLS of trio's has no way to write without waiting."""
        return self._fileno is not None and self._send_lock is not None

    def write_nowait(self, chunk: bytes, /) -> int:
        # _is_taken(), written out. What a stream that was closed would say, the socket says too.
        if self._send_lock.locked() or self._protocol.stream is not self._stream:
            return 0
        try:
            # trio's sockets only offer to wait. The number is -1 once the socket is closed.
            return os.write(self._fileno(), chunk)
        except OSError:  # it would block, or the client is gone, which the server finds out by itself
            return 0

    def says_gone(self, error: Exception, /) -> bool:
        # Whoever sends holds `send_lock`. So what keeps the socket busy is hypercorn closing it, which it does without
        # that lock when the request's body was cut short.
        return type(error).__name__ == "BusyResourceError" and type(error).__module__.partition(".")[0] == "trio"

    async def write_rest(self, rest: bytes, /) -> None:
        try:
            async with self._server.send_lock:
                await self._server.stream.send_all(rest)
        except Exception as exc:  # trio's, which this file cannot name
            raise BrokenResourceError from exc

    def _open_fileno(self) -> int:
        stream = getattr(self._server.stream, "transport_stream", self._server.stream)
        fileno = getattr(getattr(stream, "socket", None), "fileno", None)
        return -1 if fileno is None else fileno()

    def _drop(self) -> bool:
        stream = getattr(self._server.stream, "transport_stream", self._server.stream)
        socket: Any = getattr(stream, "socket", None)
        if not hasattr(socket, "close"):
            return False
        # trio wakes whoever is inside send_all or receive_some with ClosedResourceError, shielded or not.
        reset_on_close(socket)
        socket.close()
        return True

    def _close(self) -> None:
        stream = getattr(self._server.stream, "transport_stream", self._server.stream)
        socket: Any = getattr(stream, "socket", None)
        if hasattr(socket, "shutdown"):
            with suppress(OSError):  # the client is gone
                socket.shutdown(SHUT_WR)  # hypercorn finds it so when it writes, and closes it
