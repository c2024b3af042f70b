# The coder of a compressed stream. It stands between the writer and the server.
#
# Rule 1: the coder gets every body of the stream once, in order, and everything it returns is sent. So nothing may be
#         dropped after it or bypass it.
# Rule 2: the client can decode each body at once. For an empty body the coder returns nothing.
# Rule 3: most of the gain comes from the compressor's memory of earlier events. Subscribers that are sent the same
#         events share that memory: _compression/shared.py.

from __future__ import annotations

from typing import Protocol

from .._wire.batch import Batch
from .codings import Coding, Compressor, new_compressor

__all__ = ("Coder", "ConnectionCoder")


class Coder(Protocol):
    """Compresses one stream."""

    def encode(self, batch: Batch, /) -> Batch:
        """Return the bytes that let the client decode this batch at once."""
        ...

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last body, and the end of the compressed stream."""
        ...


class ConnectionCoder:
    """A coder with its own compressor, which is made for the first body."""

    __slots__ = ("_coding", "_compressor")

    def __init__(self, coding: Coding) -> None:
        self._coding: Coding = coding
        self._compressor: Compressor | None = None

    def encode(self, batch: Batch, /) -> Batch:
        """Return the bytes that let the client decode this batch at once."""
        return Batch(self._made().compress(batch.body)) if batch.body else batch

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last body, and the end of the compressed stream."""
        return self.encode(Batch(last)).body + self._made().finish()

    def _made(self) -> Compressor:
        if self._compressor is None:
            self._compressor = new_compressor(self._coding)
        return self._compressor
