# Batch: the bytes that a writer gives to the server in one message, with the forms of them that streams can share.
#
# Rule 1: the body of a batch never changes. Many streams may write the same batch, in several threads.
# Rule 2: a form that is made of the body (a chunk, a compressed form) is kept here, so it is made once for all streams.

from __future__ import annotations

from typing import Any

__all__ = ("Batch",)


class Batch:
    """The bytes of one or more events, to be written together.

    Args:
        body: the bytes.
        compressors: for a batch of a hub, the compressors that its subscribers share, by coding: see
            ``_compression/shared.py``.
        start, end: for a batch of a hub, its events are those after the place ``start`` and up to ``end``.
    """

    __slots__ = ("_chunk", "body", "coded", "compressors", "end", "start")

    def __init__(self, body: bytes, compressors: dict[str, Any] | None = None, start: int = -1, end: int = -1) -> None:
        self.body: bytes = body
        self.compressors: dict[str, Any] | None = compressors
        self.start: int = start
        self.end: int = end
        self.coded: tuple[str, bytes] | None = None
        """A content coding, and the body compressed in it as a standalone batch."""
        self._chunk: bytes | None = None

    def chunk(self) -> bytes:
        """Return the body as a chunk of HTTP/1.1 (RFC 9112 section 7.1)."""
        chunk = self._chunk
        if chunk is None:
            chunk = self._chunk = b"%x\r\n%b\r\n" % (len(self.body), self.body)
        return chunk
