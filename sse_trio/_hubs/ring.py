# A ring: the latest events of one topic, or of everything below one prefix, as bytes.
#
# Rule 1: an event is encoded once, for all rings and all subscribers. A subscriber is a cursor: the place (timeline.py)
#         up to which it has seen everything.
# Rule 2: a ring holds every event of its topic that is newer than the place `floor`, in order, and nothing older. A
#         subscriber that has to go on from before `floor` reads the store, so none loses what the ring lets go of.
#         Only the events of a topic that was deleted, and those that have expired, are missing from it: the store has
#         none of them either.
# Rule 3: a batch is joined once for all subscribers that take the same events, whatever other topics they have chosen.

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple, Protocol, final

from .._loops.loop import Parked
from .._wire.batch import Batch
from ..stores._protocol import StoredEvent

__all__ = ("Reader", "Ring", "RingBatch", "RingLimits")


class RingLimits(NamedTuple):
    """How much a ring holds."""

    events: int
    bytes: int


class Reader(Protocol):
    """A subscriber's position, as it is woken."""

    cursor: int
    """The place up to which it has seen everything."""

    @property
    def receiver(self) -> Parked | None:
        """The receiver to wake; None while the subscriber doesn't wait."""
        ...


@final
class RingBatch(Batch):
    """A batch of everything that a ring, or several, have after some place.

    Any subscriber can take it whose cursor is at ``start`` or later and before ``first``.
    """

    __slots__ = ("count", "first", "has_mark")

    def __init__(
        self,
        body: bytes,
        compressors: dict[str, Any] | None,
        start: int,
        first: int,
        end: int,
        count: int,
        *,
        has_mark: bool,
    ) -> None:
        super().__init__(body, compressors, start, end)
        self.first: int = first
        """The place of its first event; ``start`` is that of the event before it."""
        self.count: int = count
        """How many events it has."""
        self.has_mark: bool = has_mark
        """Whether one of its events may be a mark, such as that of the end of a run."""


@final
class Ring:
    """The latest events of one pattern."""

    __slots__ = (
        "_chunks",
        "_events",
        "_limits",
        "_places",
        "_size",
        "batch",
        "compressors",
        "cuts",
        "end",
        "floor",
        "newest_mark",
        "pattern",
        "readers",
        "subscribers",
        "total",
    )

    def __init__(self, pattern: str, place: int, limits: RingLimits) -> None:
        self.pattern: str = pattern
        """A topic, or a prefix with its ``*``."""
        self._limits = limits
        self._places: list[int] = []
        self._events: list[StoredEvent] = []
        self._chunks: list[bytes] = []
        self._size = 0
        self.floor: int = place
        self.end: int = place
        """The place of the newest event, or ``floor`` while there is none."""
        self.newest_mark: int = -1
        """The place of the newest event that may be a mark: its payload begins with a colon, as a comment's does."""
        self.total: int = 0
        """Events that it has ever got."""
        self.cuts: int = 0
        """How often events were taken out of it from between others: what was joined before must not be sent."""
        self.batch: RingBatch | None = None
        """The latest batch: everything from some place to the end. None once another event has come."""
        self.compressors: dict[str, Any] = {}
        """The compressors that its subscribers share, by coding: see ``_compression/shared.py``."""
        self.readers: dict[Reader, None] = {}
        """The index by which readers are woken. A dict, because it keeps their order and lets one leave at once."""
        self.subscribers: int = 0
        """Those of every feed that it is a part of."""

    def append(self, event: StoredEvent, chunk: bytes, place: int) -> None:
        """Add the next event, and let go of the oldest when there are too many."""
        self._places.append(place)
        self._events.append(event)
        self._chunks.append(chunk)
        self._size += len(chunk)
        self.total += 1
        self.end = place
        self.batch = None
        # In blocks: taking one off the front of a list costs as much as taking many.
        if len(self._chunks) >= 2 * self._limits.events:
            self._let_go(len(self._chunks) - self._limits.events)
        while self._size > self._limits.bytes and len(self._chunks) > 1:
            self._let_go((len(self._chunks) + 1) // 2)

    def reset(self, place: int) -> None:
        """Hold nothing, as events may be missing from it."""
        if self._chunks:
            self._let_go(len(self._chunks))
        self.floor = self.end = place
        self.batch = None

    def purge(self, topic: str) -> None:
        """Hold nothing of this topic any more. Its other events stay, and ``append()`` follows at once."""
        kept = [index for index, event in enumerate(self._events) if event.topic != topic]
        self._places = [self._places[index] for index in kept]
        self._events = [self._events[index] for index in kept]
        self._chunks = [self._chunks[index] for index in kept]
        self._size = sum(map(len, self._chunks))
        self.cuts += 1
        self.compressors = {}  # the shared ones keep what they have compressed

    def drop(self, place: int) -> None:
        """Hold the event at this place no more, if it is still here."""
        index = bisect_left(self._places, place)
        if index == len(self._places) or self._places[index] != place:
            return
        self._size -= len(self._chunks[index])
        del self._places[index], self._events[index], self._chunks[index]
        self.end = self._places[-1] if self._places else self.floor
        self.batch = None
        self.cuts += 1
        self.compressors = {}  # as in purge()

    def _let_go(self, count: int) -> None:
        self.floor = self._places[count - 1]
        self._size -= sum(map(len, self._chunks[:count]))
        del self._places[:count], self._events[:count], self._chunks[:count]

    def size(self) -> tuple[int, int]:
        """Return how many events it holds, and their bytes."""
        return len(self._chunks), self._size

    def join(self, cursor: int) -> RingBatch:
        """Return everything after the cursor, which is not the end, and keep it for others that take the same."""
        batch = self.batch
        if batch is None or not batch.start <= cursor < batch.first:
            begin, chunks = bisect_right(self._places, cursor), self._chunks
            body = chunks[begin] if begin == len(chunks) - 1 else b"".join(chunks[begin:])
            first, count = self._places[begin], len(chunks) - begin
            before, has_mark = self._before(begin), self.newest_mark >= first
            batch = self.batch = RingBatch(body, self.compressors, before, first, self.end, count, has_mark=has_mark)
        return batch

    def place_before(self, cursor: int) -> int:
        """Return the place of the newest event that is not after the cursor, as far as the ring knows."""
        return self.end if self.end <= cursor else self._before(bisect_right(self._places, cursor))

    def _before(self, index: int) -> int:
        return self._places[index - 1] if index else self.floor

    def held_after(self, cursor: int) -> int:
        """Return how many events after the cursor it holds."""
        return len(self._places) - bisect_right(self._places, cursor)

    def chunks_after(self, cursor: int) -> list[tuple[int, bytes]]:
        """Return the places and the bytes of the events after the cursor."""
        begin = bisect_right(self._places, cursor)
        return [*zip(self._places[begin:], self._chunks[begin:], strict=True)]

    def events_after(self, cursor: int) -> list[StoredEvent]:
        """Return the events after the cursor."""
        return self._events[bisect_right(self._places, cursor) :]
