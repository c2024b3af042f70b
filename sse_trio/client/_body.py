# The body of an HTTP answer: read piece by piece, decompressed, decoded into events, and closed.
#
# Rule 1: the work between two checkpoints is bounded, whatever the server sends: many tiny chunks, or a few that
#         decompress to gigabytes. A piece that is there without waiting counts as work.
# Rule 2: if the body ends before its compressed data does, it was cut off, whichever coding it has.
# Rule 3: a cancellation doesn't interrupt closing, and closing is bounded in time. httpx closes a response itself at
#         the end of its body, so the stream in the response is wrapped: httpcore forgets a connection whose closing was
#         interrupted, and its place in the pool stays taken.
# Rule 4: no async generator of httpx or httpcore is left to the garbage collector, because trio would warn of it.

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from functools import partial

import anyio
import httpx
from anyio.lowlevel import checkpoint

from .._loops.uninterrupted import uninterrupted
from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from ._decompression import LIMIT, DecompressionError, Decompressor, codings_of, open_decompressor
from ._http2 import close_unknown

__all__ = ("Body", "ClosingStream", "OpenStream", "close", "codings_of_response", "was_read", "why_undecodable")

# Bytes between two checkpoints. Each piece counts as this many bytes more, because going through httpx's layers takes
# about as long as decoding them.
_SLICE = LIMIT
_PIECE_COST = 2048
# TLS may send a close alert; a dead peer must not hold us.
_CLOSE_SECONDS = 5.0
# More chunks than a closed connection can still have buffered, and the chunks dropped between two checkpoints. A
# transport that never ends is left alone.
_BUFFERED_CHUNKS = 10_000
_DROPPED_AT_ONCE = 50


class Body:
    """The body of a response, in pieces of about 64 KiB at most; decompressed unless ``raw``."""

    def __init__(self, response: httpx.Response, *, raw: bool = False) -> None:
        self._response = response
        is_plain = was_read(response)
        self._chunks = response.aiter_bytes() if is_plain else response.aiter_raw()
        self._coding = "" if raw or is_plain else "".join(codings_of_response(response))
        self._decompressor: Decompressor | None = open_decompressor(self._coding) if self._coding else None
        self._text = memoryview(b"")
        self._work = 0
        self._is_closed = False

    async def read(self) -> bytes:
        """Wait for bytes if there are none, and return some of them, decompressed. May be b"".

        A cancellation point always, and a checkpoint at least once for each 64 KiB. Cancellation, or any other
        exception: the connection is closed.

        Raises:
            EndOfStream: the server ended the response.
            ClosedResourceError: the body is closed already.
            httpx.HTTPError: the connection broke, or the body can't be decompressed.
        """
        if self._is_closed:
            raise anyio.ClosedResourceError
        try:
            await self._pace()
            if not self._text:
                self._text = memoryview(await self._next_text())
        except StopAsyncIteration:
            raise self._end() from None
        except ssl.SSLError as exc:  # on asyncio, httpx doesn't convert it
            await self.aclose()
            raise httpx.ReadError(str(exc)) from exc
        except BaseException:
            await self.aclose()
            raise
        piece, self._text = self._text[:LIMIT], self._text[LIMIT:]
        self._work += len(piece) + _PIECE_COST
        return bytes(piece)

    async def aclose(self) -> None:
        """Close the connection. Not interrupted by a cancellation."""
        if not self._is_closed:
            self._is_closed = True
            self._text = memoryview(b"")
            await close(self._response, self._chunks)

    async def _pace(self) -> None:
        if self._work >= _SLICE:
            self._work = 0
            await checkpoint()

    async def _next_text(self) -> bytes:
        decompressor = self._decompressor
        if decompressor is None:
            return await anext(self._chunks)
        try:
            text = decompressor.read()
            if text is None:
                decompressor.feed(await anext(self._chunks))
                text = decompressor.read()
        except DecompressionError as exc:
            raise httpx.DecodingError(str(exc), request=self._response.request) from exc
        return text or b""

    def _end(self) -> Exception:
        if self._decompressor is None or self._decompressor.is_whole:
            return anyio.EndOfStream()
        return httpx.RemoteProtocolError(
            f"the body ended in the middle of its {self._coding} data", request=self._response.request
        )


class ClosingStream(httpx.AsyncByteStream):
    """The stream of a response, closed without interruption, whoever closes it."""

    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._stream.__aiter__()

    async def aclose(self) -> None:
        """Close it; see uninterrupted()."""
        await uninterrupted(self._stream.aclose)


class OpenStream:
    """A response that is an event stream, being decoded."""

    def __init__(self, response: httpx.Response, decoder: EventDecoder) -> None:
        self.decoder = decoder
        self._body = Body(response)

    async def receive(self) -> list[ReceivedEvent]:
        """Wait for bytes, and return the events that ended in them; often none.

        Cancellation, or any other exception: the connection is closed.

        Raises:
            EndOfStream: the server ended the response.
            ClosedResourceError: the connection is closed already.
            httpx.HTTPError: the connection broke.
            EventTooLargeError: the decoder's.
        """
        data = await self._body.read()
        try:
            return self.decoder.feed(data)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connection. Not interrupted by a cancellation."""
        await self._body.aclose()


async def close(response: httpx.Response, chunks: AsyncIterator[bytes] | None = None) -> None:
    """Close a response and with it its connection. Not interrupted by a cancellation, and bounded in time.

    ``chunks`` is the iterator over its body, if there is one.
    """
    await uninterrupted(partial(_close, response, chunks))


async def _close(response: httpx.Response, chunks: AsyncIterator[bytes] | None) -> None:
    with anyio.move_on_after(_CLOSE_SECONDS):
        was_open = not response.is_closed
        await response.aclose()
        if was_open:
            await close_unknown(response)
        if chunks is not None:
            await _exhaust(chunks)


async def _exhaust(chunks: AsyncIterator[bytes]) -> None:
    """End the iteration over the body of a closed response.

    httpx and httpcore nest six async generators and close only the outermost. The others end only if the innermost
    does, and it ends when it reads on: the connection is closed, and we are cancelled.
    """
    for _ in range(_BUFFERED_CHUNKS // _DROPPED_AT_ONCE):
        with anyio.CancelScope() as scope:
            scope.cancel()
            try:
                for _ in range(_DROPPED_AT_ONCE):
                    await anext(chunks)
            except (StopAsyncIteration, httpx.HTTPError, httpx.StreamError, ssl.SSLError):
                return  # StreamError: nothing had been read yet
        if scope.cancelled_caught:
            return
        await checkpoint()


def why_undecodable(response: httpx.Response) -> str:
    """Return why the body of an answer can't be decompressed, as the end of a sentence; "" if it can."""
    codings = codings_of_response(response)
    if len(codings) > 1:
        return "that was compressed more than once, so that a few bytes could be gigabytes"
    try:
        for coding in codings:
            open_decompressor(coding)
    except LookupError:
        return f"whose content-encoding {codings[0]!r} can't be decoded; it can be gzip, deflate, br or zstd"
    except ImportError as exc:
        return f"whose content-encoding {codings[0]!r} needs {exc.name}; install sse-trio[compress]"
    return ""


def was_read(response: httpx.Response) -> bool:
    """Whether a hook of the client has read the body. The response has all of it then, decompressed.

    The connection may serve another request by now, so nothing must be read from it again.
    """
    try:
        _ = response.content
    except httpx.ResponseNotRead:
        return False
    return True


def codings_of_response(response: httpx.Response) -> list[str]:
    """Return the codings of the body, in the order they were applied."""
    return codings_of(response.headers.get_list("content-encoding", split_commas=True))
