# uvicorn, reached by a request's `receive`. See _servers.py for the rules.

from __future__ import annotations

from typing import Any

from ._connection import UnknownServer
from ._transports import (
    abort_transport,
    close_transport,
    flush_transport,
    is_in_chunks,
    owner_of,
    write_transport_nowait,
)

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


class UvicornHttptools(Uvicorn):
    """uvicorn with httptools, which frames the chunks itself."""

    __slots__ = ()

    @property
    def has_lane(self) -> bool:
        return True

    @property
    def is_in_chunks(self) -> bool:
        return bool(self._cycle.response_started and self._cycle.chunked_encoding)


class UvicornH11(Uvicorn):
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
