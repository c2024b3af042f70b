# What stands between what a writer takes and what it sends, where a stream is compressed: its coder.
#
# Rule 1: it is given each body once, in the order in which they are sent, and what it returns is sent. So nothing may
#         be dropped after it, and nothing of the stream goes past it.
# Rule 2: what it returns makes the body decodable at once; for an empty one it returns nothing.
# Rule 3: a stream's own compressor remembers what it has seen, which is most of what compressing an event can bring.
#         Where many subscribers are sent the same, that memory is shared: _compression/shared.py.

from __future__ import annotations

from typing import Protocol

from .._wire.batch import Batch
from .codings import Coding, Compressor, new_compressor

__all__ = ("Coder", "ConnectionCoder")


class Coder(Protocol):
    """Compresses one stream."""

    def encode(self, batch: Batch, /) -> Batch:
        """Return what makes this batch decodable."""
        ...

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last one, and the end of the stream."""
        ...


class ConnectionCoder:
    """A coder with a compressor of its own, which is made with the first body."""

    __slots__ = ("_coding", "_compressor")

    def __init__(self, coding: Coding) -> None:
        self._coding: Coding = coding
        self._compressor: Compressor | None = None

    def encode(self, batch: Batch, /) -> Batch:
        """Return what makes this batch decodable."""
        return Batch(self._made().compress(batch.body)) if batch.body else batch

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last one, and the end of the stream."""
        return self.encode(Batch(last)).body + self._made().finish()

    def _made(self) -> Compressor:
        if self._compressor is None:
            self._compressor = new_compressor(self._coding)
        return self._compressor
