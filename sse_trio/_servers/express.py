# The express lane: the body of an event stream's message, written to the idle connection itself, past the server.
#
# A server's `send` costs more than all the rest of a delivery: on hypercorn's trio worker eight times as much. What it
# does for one more chunk of a response that has begun is to frame it and to write it.
#
# Rule 1: `try_write` writes all of a body, or answers False, and then that very body has to be sent. It never waits.
# Rule 2: what a write began, `send` finishes: if the socket took a part of the chunk, then the message that brings this
#         body writes the rest of it and nothing else. So order, one write at a time (C4), and what becomes of a client
#         that takes nothing (C11) are those of any send.
# Rule 3: what lies between the response and the server may change bodies, or hold them back. So a body that was sent
#         must have come out here, as the same object, and been written, before the next one may take the lane.
# Rule 4: it is a chunk of HTTP/1.1 (RFC 9112 section 7.1). The carrier knows whether the response is made of these.

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from .._wire.batch import Batch

__all__ = ("Carrier", "ExpressLane")


class Carrier(Protocol):
    """What carries the chunks of one response: a server's connection, known by what it is."""

    @property
    def is_in_chunks(self) -> bool:
        """Whether its response has begun, and is made of chunks."""
        ...

    def write_nowait(self, chunk: bytes, /) -> int:
        """Write as much of the chunk as goes without waiting, and return how much that was.

        0 as well where the response has ended, the server is writing itself, or the client is gone. Never raises.
        """
        ...

    async def write_rest(self, rest: bytes, /) -> None:
        """Write the rest of a chunk, before anything the server writes. BrokenResourceError: the client is gone."""
        ...


class ExpressLane:
    """The way past the server's ``send`` for one response, and that ``send``, which knows of it.

    Args:
        carrier: the server's connection.
        send: the server's ``send``.
    """

    __slots__ = ("_carrier", "_is_clear", "_is_open", "_offered", "_rest", "_send", "_sending")

    def __init__(self, carrier: Carrier, send: Send) -> None:
        self._carrier = carrier
        self._send = send
        self._offered: bytes | None = None  # the last body that was refused, until it is sent
        self._is_clear = False  # the last one that was sent had been offered, so nobody has changed it
        self._is_open = False
        self._sending = 0
        self._rest = b""

    def try_write(self, batch: Batch, /) -> bool:
        """Write the batch, or refuse it: then its body has to be sent."""
        if not batch.body:
            return False  # a chunk of no bytes is the end of the response
        if self._is_open:
            chunk = batch.chunk()
            taken = self._carrier.write_nowait(chunk)
            if taken == len(chunk):
                return True
            if taken:
                self._rest = chunk[taken:]
            self._is_open = False
        self._offered = batch.body
        return False

    async def send(self, message: Message) -> None:
        """Be the server's ``send``, for the application."""
        self._sending += 1
        self._is_open = False
        try:
            if not await self._is_written(message):
                await self._send(message)
        finally:
            self._sending -= 1
        # Not after an exception: nobody knows what of the message was written.
        self._is_open = self._is_clear and self._offered is None and not self._sending and self._carrier.is_in_chunks

    async def _is_written(self, message: Message) -> bool:
        # Whether it brings a body of which the rest only had to be written.
        rest, self._rest = self._rest, b""
        if rest:
            await self._carrier.write_rest(rest)
        body = message.get("body")
        if not body:
            return False
        self._is_clear = body is self._offered
        if self._is_clear:
            self._offered = None
        return self._is_clear and bool(rest)
