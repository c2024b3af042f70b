# Which server is behind `receive` and `send`: finds the `Connection` for it.
#
# ASGI has no way to drop a connection or to write without waiting, and no notice of a shutdown. The objects behind a
# server's callables have.
#
# Rule 1: everything that knows a server by name is here and in that server's files. The rest of the package knows
#         `Connection`.
# Rule 2: no server is imported. An object is a server's if its class says so, and each attribute on the way is
#         checked; a missing attribute makes that one ability absent.
# Rule 3: nothing of a server is changed or replaced; only what the server itself calls is called.
# Rule 4: tests/e2e/test_bridge_reach.py proves for each server installed that all of this is still there.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .closures import innermost_send
from .connection import Connection, HeadKeeper
from .hypercorn import Hypercorn, HypercornAsyncio, HypercornTrio
from .hypercorn_h2 import HypercornH2
from .nobody_between import is_own_method, past_starlette
from .transports import owner_of
from .uvicorn import uvicorn_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

__all__ = ("EXTENSION", "connection_of", "find_connection", "leads_to_server")

EXTENSION = "sse_trio"  # the key in scope["extensions"] under which ServerBridge places {"connection": ...}


def find_connection(scope: Scope, receive: Receive, send: Send) -> Connection:
    """Return the connection behind these callables: what ``ServerBridge`` placed in the scope, else what they lead to.

    Never raises; a server that isn't known gives a plain ``Connection``.
    """
    extensions: Mapping[str, Mapping[str, Connection]] | None = scope.get("extensions")
    placed = None if not extensions else extensions.get(EXTENSION, {}).get("connection")
    return placed if placed is not None else connection_of(receive, send)


def connection_of(receive: Receive, send: Send) -> Connection:
    """Return the connection that a server's own ``receive`` and ``send`` lead to, through closures around `send`."""
    cycle = owner_of(receive, "uvicorn")
    if cycle is not None:
        return uvicorn_connection(cycle)
    innermost = innermost_send(send)
    cycle = owner_of(innermost, "uvicorn")  # behind a middleware that wraps `receive` too, as OpenTelemetry's does
    if cycle is not None:
        return uvicorn_connection(cycle)
    # hypercorn's `receive` is a queue's method, and leads nowhere.
    stream: Any = owner_of(innermost, "hypercorn")
    if stream is not None:
        return _hypercorn_connection(stream)
    if owner_of(receive, "granian") is not None or owner_of(getattr(send, "func", None), "daphne") is not None:
        return HeadKeeper()
    return Connection()


def leads_to_server(send: Send) -> bool:
    """Return whether body messages reach the server through this ``send`` unchanged, or it is the server's own."""
    innermost = past_starlette(send)
    owner = getattr(innermost, "__self__", None)
    return is_own_method(innermost, owner, "uvicorn") or is_own_method(innermost, owner, "hypercorn")


def _hypercorn_connection(stream: Any) -> Connection:
    protocol = owner_of(getattr(stream, "send", None), "hypercorn")
    server = owner_of(getattr(protocol, "send", None), "hypercorn")
    if hasattr(getattr(server, "writer", None), "transport"):
        connection: Hypercorn = HypercornAsyncio(stream, protocol, server)
    elif hasattr(server, "stream"):
        connection = HypercornTrio(stream, protocol, server)
    else:
        connection = Hypercorn(stream, protocol, server)  # HTTP/3, or a hypercorn that is built differently
    if hasattr(protocol, "stream_buffers") and hasattr(getattr(protocol, "connection", None), "reset_stream"):
        return HypercornH2(stream, protocol, connection)
    return connection
