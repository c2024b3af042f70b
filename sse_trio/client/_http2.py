# What leaving an HTTP/2 connection takes, where httpx and httpcore do nothing: a reset for the stream, and no new
# requests for a connection that is dead.
#
# Rule 1: httpcore forgets a stream that is closed early and tells nobody: the server streams on, and h2 counts the
#         stream as open until no more may be opened. So a stream that is left before its end is reset, and the bytes
#         that had come for it are acknowledged.
# Rule 2: a connection is shared with other sources and requests of the same client. Where one of them finds it dead, it
#         takes no new requests, and is closed with its last stream: whether the others think so too is their business.
# Rule 3: all that httpcore keeps to itself is reached in this file, at the moment when its public `trace` extension
#         says that the stream begins or ends. Where it can't be reached (another transport, another httpcore), closing
#         a response closes its connection: the stream has to go.

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import anyio
import httpx

__all__ = ("Http2Watch", "close_unknown")

# RFC 9113, 7.
_CANCEL = 8
# A dead connection may take no byte any more.
_SECONDS = 5.0
# What is reached, by name.
_NEEDED = ("_h2_state", "_events", "_used_all_stream_ids", "_write_outgoing_data", "aclose")
_KNOWN = "sse_trio.http2_connection_is_known"


class Http2Watch:
    """The HTTP/2 stream of one source, if it has one: reset when it is closed, wherever it is closed."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._connection: Any = None
        self._request: Any = None
        self._stream_id = 0

    async def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """What httpcore calls as a request goes on: the request's extension `trace`."""
        if name == "http2.send_request_headers.started":
            self._begin(info["request"], info["stream_id"])
        elif name == "http2.send_request_headers.failed":
            if type(info["exception"]).__name__ == "TooManyStreamsError":
                self._retire()  # others have left streams behind in it
        elif name == "http2.response_closed.started":
            await self._reset()

    async def retire(self) -> None:
        """The connection of the last request is dead or unwanted: it is to take no new requests."""
        connection = self._connection
        if connection is not None:
            self._retire()
            if not connection._events:  # noqa: SLF001 -- rule 3
                with anyio.move_on_after(_SECONDS, shield=True):
                    await connection.aclose()

    @property
    def is_retired(self) -> bool:
        """Whether the connection of the last request takes no new ones, because of this source."""
        return self._connection is not None and self._connection._used_all_stream_ids is True  # noqa: SLF001

    def _begin(self, request: Any, stream_id: int) -> None:
        self._request, self._stream_id = request, stream_id
        self._connection = _find_connection(self._client, request)
        request.extensions[_KNOWN] = self._connection is not None

    def _retire(self) -> None:
        if self._connection is not None:
            # Then httpcore opens no stream in it any more, and closes it with the last one.
            self._connection._used_all_stream_ids = True  # noqa: SLF001

    async def _reset(self) -> None:
        if self._connection is None:
            return
        is_sent = False
        with anyio.move_on_after(_SECONDS, shield=True), suppress(Exception):
            self._drop_stream(self._connection, self._stream_id)
            await self._connection._write_outgoing_data(self._request)  # noqa: SLF001 -- rule 3
            is_sent = True
        if not is_sent:
            self._retire()  # the connection is broken: a write to it was cancelled, say

    def _drop_stream(self, connection: Any, stream_id: int) -> None:
        h2 = connection._h2_state  # noqa: SLF001 -- rule 3
        for event in connection._events.get(stream_id, ()):  # noqa: SLF001
            # Bytes that nobody will read, or the connection's window would shrink with each stream that is left.
            h2.acknowledge_received_data(getattr(event, "flow_controlled_length", 0), stream_id)
        stream = h2.streams.get(stream_id)
        if stream is not None and not stream.closed:
            h2.reset_stream(stream_id, _CANCEL)


def _find_connection(client: httpx.AsyncClient, request: Any) -> Any:
    """Return httpcore's HTTP/2 connection that a request of the client's is being sent on, if it can be found."""
    for transport in _transports_in(client):
        for waiting in getattr(getattr(transport, "_pool", None), "_requests", ()):
            if getattr(waiting, "request", None) is request:
                return _http2_connection_in(getattr(waiting, "connection", None))
    return None


def _transports_in(holder: object) -> Iterator[object]:
    """Yield the transports of a client, and those that they wrap."""
    for value in (*vars(holder).values(), *getattr(holder, "_mounts", {}).values()):
        if isinstance(value, httpx.AsyncBaseTransport):
            yield value
            yield from _transports_in(value)


def _http2_connection_in(connection: Any) -> Any:
    """Return the connection itself, which may be wrapped in those to a proxy and in one that chooses the protocol."""
    while connection is not None and not all(hasattr(connection, name) for name in _NEEDED):
        connection = getattr(connection, "_connection", None)
    return connection


async def close_unknown(response: httpx.Response) -> None:
    """Close the connection of an HTTP/2 response that was closed unread, if its stream could not be reset."""
    if response.http_version == "HTTP/2" and not response.request.extensions.get(_KNOWN):
        stream = response.extensions.get("network_stream")
        if stream is not None:
            await stream.aclose()
