# uvicorn, reached by a request's `receive`. The rules are in _servers/discovery.py.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connection import Connection
from .direct_write import DirectWriter
from .hangup import current_hangups
from .nobody_between import is_own_method
from .transports import (
    abort_transport,
    close_transport,
    flush_transport,
    is_flushed,
    is_in_chunks,
    owner_of,
    write_transport_nowait,
)
from .uvicorn_exit import exit_of

if TYPE_CHECKING:
    from starlette.types import Send

    from .._reasons import CloseReason
    from .connection import ServerShutdown

__all__ = ("Uvicorn", "uvicorn_connection")


class Uvicorn(Connection):
    """uvicorn, with h11 and with httptools: ``receive`` is a method of the request's ``RequestResponseCycle``.

    A WebSocket's is a method of the protocol itself, which has the transport as well, but no flags or flow control.
    """

    __slots__ = ("_cycle", "_fd")

    def __init__(self, cycle: Any) -> None:
        super().__init__()
        self._cycle = cycle
        self._fd = -1  # the socket's number, while it is watched

    def is_of(self, cycle: object) -> bool:
        """Whether it is what this object of uvicorn's leads to."""
        return self._cycle is cycle

    @property
    def is_lost(self) -> bool | None:
        return getattr(self._cycle, "disconnected", None)

    def abort(self) -> bool:
        return self._is_current() and abort_transport(getattr(self._cycle, "transport", None))

    @property
    def server(self) -> object | None:
        return getattr(getattr(getattr(self._cycle, "on_response", None), "__self__", None), "server_state", None)

    def shutdown_event(self) -> ServerShutdown | None:
        state = self.server
        return None if state is None else exit_of(state)

    def cut_off(self) -> None:
        if self._is_current():
            close_transport(getattr(self._cycle, "transport", None))

    def _is_current(self) -> bool:
        # When the application has returned, uvicorn replaces its own method here by a lambda.
        on_response = getattr(self._cycle, "on_response", None)
        return on_response is None or owner_of(on_response, "uvicorn") is not None

    @property
    def is_flushed(self) -> bool:
        return is_flushed(getattr(self._cycle, "transport", None))

    async def wait_flushed(self) -> None:
        transport = getattr(self._cycle, "transport", None)
        await flush_transport(transport, getattr(getattr(self._cycle, "flow", None), "drain", None))


class UvicornHttp(Uvicorn):
    """uvicorn over HTTP/1.1.

    It stops reading while a request waits behind an open response, and when the connection is lost it says so to the
    newest request only. So we say it to the older one, in uvicorn's own way: with the flag that its `send` and
    `receive` look at, and the event that `receive` waits for.
    """

    __slots__ = ()

    joins_final = True

    @property
    def is_lost(self) -> bool | None:
        return self._cycle.disconnected or self._is_closing()

    def is_own_send(self, send: Send, /) -> bool:
        return is_own_method(send, self._cycle, "uvicorn")

    def new_direct_writer(self, send: Send, /) -> DirectWriter:
        return UvicornDirectWriter(self._cycle, send)

    def watch_hangup(self) -> None:
        hangups, socket = current_hangups(), self._watchable_socket()
        if hangups is not None and socket is not None:
            if self._is_closing():  # its socket is closed, and the number may belong to another one by now
                self.look(hung_up=False)
                return
            self._fd = socket.fileno()
            hangups.watch(self._fd, self)

    def look(self, *, hung_up: bool) -> bool:
        """Act on what has happened to the client; return whether to look again (``hangup.Watched``)."""
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete:
            return False
        if self._is_closing():
            self._set_lost()
        elif hung_up and cycle.flow.read_paused and not cycle.more_body:
            self._set_lost()
            cycle.transport.abort()
        else:
            return hung_up  # uvicorn is about to read the end itself, or the remainder of this request's body first
        return False

    def says_gone(self, error: Exception, /) -> bool:
        del error
        return bool(self.is_lost)  # uvloop raises RuntimeError for a write to a transport that is closed

    def stream_closed(self, reason: CloseReason, /) -> None:
        del reason
        if self._fd != -1 and (hangups := current_hangups()) is not None:
            hangups.forget(self._fd, self)
        if not self._cycle.response_complete and self._is_closing() and hasattr(self._cycle, "message_event"):
            self._set_lost()  # or uvicorn would log that the application didn't complete its response

    def _watchable_socket(self) -> Any:
        cycle = self._cycle
        answers = hasattr(cycle, "message_event") and hasattr(getattr(cycle, "flow", None), "read_paused")
        return cycle.transport.get_extra_info("socket") if answers and hasattr(cycle, "more_body") else None

    def _is_closing(self) -> bool:
        is_closing = getattr(self._cycle.transport, "is_closing", None)
        return is_closing is not None and bool(is_closing())

    def _set_lost(self) -> None:
        self._cycle.disconnected = True
        self._cycle.message_event.set()


class UvicornDirectWriter(DirectWriter):
    """Writes to the transport of uvicorn. With httptools, uvicorn frames the chunks; with h11, that does."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: Any, send: Send) -> None:
        super().__init__(send)
        self._cycle = cycle

    @property
    def is_in_chunks(self) -> bool:
        cycle = self._cycle
        if _frames_chunks(cycle):
            return bool(cycle.response_started and cycle.chunked_encoding)
        return is_in_chunks(cycle.conn)

    def write_nowait(self, chunk: bytes, /) -> int:
        cycle = self._cycle
        if cycle.response_complete or cycle.disconnected:
            return 0
        return write_transport_nowait(cycle.transport, chunk)


def uvicorn_connection(cycle: Any) -> Uvicorn:
    """Return the connection of this ``RequestResponseCycle``, or of a WebSocket's protocol."""
    is_known = hasattr(cycle, "transport") and hasattr(cycle, "response_complete") and hasattr(cycle, "disconnected")
    is_framed = _frames_chunks(cycle) or hasattr(getattr(cycle, "conn", None), "our_state")
    return UvicornHttp(cycle) if is_known and is_framed else Uvicorn(cycle)


def _frames_chunks(cycle: Any) -> bool:
    # As with httptools. h11 frames them otherwise, and keeps no count of them.
    return hasattr(cycle, "chunked_encoding") and hasattr(cycle, "response_started")
