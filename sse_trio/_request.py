# One request for an event stream with httpx, and its answer: the events of a stream, or what is kept of a refusal.
#
# Rule 1: the request is made anew for every connection, from the URL that the caller gave, with everything the caller
#         gave. Redirects are followed from there each time (WHATWG HTML 9.2.3).
# Rule 2: _redirects.py decides what a redirected request carries, so that nothing secret reaches another origin.
# Rule 3: a response that isn't handed on is closed, and closing isn't interrupted by a cancellation.
# Rule 4: no async generator of httpx's or httpcore's is left to the garbage collector, where trio would warn of it.
# Rule 5: a few compressed bytes can be a great many. httpx decodes what it is given in one go, so of a compressed body
#         it is given little at a time, and of one that was compressed again and again nothing.

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator, Collection
from contextlib import suppress
from dataclasses import dataclass

import anyio
import httpx

from ._caller_headers import CallerHeaders
from ._client_arguments import InvalidURLError
from ._decoder import EventDecoder, ReceivedEvent
from ._network_errors import tls_as_httpx
from ._query import merged_query
from ._redirects import Origin, Redirects

__all__ = ("OpenStream", "StreamRequest", "close", "is_packed_again", "read_head_of_body")

# WHATWG URL 3.1, "forbidden domain code point", as far as httpx leaves them: it has percent-encoded most.
_FORBIDDEN_IN_HOST = frozenset("%<>^|\\ ")
# Control characters, which an id may have and a header's value must not (WHATWG HTML 9.2.6; RFC 9110, 5.5). Browsers
# send all but NUL, as Fetch's "header value" allows. Much that is between us and an application doesn't: h11 refuses to
# send VT and FF, llhttp answers any with 400. One such id would be the end of the stream, so it isn't sent: the server
# begins as for a client that has none, and the caller sees from the events what came again.
_NOT_IN_HEADERS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# As much of a refusal's body as is worth having in an error, in bytes, and the seconds that it may take.
_BODY_BYTES = 65_536
_BODY_SECONDS = 5.0
# TLS may want to say goodbye; a dead peer must not hold us.
_CLOSE_SECONDS = 5.0
# Bytes that are decoded in one go. zlib makes at most 1 MiB of a piece; zstd, whose shortest block has 4 bytes, half of
# that. brotli has no such bound: where it had made 800 bytes of a gigabyte, 16 of them came to 32 MiB.
_PIECE_OF_ZLIB = 1024
_PIECE = 16
# What ends a frame of zstd whose text has been sent already (RFC 8878, 3.1.1.2). No text is in it, and no block with
# text ends so: its last byte is of the text, or of a bit stream, which has its last bit set, or counts no sequences.
_ZSTD_LAST_BLOCK = b"\x01\x00\x00"
# More chunks than a closed connection can have left in its buffer. A transport that goes on for ever is left alone.
_BUFFERED_CHUNKS = 10_000


# No repr(), which a traceback may show: of all this, anything may be secret.
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class StreamRequest:
    """What every connection asks for."""

    client: httpx.AsyncClient
    method: str
    url: httpx.URL
    params: httpx.QueryParams
    headers: CallerHeaders
    content: str | bytes | None
    json: object
    trusted_origins: Collection[Origin]

    @property
    def description(self) -> str:
        """Method and URL without what may be secret, for messages."""
        url = self.client.build_request(self.method, self.url).url
        return f"{self.method} {url.copy_with(username=None, password=None, query=None, fragment=None)}"

    def check(self) -> None:
        """Raise what is wrong with the request already, before anything is sent.

        Raises:
            InvalidURLError: the URL is none. httpx itself lets hosts pass that WHATWG URL forbids, such as "a b", and
                those that no name server could have, such as "a..b".
            TypeError: the body can't be written as JSON.
            ValueError: likewise.
        """
        url = self.build("", httpx.Headers()).url
        if not _FORBIDDEN_IN_HOST.isdisjoint(url.host) or not _can_be_resolved(url):
            raise InvalidURLError("Invalid host")

    def build(self, last_event_id: str, given: httpx.Headers) -> httpx.Request:
        """Return the request of a connection that goes on after ``last_event_id``, with the caller's headers."""
        headers = httpx.Headers({"accept": "text/event-stream", "cache-control": "no-cache"})
        headers.update(given)
        if last_event_id:
            headers.pop("last-event-id", None)  # the caller's: that of a place which is behind us
            # Surrounding blanks are no part of a header's value, and h11 refuses to send them.
            value = last_event_id.encode().strip(b" \t")
            if not _NOT_IN_HEADERS.search(value):
                headers.update([(b"last-event-id", value)])
        timeout = self.client.timeout
        request = self.client.build_request(
            self.method,
            self.url,
            headers=headers,
            content=self.content,
            json=self.json,
            # Silence is no fault of an event stream. What is one, is the business of `idle_timeout`.
            timeout=httpx.Timeout(timeout.connect, read=None, write=timeout.write, pool=timeout.pool),
        )
        # build_request() puts the client's parameters in the place of the URL's own.
        query = merged_query(self.url.query, self.client.params, self.params)
        request.url = request.url.copy_with(query=query or None)
        return request

    async def send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        """Send it, follow redirects, and return the response with its body unread.

        Raises:
            httpx.TransportError: there was no response.
            RedirectRefusedError: a redirect would send the body to another origin.
        """
        with tls_as_httpx():
            return await self._send(last_event_id, headers)

    async def _send(self, last_event_id: str, headers: httpx.Headers) -> httpx.Response:
        request = self.build(last_event_id, headers)
        redirects = Redirects(request, self.trusted_origins)
        response = await self.client.send(request, stream=True, follow_redirects=False)
        for _ in range(self.client.max_redirects):
            # An empty Location would be the same URL again, until the redirects are used up.
            if response.next_request is None or not response.headers["location"].strip():
                break
            await close(response)
            request = redirects.follow(response, response.next_request)
            if not _can_be_resolved(request.url):  # httpx would raise UnicodeError
                raise httpx.RemoteProtocolError(f"Invalid host in Location: {request.url.host!r}", request=request)
            # Without the client's auth, which is for the first origin. What it made is among the headers.
            response = await self.client.send(request, stream=True, auth=None, follow_redirects=False)
        return response


