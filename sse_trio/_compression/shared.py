# One compressor for all who are sent the same events, so that a batch is compressed once for all of them.
#
# An event of 150 bytes doesn't become smaller when it is compressed alone: it becomes small because the compressor has
# seen the events before it. So subscribers share the compressor's memory of earlier events too.
#
# Rule 1: a topic (or a choice of several) has one SharedCompressor for each coding. It compresses its events in order
#         and makes a segment of each batch. A subscriber whose decoder has every segment up to a batch is sent the next
#         segments as they are.
# Rule 2: the compressor restarts every 16 KiB, with a standalone segment, which refers to nothing before it. Any
#         subscriber can go on from there.
# Rule 3: until then, a subscriber whose decoder lacks a segment (it has just joined, was sent a ping, a page of history
#         or an event of another compressor, or fell behind) is sent standalone batches. If most subscribers are, the
#         compressor restarts with the next batch.
# Rule 4: segments and standalone batches may follow each other in any order. In gzip they are deflate blocks (RFC 1951
#         section 3.2.3) between each subscriber's own header and trailer (RFC 1952). In zstd they are blocks (RFC 8878
#         section 3.1.1.2). A standalone one begins a frame, and the same write ends the frame before it. No earlier
#         write may end it: httpx 0.28 can't go on after a write that ended a frame.

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import pack
from typing import Any, ClassVar, NamedTuple, final
from zlib import crc32

from .._wire.batch import Batch
from .codings import Coding, new_raw_compressor

__all__ = ("SharedCoder", "SharedCompressor", "new_shared_coder")

RESTART_BYTES = 16_384
"""How much text is compressed between two restarts. Costs a twentieth more bytes than never restarting; a topic that
is worth compressing gets there within a second or so."""
KEPT_SEGMENTS = 32
"""How many segments are kept for subscribers that are a few batches behind the others."""
KEPT_BYTES = 65_536
"""How many bytes of segments are kept, or only the latest segment: events may be large, and the ring has let go of them
long before."""

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate; no flags, no time; of an unknown system
DEFLATE_LAST_BLOCK = b"\x03\x00"  # an empty one
ZSTD_LAST_BLOCK = b"\x01\x00\x00"  # an empty one
ZSTD_EMPTY_FRAME = b"\x28\xb5\x2f\xfd\x20\x00"  # without its last block


class Segment(NamedTuple):
    """A batch between two places, compressed after the segments before it."""

    start: int
    end: int
    size: int
    """The batch's size in bytes before compression."""
    is_standalone: bool
    """Whether it refers to nothing before it."""
    compressed: Batch


@final
class SharedCompressor:
    """Compresses the events of a topic in one coding."""

    __slots__ = ("_compressor", "_end", "_missed", "_segments", "_size", "_used")

    def __init__(self, coding: Coding) -> None:
        self._compressor = new_raw_compressor(coding)
        self._segments: list[Segment] = []  # the latest, each beginning where the one before it ends
        self._end = -1
        self._size = 0  # text since the last restart
        self._used = self._missed = 0  # subscribers that could and could not use the latest segment

    def segments_for(self, batch: Batch, *, at: int) -> list[Segment]:
        """Return the segments of this batch, for a decoder that has every segment up to the place ``at``.

        Returns an empty list if the decoder can't go on with them and needs a standalone batch.
        """
        if batch.end != self._end:
            self._extend(batch.body, batch.start, batch.end)
        segments = self._since(batch.start)
        if segments and (at == batch.start or segments[0].is_standalone):
            self._used += 1
            return segments
        self._missed += 1
        return []

    def _extend(self, body: bytes, start: int, end: int) -> None:
        if start > self._end:
            self._segments.clear()  # no subscriber took what lies between in this coding
        elif start < self._end:
            known = self._since(start)
            if not known:
                return
            start, body = self._end, body[sum([segment.size for segment in known]) :]
        self._add_segment(body, start, end)

    def _add_segment(self, body: bytes, start: int, end: int) -> None:
        restarts = not self._segments or self._size >= RESTART_BYTES or self._missed > self._used
        if restarts:
            self._compressor.restart()
            self._size = 0
        self._segments.append(Segment(start, end, len(body), restarts, Batch(self._compressor.compress(body))))
        self._forget_oldest()
        self._size += len(body)
        self._end = end
        self._used = self._missed = 0

    def _forget_oldest(self) -> None:
        segments = self._segments
        while len(segments) > KEPT_SEGMENTS or (
            segments[1:] and sum([len(segment.compressed.body) for segment in segments]) > KEPT_BYTES
        ):
            del segments[0]

    def _since(self, start: int) -> list[Segment]:
        # Searched from the end: nearly all subscribers want the latest segment, and few want more than some.
        for n in range(1, len(self._segments) + 1):
            if self._segments[-n].start <= start:
                return self._segments[-n:] if self._segments[-n].start == start else []
        return []


