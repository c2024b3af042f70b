# Batch: what a writer gives to the server in one message, and what has been made of it for other streams already.
#
# Rule 1: a batch never changes what it says. It is made once and may be written by many streams, in several threads.
# Rule 2: what is made of it (its chunk, its compressed form) is kept in it, so that it is made once for all of them.

from __future__ import annotations

from typing import Any

__all__ = ("Batch",)


class Batch:
    """The bytes of one or more events, to be written together.

    Args:
        body: the bytes.
        ring: for a hub's batch, what is kept for everybody who reads along: see ``_compression/shared.py``.
        start, end: the cursors in that ring between which the events lie.
    """

    __slots__ = ("_chunk", "body", "coded", "end", "ring", "start")

    def __init__(self, body: bytes, ring: dict[str, Any] | None = None, start: int = -1, end: int = -1) -> None:
        self.body: bytes = body
        self.ring: dict[str, Any] | None = ring
        self.start: int = start
        self.end: int = end
        self.coded: tuple[str, bytes] | None = None
        """A content coding, and the body compressed by itself."""
        self._chunk: bytes | None = None

    def chunk(self) -> bytes:
        """Return the body as a chunk of HTTP/1.1 (RFC 9112 section 7.1)."""
        chunk = self._chunk
        if chunk is None:
            chunk = self._chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body)
        return chunk
