# What leaving an HTTP/2 stream takes, where httpx and httpcore do nothing: a reset for the stream, and no new requests
# for a connection that is dead.
#
# Rule 1: when a response is closed early, httpcore forgets the stream and tells neither the server nor h2. The server
#         goes on sending, and h2 counts the stream as open until no more may be opened. So a stream that is left before
#         its end is reset, and the bytes that had come for it are acknowledged.
# Rule 2: other sources and requests of the same client share the connection. A source that finds it dead retires it: it
#         takes no new requests, and is closed with its last stream. The other streams decide for themselves.
# Rule 3: a cancelled request may leave httpcore's connection unusable: with a semaphore that was half set up, or with
#         headers that h2 has counted and the server has never got. Such a connection is retired too, and the stream
#         is not reset, because the server would take that for an error of the connection.
# Rule 4: httpcore's public `trace` extension says when a stream begins and ends. What httpcore keeps private is in
#         client/_httpcore.py. Where that can't find the connection, closing a response closes its connection, because
#         the stream has to go.

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import anyio
import httpx

from ._httpcore import HttpcoreConnection, find_connection
from ._opening import OpeningWatch

__all__ = ("Http2Watch", "close_unknown")

# A dead connection may accept no more bytes.
_SECONDS = 5.0
_KNOWN = "sse_trio.http2_connection_is_known"


class Http2Watch:
    """The HTTP/2 stream of one source, if it has one: reset when it is closed, wherever it is closed."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._opening = OpeningWatch(client)
        self._connection: HttpcoreConnection | None = None
        self._set_up: HttpcoreConnection | None = None  # a connection that httpcore has not set up yet
        self._request: Any = None
        self._stream_id = 0
        self._is_half_sent = False

    async def trace(self, name: str, info: Mapping[str, Any]) -> None:
        """Follow a request. httpcore calls this: it is the request's extension `trace`."""
        self._opening.note(name, self.trace)
        if name == "http2.send_connection_init.started":
            self._set_up = find_connection(self._client, info["request"])
        elif name == "http2.send_request_headers.started":
            self._begin(info["request"], info["stream_id"])
        elif name == "http2.send_request_headers.failed":
            self._headers_failed(info["exception"])
        elif name == "http2.response_closed.started":
            await self._reset()

    async def retire(self) -> None:
        """Have the connection of the last request take no new ones: it is dead or unwanted."""
        connection = self._connection
        if connection is not None:
            connection.retire()
            if not connection.has_streams:
                with anyio.move_on_after(_SECONDS, shield=True):
                    await connection.aclose()

    @property
    def is_retired(self) -> bool:
        """Whether the connection of the last request takes no new ones."""
        return self._connection is not None and self._connection.is_retired

    async def send_failed(self) -> None:
        """Close or retire the connection if httpcore was cancelled in setting it up. Call this when a request fails."""
        await self._opening.send_failed()
        if self._set_up is not None:
            self._connection, self._set_up = self._set_up, None
            await self.retire()

    def _begin(self, request: Any, stream_id: int) -> None:
        self._set_up, self._is_half_sent = None, False
        self._request, self._stream_id = request, stream_id
        self._connection = find_connection(self._client, request)
        request.extensions[_KNOWN] = self._connection is not None

    def _headers_failed(self, error: BaseException) -> None:
        if type(error).__name__ == "TooManyStreamsError":
            self._retire()  # other requests have left streams behind in it
        elif not isinstance(error, Exception):  # cancelled
            self._retire()
            self._is_half_sent = True

    def _retire(self) -> None:
        if self._connection is not None:
            self._connection.retire()

    async def _reset(self) -> None:
        if self._connection is None or self._is_half_sent:
            return
        is_sent = False
        with anyio.move_on_after(_SECONDS, shield=True), suppress(Exception):
            self._connection.reset(self._stream_id)
            await self._connection.write(self._request)
            is_sent = True
        if not is_sent:
            self._retire()  # the connection is broken: a write to it was cancelled, for example


async def close_unknown(response: httpx.Response) -> None:
    """Close the connection of an HTTP/2 response that was closed unread, if its stream could not be reset."""
    if response.http_version == "HTTP/2" and not response.request.extensions.get(_KNOWN):
        stream = response.extensions.get("network_stream")
        if stream is not None:
            await stream.aclose()
