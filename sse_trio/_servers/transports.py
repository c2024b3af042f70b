# What we do with asyncio's transports, whichever server has them; and which package an object belongs to.
#
# Rule: uvloop's transports, asyncio's own and those of its TLS differ, so each method is looked up by name. A transport
#       that lacks one can't do that.

from __future__ import annotations

import sys
from array import array
from contextlib import suppress
from socket import IPPROTO_TCP, SO_LINGER, SOL_SOCKET
from struct import pack
from typing import TYPE_CHECKING, Any

import anyio

if sys.platform == "linux":  # pragma: no branch -- the tests of servers run on Linux
    from fcntl import ioctl
    from socket import TCP_CORK
    from termios import TIOCOUTQ

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = (
    "abort_transport",
    "close_transport",
    "flush_transport",
    "hold_back",
    "is_flushed",
    "is_in_chunks",
    "owner_of",
    "reset_on_close",
    "wait_acknowledged",
    "write_transport_nowait",
)

_ACKNOWLEDGED_WITHIN = 1.0  # seconds
_LOOK_SECONDS = 0.002
_LINGER_NONE = pack("ii", 1, 0)  # struct linger: on, 0 seconds


def owner_of(bound: object, package: str) -> Any:
    """Return the object that this method is bound to, if its class or a base class is from this package, or None."""
    owner = getattr(bound, "__self__", None)
    for cls in type(owner).__mro__:  # the first one nearly always answers it
        if cls.__module__.partition(".")[0] == package:
            return owner
    return None


def abort_transport(transport: Any) -> bool:
    """Drop its connection, unsent bytes included; return whether that could be done."""
    if not hasattr(transport, "abort"):
        return False
    reset_on_close(transport.get_extra_info("socket"))
    transport.abort()
    return True


def reset_on_close(socket: Any) -> None:
    """Have the connection reset when this socket is closed."""
    # Otherwise the kernel keeps the unsent bytes for a client that takes none. The reset (RST) also lets the client
    # know that its stream was cut off.
    with suppress(AttributeError, OSError):  # not a TCP socket, or closed already
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NONE)


def hold_back(socket: Any, *, on: bool) -> None:
    """Have the kernel keep what is less than a packet, for 200 ms at most, or send it and keep nothing more."""
    with suppress(AttributeError, OSError):  # see above
        if sys.platform == "linux":  # pragma: no branch -- see above
            socket.setsockopt(IPPROTO_TCP, TCP_CORK, int(on))


def close_transport(transport: Any) -> None:
    """Close its connection once everything written so far is sent. Later writes are dropped."""
    if hasattr(transport, "close"):
        transport.close()


def is_flushed(transport: Any) -> bool:
    """Return whether a transport is empty, as far as it can be asked."""
    try:
        return bool(transport.get_write_buffer_size() == 0)
    except (AttributeError, RuntimeError):  # it can't be asked; uvloop's for a closed transport, which holds nothing
        return True


async def flush_transport(transport: Any, drain: Callable[[], Awaitable[None]] | None) -> None:
    """Wait until a transport is empty: with a high-water mark of 0, because no event exists for "empty"."""
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


async def wait_acknowledged(open_fileno: Callable[[], int]) -> None:
    """Wait until the client's kernel has everything that was written to a socket, for a second at most.

    If a socket is closed before that, and the client has sent something that was not read, it is reset, and the kernel
    drops what it still holds for the client. A kernel holds what goes beyond its congestion window, such as the
    eleventh small segment in a row. Returns at once where the kernel can't be asked.

    Args:
        open_fileno: returns the socket's number, or -1 once it is closed.
    """
    with anyio.move_on_after(_ACKNOWLEDGED_WITHIN), suppress(OSError):
        while (fileno := open_fileno()) >= 0 and _unacknowledged_bytes(fileno):  # noqa: ASYNC110 -- there is no event
            await anyio.sleep(_LOOK_SECONDS)


def _unacknowledged_bytes(fileno: int) -> int:
    count = array("i", [0])
    if sys.platform == "linux":  # pragma: no branch -- see above
        ioctl(fileno, TIOCOUTQ, count)
    return count[0]


def write_transport_nowait(transport: Any, chunk: bytes) -> int:
    """Write the chunk if the transport is empty; it keeps what the socket doesn't take at once."""
    # uvloop writes at the end of the loop's pass, so a second chunk in the same pass is refused.
    if transport.is_closing() or transport.get_write_buffer_size():
        return 0
    transport.write(chunk)
    return 0 if transport.is_closing() else len(chunk)  # asyncio writes at once, and closes if that fails


def is_in_chunks(connection: Any) -> bool:
    """Whether an ``h11.Connection`` is in the middle of a chunked response."""
    return type(getattr(connection, "_writer", None)).__name__ == "ChunkedWriter"
