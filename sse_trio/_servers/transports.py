# What asyncio's transports are asked for, whichever server has them; and whose an object is.
#
# Rule: uvloop's transports, asyncio's own and those of its TLS are asked by name, and what one lacks it can't do.

from __future__ import annotations

from contextlib import suppress
from socket import SO_LINGER, SOL_SOCKET
from struct import pack
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = (
    "abort_transport",
    "close_transport",
    "flush_transport",
    "is_in_chunks",
    "owner_of",
    "reset_on_close",
    "write_transport_nowait",
)

_LINGER_NONE = pack("ii", 1, 0)  # struct linger: on, 0 seconds


def owner_of(bound: object, package: str) -> Any:
    """Return the object whose method this is, if its class or a base of it comes from this package, else None."""
    owner = getattr(bound, "__self__", None)
    for cls in type(owner).__mro__:  # nearly always the first one tells
        if cls.__module__.partition(".")[0] == package:
            return owner
    return None


def abort_transport(transport: Any) -> bool:
    """Drop its connection, unsent bytes included; whether that could be done."""
    if not hasattr(transport, "abort"):
        return False
    reset_on_close(transport.get_extra_info("socket"))
    transport.abort()
    return True


def reset_on_close(socket: Any) -> None:
    """Have the connection reset when this socket is closed."""
    # Without this the kernel goes on holding and offering the unsent bytes to a client that takes none. With it
    # the client learns by a RST that its stream was cut off.
    with suppress(AttributeError, OSError):  # not a TCP socket, or closed already
        socket.setsockopt(SOL_SOCKET, SO_LINGER, _LINGER_NONE)


def close_transport(transport: Any) -> None:
    """Close its connection when what it holds is sent. What is written after this is dropped."""
    if hasattr(transport, "close"):
        transport.close()


async def flush_transport(transport: Any, drain: Callable[[], Awaitable[None]] | None) -> None:
    """Wait until a transport is empty: by a high-water mark of 0, for there is no event for "empty"."""
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


def write_transport_nowait(transport: Any, chunk: bytes) -> int:
    """Write the chunk if nothing waits in the transport; what the socket doesn't take at once then waits there."""
    # uvloop keeps what it is given until the end of the loop's pass: a second chunk in the same pass is refused.
    if transport.is_closing() or transport.get_write_buffer_size():
        return 0
    transport.write(chunk)
    return len(chunk)


def is_in_chunks(connection: Any) -> bool:
    """Whether an ``h11.Connection`` is in the middle of a response that is made of chunks."""
    return type(getattr(connection, "_writer", None)).__name__ == "ChunkedWriter"