class SharedCoder(ABC):
    """The coder of one subscriber: joins shared segments and standalone batches into one legal stream."""

    __slots__ = ("_at", "_compressors", "_has_begun")

    coding: ClassVar[Coding]
    first: ClassVar[bytes]
    """Bytes before the first segment or batch."""
    between: ClassVar[bytes]
    """Bytes before every later standalone segment or batch."""
    empty: ClassVar[bytes]
    """Bytes before the trailer of an empty stream."""

    def __init__(self) -> None:
        self._at = -1  # the place up to which its decoder has every segment; -1 if it lacks one
        self._compressors: dict[str, Any] | None = None  # those that made the segments
        self._has_begun = False

    def encode(self, batch: Batch, /) -> Batch:
        """Return the bytes that let the client decode this batch at once."""
        if not batch.body:
            return batch
        self._note(batch.body)
        compressors = batch.compressors
        if compressors is None or compressors is not self._compressors:
            self._at, self._compressors = -1, compressors
        if compressors is None:
            return self._standalone(batch)
        segments = self._compressor_of(compressors).segments_for(batch, at=self._at)
        if not segments:  # `_at` may stay: no later segment begins at this place
            return self._standalone(batch)
        self._at = batch.end
        if len(segments) == 1 and not segments[0].is_standalone:
            return segments[0].compressed  # one object for all subscribers
        return Batch(b"".join([self._written(segment) for segment in segments]))

    def _written(self, segment: Segment) -> bytes:
        body = segment.compressed.body
        return self._begin() + body if segment.is_standalone else body

    def _standalone(self, batch: Batch) -> Batch:
        if batch.coded is None or batch.coded[0] != self.coding:
            batch.coded = (self.coding, new_raw_compressor(self.coding).compress(batch.body))
        return Batch(self._begin() + batch.coded[1])

    def _compressor_of(self, compressors: dict[str, Any]) -> SharedCompressor:
        compressor: SharedCompressor | None = compressors.get(self.coding)
        if compressor is None:
            compressor = compressors[self.coding] = SharedCompressor(self.coding)
        return compressor

    def _begin(self) -> bytes:
        # The bytes before a standalone segment or batch.
        has_begun, self._has_begun = self._has_begun, True
        return self.between if has_begun else self.first

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last body, and the end of the compressed stream."""
        coded = self.encode(Batch(last)).body
        return (coded if self._has_begun else self.empty) + self._trailer()

    @abstractmethod
    def _note(self, body: bytes) -> None:
        """Count a body for the trailer."""

    @abstractmethod
    def _trailer(self) -> bytes:
        """Return the last bytes of the stream."""


@final
class _SharedGzip(SharedCoder):
    __slots__ = ("_crc", "_size")

    coding: ClassVar[Coding] = "gzip"
    first = empty = GZIP_HEADER
    between = b""

    def __init__(self) -> None:
        super().__init__()
        self._crc = self._size = 0

    def _note(self, body: bytes) -> None:
        self._crc = crc32(body, self._crc)
        self._size += len(body)

    def _trailer(self) -> bytes:
        return DEFLATE_LAST_BLOCK + pack("<II", self._crc, self._size & 0xFFFF_FFFF)


@final
class _SharedZstd(SharedCoder):
    __slots__ = ()

    coding: ClassVar[Coding] = "zstd"
    first = b""
    between = ZSTD_LAST_BLOCK
    empty = ZSTD_EMPTY_FRAME

    def _note(self, body: bytes) -> None:
        pass

    def _trailer(self) -> bytes:
        return ZSTD_LAST_BLOCK


def new_shared_coder(coding: Coding) -> SharedCoder:
    """Return a subscriber's coder, for one of SHARED_CODINGS."""
    return _SharedGzip() if coding == "gzip" else _SharedZstd()