class OpenStream:
    """A response that is an event stream, being decoded."""

    def __init__(self, response: httpx.Response, decoder: EventDecoder) -> None:
        self.decoder = decoder
        self._response = response
        if _codings(response):
            response.stream = _Pieces(response)
        self._chunks = response.aiter_bytes()
        self._is_closed = False

    async def receive(self) -> list[ReceivedEvent]:
        """Wait for bytes, and return the events that ended in them; often none.

        Cancellation, or any other exception: the connection is closed.

        Raises:
            EndOfStream: the server ended the response.
            ClosedResourceError: the connection is closed already.
            httpx.HTTPError: the connection broke.
            EventTooLargeError: the decoder's.
        """
        if self._is_closed:
            raise anyio.ClosedResourceError
        try:
            return self.decoder.feed(await anext(self._chunks))
        except StopAsyncIteration:
            raise anyio.EndOfStream from None
        except ssl.SSLError as exc:  # gets past httpx on asyncio
            await self.aclose()
            raise httpx.ReadError(str(exc)) from exc
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection. Not interrupted by a cancellation."""
        if not self._is_closed:
            self._is_closed = True
            await close(self._response, self._chunks)


async def close(response: httpx.Response, chunks: AsyncIterator[bytes] | None = None) -> None:
    """Close a response and with it its connection. Not interrupted by a cancellation, and bounded in time.

    ``chunks`` is the iterator over its body, if there is one.
    """
    with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
        await response.aclose()
        if chunks is not None:
            await _exhaust(chunks)


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    """End the iteration over the body of a closed response.

    httpx and httpcore nest seven async generators and close none but the outermost. All end only if the innermost
    does, which it does when it is asked to read on: the connection is closed and we are cancelled.
    """
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            for _ in range(_BUFFERED_CHUNKS):
                await anext(chunks)
        except (StopAsyncIteration, httpx.HTTPError, httpx.StreamError, ssl.SSLError):
            pass  # StreamError: nothing had been read yet


async def read_head_of_body(response: httpx.Response) -> None:
    """Read the body of a refusal, as far as it is short and comes soon, and close the response.

    It is decoded then, and has no ``content-encoding`` any more.
    """
    encoding = response.headers.pop("content-encoding", "")
    packed = httpx.Response(response.status_code, headers={"content-encoding": encoding}, stream=response.stream)
    packed.stream = _Pieces(packed)
    chunks, head = packed.aiter_bytes(), bytearray()
    try:
        with anyio.move_on_after(_BODY_SECONDS):
            while len(head) < _BODY_BYTES and not is_packed_again(packed):
                head += await anext(chunks)
    except (StopAsyncIteration, httpx.HTTPError, ssl.SSLError):
        pass  # the refusal itself is the error to be reported
    finally:
        await close(packed, chunks)
    response.stream = httpx.ByteStream(bytes(head[:_BODY_BYTES]))
    await response.aread()


def is_packed_again(response: httpx.Response) -> bool:
    """Whether the body was compressed and the result again, which nobody does who means well."""
    return len(_codings(response)) > 1


def _codings(response: httpx.Response) -> list[str]:
    """Return how the body was compressed, in order (RFC 9110, 8.4)."""
    codings = response.headers.get_list("content-encoding", split_commas=True)
    return [coding for coding in map(str.lower, codings) if coding not in {"", "identity"}]


def _can_be_resolved(url: httpx.URL) -> bool:
    """Whether socket.getaddrinfo() takes its host: it raises UnicodeError for a label that is empty or too long."""
    try:
        url.raw_host.decode("ascii").encode("idna")
    except UnicodeError:
        return False
    return True


class _Pieces(httpx.AsyncByteStream):
    """The body of a response, in pieces of which none can be much when it is decoded."""

    def __init__(self, response: httpx.Response) -> None:
        assert isinstance(response.stream, httpx.AsyncByteStream)
        self._stream = response.stream
        self._chunks = aiter(response.stream)
        sizes = [_PIECE_OF_ZLIB if coding in {"gzip", "deflate"} else _PIECE for coding in _codings(response)]
        self._size = min(sizes, default=_BODY_BYTES)
        self._is_zstd = "zstd" in _codings(response)
        self._rest = memoryview(b"")
        self._tail = b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._take(self._size)
        if self._is_zstd:
            self._tail = (self._tail + piece)[-len(_ZSTD_LAST_BLOCK) :]
            if self._tail == _ZSTD_LAST_BLOCK:
                # httpx 0.28 can't go on after a piece that ended a frame, and there may be frames to come.
                with suppress(StopAsyncIteration):
                    piece += await self._take(1)
                self._tail = piece[-1:]
        return piece

    async def _take(self, size: int) -> bytes:
        while not self._rest:
            self._rest = memoryview(await anext(self._chunks))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)

    async def aclose(self) -> None:
        self._rest = memoryview(b"")
        await self._stream.aclose()
