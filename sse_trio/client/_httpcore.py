# HttpcoreConnection: what httpcore keeps private about an HTTP/2 connection, under names that say what it is for. And
# the connections in its pool that no request has used.
#
# Rule 1: every private name of httpx and httpcore that the client uses is in this file. find_connection() returns None
#         where one of them is missing: another transport, another httpcore.
# Rule 2: nothing here decides anything. client/_http2.py says when a stream is reset and a connection retired,
#         client/_opening.py when a connection is closed.

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx

__all__ = ("HttpcoreConnection", "find_connection", "find_opened", "is_unused")

# RFC 9113, 7.
_CANCEL = 8
# Attributes of httpcore 1.0's AsyncHTTP2Connection.
_H2, _EVENTS, _USED_UP, _WRITE = "_h2_state", "_events", "_used_all_stream_ids", "_write_outgoing_data"
_NEEDED = (_H2, _EVENTS, _USED_UP, _WRITE, "aclose")


class HttpcoreConnection:
    """One HTTP/2 connection of httpcore's, shared by all requests of a client that go over it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @property
    def has_streams(self) -> bool:
        """Whether any request is still using the connection."""
        return bool(getattr(self._connection, _EVENTS))

    @property
    def is_retired(self) -> bool:
        """Whether the connection takes no new requests."""
        return getattr(self._connection, _USED_UP) is True

    def retire(self) -> None:
        """Have httpcore open no more streams in the connection, and close it with the last one."""
        setattr(self._connection, _USED_UP, True)

    def reset(self, stream_id: int) -> None:
        """Reset a stream, if it is open. What h2 then has to send, write() sends."""
        h2 = getattr(self._connection, _H2)
        for event in getattr(self._connection, _EVENTS).get(stream_id, ()):
            # No one will read these bytes. Without this, each stream that is left would shrink the connection's window.
            h2.acknowledge_received_data(getattr(event, "flow_controlled_length", 0), stream_id)
        stream = h2.streams.get(stream_id)
        if stream is not None and not stream.closed:
            h2.reset_stream(stream_id, _CANCEL)

    async def write(self, request: Any) -> None:
        """Send what h2 has to send; ``request`` gives the timeout."""
        await getattr(self._connection, _WRITE)(request)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


def find_connection(client: httpx.AsyncClient, request: Any) -> HttpcoreConnection | None:
    """Return the HTTP/2 connection over which a request of the client is being sent, if it can be found."""
    for waiting in _requests_of(client):
        if getattr(waiting, "request", None) is request:
            return _http2_connection_in(getattr(waiting, "connection", None))
    return None


def find_opened(client: httpx.AsyncClient, trace: Callable[..., object]) -> Any:
    """Return the connection in the pool that a request of the client was given, or None. ``trace`` is its extension."""
    for waiting in _requests_of(client):
        extensions = getattr(getattr(waiting, "request", None), "extensions", None)
        if extensions and extensions.get("trace") == trace:
            return getattr(waiting, "connection", None)
    return None


def is_unused(connection: Any) -> bool:
    """Whether it is an open connection of HTTP/1.1 that no request has begun on, and none can."""
    return not connection.is_closed() and not connection.is_idle() and _http2_connection_in(connection) is None


def _requests_of(client: httpx.AsyncClient) -> Iterator[Any]:
    for transport in _transports_in(client):
        yield from getattr(getattr(transport, "_pool", None), "_requests", ())


def _transports_in(holder: object) -> Iterator[object]:
    """Yield the transports of a client, and those that they wrap."""
    for value in (*vars(holder).values(), *getattr(holder, "_mounts", {}).values()):
        if isinstance(value, httpx.AsyncBaseTransport):
            yield value
            yield from _transports_in(value)


def _http2_connection_in(connection: Any) -> HttpcoreConnection | None:
    """Unwrap the connection: others may wrap it, one to a proxy, and one that chooses the protocol."""
    while connection is not None:
        if all(hasattr(connection, name) for name in _NEEDED):
            return HttpcoreConnection(connection)
        connection = getattr(connection, "_connection", None)
    return None
