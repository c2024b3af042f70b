# Direct writes to a hypercorn connection over HTTP/1.1, on either loop. The rules are in _servers/direct_write.py.

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from anyio import BrokenResourceError

from .direct_write import DirectWriter
from .transports import is_in_chunks, write_transport_nowait

if TYPE_CHECKING:
    from starlette.types import Send

__all__ = ("HypercornDirectWriter", "HypercornTrioDirectWriter", "trio_fileno")


class HypercornDirectWriter(DirectWriter):
    """The worker classes ``asyncio`` and ``uvloop``: writes to the transport of the ``asyncio.StreamWriter``."""

    __slots__ = ("_protocol", "_server", "_stream")

    def __init__(self, stream: Any, protocol: Any, server: Any, send: Send) -> None:
        super().__init__(send)
        self._stream = stream
        self._protocol = protocol
        self._server = server

    @property
    def is_in_chunks(self) -> bool:
        return is_in_chunks(getattr(self._protocol, "connection", None))

    def write_nowait(self, chunk: bytes, /) -> int:
        # hypercorn holds `send_lock`, one of the loop's own locks, while it writes.
        if self._server.send_lock.locked() or self._stream.closed or self._protocol.stream is not self._stream:
            return 0
        return write_transport_nowait(self._server.writer.transport, chunk)


class HypercornTrioDirectWriter(HypercornDirectWriter):
    """The worker class ``trio``: writes to the socket of the ``trio.SocketStream``."""

    __slots__ = ("_fileno", "_send_lock")

    def __init__(self, stream: Any, protocol: Any, server: Any, send: Send) -> None:
        super().__init__(stream, protocol, server, send)
        # Kept, because every delivery asks for them. With a thousand connections each object on the way is one more
        # cache miss: reached through six objects, a delivery took 1.2 times as long as the Go hub's; now 0.96 times.
        self._fileno: Any = trio_fileno(server.stream)
        self._send_lock: Any = server.send_lock

    def write_nowait(self, chunk: bytes, /) -> int:
        # A stream that is closed isn't asked: its socket says the same.
        if self._send_lock.locked() or self._protocol.stream is not self._stream:
            return 0
        try:
            # trio's own methods may wait. The number is -1 once the socket is closed.
            return os.write(self._fileno(), chunk)
        except OSError:  # it would block, or the client is gone, which the server finds out too
            return 0

    async def write_remainder(self, remainder: bytes, /) -> None:
        try:
            async with self._send_lock:
                await self._server.stream.send_all(remainder)
        except Exception as exc:  # trio's, which this file can't name
            raise BrokenResourceError from exc


def trio_fileno(stream: Any) -> Any:
    """Return the ``fileno`` method of a stream's socket; ``None`` for TLS, which can't be written without waiting."""
    socket: Any = getattr(stream, "socket", None)
    return getattr(getattr(socket, "_sock", socket), "fileno", None)  # the socket inside of trio's: one call less
