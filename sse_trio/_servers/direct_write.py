# Direct writes: the body of an event stream's message is written to the idle connection itself, past the server's
# `send`.
#
# A server's `send` costs more than the rest of a delivery: eight times as much on hypercorn's trio worker. For one more
# chunk of a response that has begun, all it does is frame the chunk and write it.
#
# Rule 1: `try_write` writes all of a body, or returns False, and then exactly that body has to be sent. It never waits.
# Rule 2: `send` finishes what a direct write began: if the socket took a part of the chunk, the message with the same
#         body writes the remainder of the chunk and nothing more. So the order, one write at a time (C4), and what
#         happens to a client that takes nothing (C11) are the same as for any other send.
# Rule 3: what lies between the response and the server may change bodies, or hold them back. So before a body may be
#         written directly, the one before it must have arrived here as the same object, and must have been written.
#         Where nobody is in between (nobody_between.py), begin() allows the first one.
# Rule 4: a chunk is one of HTTP/1.1 (RFC 9112 section 7.1). The subclass for a server knows whether the response is
#         made of chunks.

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from .._wire.batch import Batch

__all__ = ("DirectWriter",)


class DirectWriter(ABC):
    """Direct writes for one response, and the ``send`` of the application, which takes turns with them.

    Args:
        send: the server's ``send``.
    """

    __slots__ = ("_is_open", "_is_unchanged", "_refused", "_remainder", "_send", "_sending")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._refused: bytes | None = None  # the last body that was refused, until it is sent
        self._is_unchanged = False  # the last body that was sent had been refused here, so it came through unchanged
        self._is_open = False
        self._sending = 0
        self._remainder = b""

    # --- what a server's subclass does

    @property
    @abstractmethod
    def is_in_chunks(self) -> bool:
        """Whether the response has begun, and is made of chunks."""

    @abstractmethod
    def write_nowait(self, chunk: bytes, /) -> int:
        """Write as much of the chunk as goes without waiting, and return how much that was.

        Also 0 if the response has ended, the server is writing, or the client is gone. Never raises.
        """

    async def write_remainder(self, remainder: bytes, /) -> None:
        """Write the remainder of a chunk of which ``write_nowait`` wrote a part.

        Raises:
            BrokenResourceError: the client is gone.
        """
        raise NotImplementedError

    # --- what a stream and its application do

    def begin(self) -> None:
        """Allow a direct write from now on: the head was sent, and nobody is in between who may change a body."""
        self._is_open = self.is_in_chunks

    def try_write(self, batch: Batch, /) -> bool:
        """Write the batch, or refuse it: then its body has to be sent. Never raises."""
        if not batch.body:
            return False  # a chunk of no bytes is the end of the response
        if self._is_open:
            chunk = batch.chunk()
            taken = self.write_nowait(chunk)
            if taken == len(chunk):
                return True
            self._cut_short(chunk, taken)
        self._refused = batch.body
        return False

    def try_event(self, body: bytes, /) -> bool:
        """Write an event that no other stream shares, or refuse it: then this body has to be sent. Never raises."""
        if self._is_open:
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            taken = self.write_nowait(chunk)
            if taken == len(chunk):
                return True
            self._cut_short(chunk, taken)
        self._refused = body
        return False

    def _cut_short(self, chunk: bytes, taken: int) -> None:
        if taken:
            self._remainder = chunk[taken:]
        self._is_open = False

    async def send(self, message: Message) -> None:
        """Be the server's ``send``, for the application."""
        self._sending += 1
        self._is_open = False
        try:
            if not await self._is_finished(message):
                await self._send(message)
        finally:
            self._sending -= 1
        # Not after an exception: then it is unknown what of the message was written.
        self._is_open = self._is_unchanged and self._refused is None and not self._sending and self.is_in_chunks

    async def _is_finished(self, message: Message) -> bool:
        # Whether the message needed no more than the remainder of its chunk.
        remainder, self._remainder = self._remainder, b""
        if remainder:
            await self.write_remainder(remainder)
        body = message.get("body")
        if not body:
            return False
        self._is_unchanged = body is self._refused
        if self._is_unchanged:
            self._refused = None
        return self._is_unchanged and bool(remainder)
