# uvicorn, reached by a request's `receive`. See _servers/discovery.py for the rules.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connection import UnknownServer
from .hangup import current_hangups
from .transports import (
    abort_transport,
    close_transport,
    flush_transport,
    is_in_chunks,
    owner_of,
    write_transport_nowait,
)
from .uvicorn_exit import exit_of

if TYPE_CHECKING:
    from .._reasons import CloseReason
    from .connection import ServerShutdown

__all__ = ("uvicorn_connection",)


class Uvicorn(UnknownServer):
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
        return self._is_current() and abort_transport(getattr(self._cycle, "transport", None))

    def shutdown_event(self) -> ServerShutdown | None:
        protocol = owner_of(getattr(self._cycle, "on_response", None), "uvicorn")
        state = getattr(protocol, "server_state", None)
        return None if state is None else exit_of(state)

    def cut_off(self) -> None:
        if self._is_current():
            close_transport(getattr(self._cycle, "transport", None))

    def _is_current(self) -> bool:
        # A request that is over: uvicorn replaces its own method here by a lambda once the application has returned.
        on_response = getattr(self._cycle, "on_response", None)
        return on_response is None or owner_of(on_response, "uvicorn") is not None

    async def wait_flushed(self) -> None:
        transport = getattr(self._cycle, "transport", None)
        await flush_transport(transport, getattr(getattr(self._cycle, "flow", None), "drain", None))

    def write_nowait(self, chunk: bytes, /) -> int:
        cycle = self._cycle
        if cycle.response_complete or cycle.disconnected:
            return 0
        return write_transport_nowait(cycle.transport, chunk)


class UvicornHttp(Uvicorn):
    """uvicorn over HTTP/1.1.

    It stops reading while a request waits behind an open response, and tells the newest request only that the
    connection is lost. So the older one is told from here, in uvicorn's own way: the flag that its `send` and
    `receive` look at, and the event that `receive` waits for.
    """

    __slots__ = ("_fd",)

    def __init__(self, cycle: Any) -> None:
        super().__init__(cycle)
        self._fd = -1

    @property
    def is_lost(self) -> bool | None:
        return self._cycle.disconnected or self._is_closing()

    def watch_hangup(self) -> None:
        hangups, socket = current_hangups(), self._watchable_socket()
        if hangups is not None and socket is not None:
            if self._is_closing():  # it has no socket any more, and the number may be another one's
                self.look(hung_up=False)
                return
            self._fd = socket.fileno()
            hangups.watch(self._fd, self)

    def look(self, *, hung_up: bool) -> bool:
        cycle = self._cycle
        if cycle.disconnected or cycle.response_complete:
            return False
        if self._is_closing():
            self._tell_lost()
        elif hung_up and cycle.flow.read_paused and not cycle.more_body:
            self._tell_lost()
            cycle.transport.abort()
        else:
            return hung_up  # uvicorn is about to read that itself, or first the rest of this request's body
        return False

    def says_gone(self, error: Exception, /) -> bool:
        del error
        return bool(self.is_lost)  # uvloop raises RuntimeError for a write to a transport that is closed

    def stream_closed(self, reason: CloseReason, /) -> None:
        del reason
        if self._fd != -1 and (hangups := current_hangups()) is not None:
            hangups.forget(self._fd, self)
        if self._is_closing() and not self._cycle.response_complete and hasattr(self._cycle, "message_event"):
            self._tell_lost()  # else uvicorn would log that the application didn't complete its response

    def _watchable_socket(self) -> Any:
        cycle = self._cycle
        answers = hasattr(cycle, "message_event") and hasattr(getattr(cycle, "flow", None), "read_paused")
        return cycle.transport.get_extra_info("socket") if answers and hasattr(cycle, "more_body") else None

    def _is_closing(self) -> bool:
        is_closing = getattr(self._cycle.transport, "is_closing", None)
        return is_closing is not None and bool(is_closing())

    def _tell_lost(self) -> None:
        self._cycle.disconnected = True
        self._cycle.message_event.set()


class UvicornHttptools(UvicornHttp):
    """uvicorn with httptools, which frames the chunks itself."""

    __slots__ = ()

    @property
    def has_lane(self) -> bool:
        return True

    @property
    def is_in_chunks(self) -> bool:
        return bool(self._cycle.response_started and self._cycle.chunked_encoding)


class UvicornH11(UvicornHttp):
    """uvicorn with h11, which frames the chunks, and keeps no count of them."""

    __slots__ = ()

    @property
    def has_lane(self) -> bool:
        return True

    @property
    def is_in_chunks(self) -> bool:
        return is_in_chunks(self._cycle.conn)


def uvicorn_connection(cycle: Any) -> Uvicorn:
    """Return the connection of this ``RequestResponseCycle``, or of a WebSocket's protocol."""
    answers = all(hasattr(cycle, name) for name in ("transport", "response_complete", "disconnected"))
    if answers and hasattr(cycle, "chunked_encoding") and hasattr(cycle, "response_started"):
        return UvicornHttptools(cycle)
    if answers and hasattr(getattr(cycle, "conn", None), "our_state"):
        return UvicornH11(cycle)
    return Uvicorn(cycle)
