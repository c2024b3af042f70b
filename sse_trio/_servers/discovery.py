# The servers: one small class for each that is known, which reaches what lies behind its `receive` and `send`.
#
# ASGI offers no way to drop a connection, to write to it without waiting, and no notice of a shutdown; the objects
# behind a server's callables do.
#
# Rule 1: everything that knows a server by name is in `_server_*.py`. The rest of the package knows `ServerConnection`.
# Rule 2: no server is imported. An object is a server's if its class says so, and each attribute on the way is
#         checked; whatever is missing makes that one ability absent.
# Rule 3: nothing of a server is changed or replaced, only what it calls itself is called.
# Rule 4: tests/e2e/test_bridge_reach.py proves for each server installed that all of this is still there.

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .connection import HeadKeeper, UnknownServer
from .hypercorn import Hypercorn, HypercornAsyncio, HypercornTrio
from .hypercorn_h2 import HypercornH2
from .send_wrappers import innermost_send
from .transports import owner_of
from .uvicorn import uvicorn_connection

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Receive, Scope, Send

    from .connection import ServerConnection

__all__ = ("EXTENSION", "connection_of", "find_connection")

EXTENSION = "sse_trio"  # the key in scope["extensions"] under which ServerBridge places {"connection": ...}


def find_connection(scope: Scope, receive: Receive, send: Send) -> ServerConnection:
    """The connection behind these callables: what ``ServerBridge`` placed in the scope, else what they lead to.

    Never raises; a server that is not known gives a connection that can do nothing.
    """
    extensions: Mapping[str, Mapping[str, ServerConnection]] = scope.get("extensions") or {}
    placed = extensions.get(EXTENSION, {}).get("connection")
    return placed if placed is not None else connection_of(receive, send)


def connection_of(receive: Receive, send: Send) -> UnknownServer:
    """The connection that a server's own ``receive`` and ``send`` lead to, the latter also through plain wrappers."""
    cycle = owner_of(receive, "uvicorn")
    if cycle is not None:
        return uvicorn_connection(cycle)
    # (What `receive` there is of hypercorn's is a queue's, and leads nowhere.)
    stream = owner_of(innermost_send(send), "hypercorn")
    if stream is not None:
        return _hypercorn_connection(stream)
    if owner_of(receive, "granian") is not None or owner_of(getattr(send, "func", None), "daphne") is not None:
        return HeadKeeper()
    return UnknownServer()


def _hypercorn_connection(stream: Any) -> UnknownServer:
    protocol = owner_of(getattr(stream, "send", None), "hypercorn")
    server = owner_of(getattr(protocol, "send", None), "hypercorn")
    if hasattr(getattr(server, "writer", None), "transport"):
        carrier: Hypercorn = HypercornAsyncio(stream, protocol, server)
    elif hasattr(server, "stream"):
        carrier = HypercornTrio(stream, protocol, server)
    else:
        carrier = Hypercorn(stream, protocol, server)  # HTTP/3, or a hypercorn that is built otherwise
    if hasattr(protocol, "stream_buffers") and hasattr(getattr(protocol, "connection", None), "reset_stream"):
        return HypercornH2(stream, protocol, carrier)
    return carrier
