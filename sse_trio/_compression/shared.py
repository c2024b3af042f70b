# Compressed once for all: what the subscribers of a feed are sent, in a coding that allows it.
#
# An event of 150 bytes, compressed by itself, is no smaller than it was: what makes it small is what came before it. So
# it is not enough that a batch is compressed once; what came before has to be shared as well.
#
# Rule 1: a feed has a chain for each coding: one compressor, given everything in the order of the feed, once. A
#         subscriber whose decoder has the chain up to a batch is sent the chain's next link as it is, or the next few.
# Rule 2: every 16 KiB the chain begins anew, with a link that refers to nothing before it. There everybody can join.
# Rule 3: whoever is out of the chain (it has just come, it was sent a ping or a page of history, it fell behind) is
#         sent batches that stand by themselves until then. Where most are, the chain begins anew with the next batch.
# Rule 4: what a subscriber is sent is legal wherever one piece follows another. In gzip the pieces are deflate blocks
#         (RFC 1951 section 3.2.3), between a header and a trailer of the subscriber's own (RFC 1952). In zstd they are
#         blocks (RFC 8878 section 3.1.1.2): those of a piece that refers to nothing begin a frame, and the frame before
#         it is ended with the same write, not sooner: httpx 0.28 can't go on after a write that ended one.

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import pack
from typing import Any, ClassVar, NamedTuple, final
from zlib import crc32

from .._wire.batch import Batch
from .codings import Coding, new_shared_compressor

__all__ = ("Chain", "SharedCoder", "new_shared_coder")

CHAIN_BYTES = 16_384
"""Text after which a chain begins anew: a twentieth more bytes than one without end, and gone within a second or so of
a feed that is worth compressing."""
KEPT_LINKS = 32
"""For those who are a few batches behind the others, as in any order somebody is."""
KEPT_BYTES = 65_536
"""Of their pieces, or only the latest one: events may be large, and the ring has let go of them long since."""

GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"  # deflate; no flags, no time; of an unknown system
DEFLATE_LAST_BLOCK = b"\x03\x00"  # with nothing in it
ZSTD_LAST_BLOCK = b"\x01\x00\x00"  # likewise
ZSTD_EMPTY_FRAME = b"\x28\xb5\x2f\xfd\x20\x00"  # without its last block


class Link(NamedTuple):
    """What a compressor made of the batch between two cursors, given what it had seen before."""

    start: int
    end: int
    size: int
    """Of the batch, in bytes."""
    is_first: bool
    """Whether it refers to nothing before it."""
    piece: Batch


@final
class Chain:
    """What one coding makes of a feed."""

    __slots__ = ("_compressor", "_end", "_followed", "_links", "_missed", "_size")

    def __init__(self, coding: Coding) -> None:
        self._compressor = new_shared_compressor(coding)
        self._links: list[Link] = []  # the latest, one after another
        self._end = -1
        self._size = 0  # since the last that was a first one
        self._followed = self._missed = 0

    def follow(self, batch: Batch, *, at: int) -> list[Link]:
        """Return what makes this batch of the feed of one whose decoder has the chain up to the cursor ``at``.

        Nothing if that one can't go on with the chain, and has to be sent the batch by itself.
        """
        if batch.end != self._end:
            self._go_on(batch.body, batch.start, batch.end)
        links = self._since(batch.start)
        if links and (at == batch.start or links[0].is_first):
            self._followed += 1
            return links
        self._missed += 1
        return []

    def _go_on(self, body: bytes, start: int, end: int) -> None:
        if start > self._end:
            self._links.clear()  # between them was something that nobody wanted in this coding
        elif start < self._end:
            known = self._since(start)
            if not known:
                return
            start, body = self._end, body[sum([link.size for link in known]) :]
        self._add_link(body, start, end)

    def _add_link(self, body: bytes, start: int, end: int) -> None:
        is_first = not self._links or self._size >= CHAIN_BYTES or self._missed > self._followed
        if is_first:
            self._compressor.restart()
            self._size = 0
        self._links.append(Link(start, end, len(body), is_first, Batch(self._compressor.compress(body))))
        self._forget_oldest()
        self._size += len(body)
        self._end = end
        self._followed = self._missed = 0

    def _forget_oldest(self) -> None:
        links = self._links
        while len(links) > KEPT_LINKS or (links[1:] and sum([len(link.piece.body) for link in links]) > KEPT_BYTES):
            del links[0]

    def _since(self, start: int) -> list[Link]:
        # Nearly everybody wants the latest, and hardly anybody more than a few.
        for n in range(1, len(self._links) + 1):
            if self._links[-n].start <= start:
                return self._links[-n:] if self._links[-n].start == start else []
        return []


class SharedCoder(ABC):
    """The coder of one subscriber: puts together what is the same for many."""

    __slots__ = ("_at", "_has_begun")

    coding: ClassVar[Coding]
    first: ClassVar[bytes]
    """What comes before the first piece."""
    between: ClassVar[bytes]
    """What comes before any other piece that refers to nothing before it."""
    empty: ClassVar[bytes]
    """What comes before the trailer of a stream of nothing."""

    def __init__(self) -> None:
        self._at = -1  # the cursor up to which its decoder has the chain
        self._has_begun = False

    def encode(self, batch: Batch, /) -> Batch:
        """Return what makes this batch decodable."""
        if not batch.body:
            return batch
        self._note(batch.body)
        if batch.ring is None:
            self._at = -1
            return self._alone(batch)
        links = self._chain_of(batch.ring).follow(batch, at=self._at)
        if not links:  # and no other link will begin at the place that it has left
            return self._alone(batch)
        self._at = batch.end
        if len(links) == 1 and not links[0].is_first:
            return links[0].piece  # the same for all
        return Batch(
            b"".join([self._begin() + link.piece.body if link.is_first else link.piece.body for link in links])
        )

    def _alone(self, batch: Batch) -> Batch:
        if batch.coded is None or batch.coded[0] != self.coding:
            batch.coded = (self.coding, new_shared_compressor(self.coding).compress(batch.body))
        return Batch(self._begin() + batch.coded[1])

    def _chain_of(self, ring: dict[str, Any]) -> Chain:
        chain: Chain | None = ring.get(self.coding)
        if chain is None:
            chain = ring[self.coding] = Chain(self.coding)
        return chain

    def _begin(self) -> bytes:
        # What comes before a piece that refers to nothing.
        has_begun, self._has_begun = self._has_begun, True
        return self.between if has_begun else self.first

    def finish(self, last: bytes, /) -> bytes:
        """Return the same for the last one, and the end of the stream."""
        coded = self.encode(Batch(last)).body
        return (coded if self._has_begun else self.empty) + self._trailer()

    @abstractmethod
    def _note(self, body: bytes) -> None:
        """Take note of a body."""

    @abstractmethod
    def _trailer(self) -> bytes:
        """Return what comes last."""


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
    """Return a coder for a subscriber, of one of SHARED_CODINGS."""
    return _SharedGzip() if coding == "gzip" else _SharedZstd()
