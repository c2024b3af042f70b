# A feed: the latest events of one choice of topics, as bytes, with the subscribers that read them.
#
# Rule 1: an event is encoded once, for all feeds and all subscribers. A subscriber is a cursor: the number, counted
#         since the feed was made, of the next entry that it takes.
# Rule 2: a feed holds every event newer than `floor`, in order, and nothing older. A subscriber that has to go on from
#         before `floor` reads the store, so no subscriber loses what the ring lets go of.
# Rule 3: a batch is joined once for all subscribers with the same cursor, which is nearly all of them.

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Any, Protocol, final

from .._loops.current import current_loop
from .._loops.loop import Parked
from .._wire.batch import Batch
from ..stores._protocol import EventId, StoredEvent
from ..stores._topics import TopicFilter

__all__ = ("Feed", "FeedStatistics", "Reader")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FeedStatistics:
    """A snapshot of a feed: a choice of topics, and everyone who subscribes to exactly that."""

    topics: tuple[str, ...]
    """Its topics and patterns, sorted, without those that another pattern covers."""
    subscribers: int
    """Subscriptions to it."""
    events: int
    """Events that it got since its first subscriber came."""
    ring_events: int
    """The latest of them, which it holds."""
    ring_bytes: int
    """Their bytes on the wire, before any compression."""
    lag: int
    """The most events that any of its subscribers in position has yet to take."""


class Reader(Protocol):
    """A subscriber's position, as a feed sees it."""

    cursor: int
    """The number of the next entry that it takes."""

    @property
    def receiver(self) -> Parked | None:
        """The receiver to wake; None while the subscriber doesn't wait."""
        ...


@final
class _AnyEvent:
    # A reader that waits for whatever comes next.

    __slots__ = ("cursor", "receiver")

    def __init__(self, receiver: Parked) -> None:
        self.cursor = -1
        self.receiver = receiver


@final
class Feed:
    """A ring of events for all subscribers of the same topics.

    It has 16 attributes, because every delivery needs both at once: the ring, and what its subscribers share.
    """

    __slots__ = (
        "_chunks",
        "_events",
        "_first",
        "_max_bytes",
        "_max_events",
        "_resets",
        "_size",
        "_whole_from",
        "batch",
        "compressors",
        "end",
        "floor",
        "last",
        "subscribers",
        "topics",
        "waiting",
    )

    def __init__(self, topics: TopicFilter, floor: EventId, max_events: int, max_bytes: int) -> None:
        self.topics: TopicFilter = topics
        self.floor: EventId = floor
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._first = 0
        self._whole_from = 0
        self._resets = 0
        self._size = 0
        self._events: list[StoredEvent] = []
        self._chunks: list[bytes] = []
        self.end: int = 0
        """The cursor of a subscriber that has taken everything."""
        self.last: EventId = floor
        """The id of the newest event, or ``floor`` while there is none."""
        self.batch: Batch | None = None
        """The latest batch: everything from some cursor to the end. None once another event has come."""
        self.compressors: dict[str, Any] = {}
        """The compressors that its subscribers share, by coding: see ``_compression/shared.py``."""
        self.subscribers: int = 0
        self.waiting: dict[Reader, None] = {}
        """The readers to wake at the next event. A dict, because it keeps their order and lets one leave at once."""

    async def wait_woken(self) -> None:
        """Wait until its readers are woken the next time."""
        parking = current_loop().new_parking()
        reader = _AnyEvent(parking)
        self.waiting[reader] = None
        try:
            await parking.park()
        finally:
            self.waiting.pop(reader, None)

    def append(self, event: StoredEvent, chunk: bytes) -> None:
        """Add the next event, and let go of the oldest when there are too many."""
        self._events.append(event)
        self._chunks.append(chunk)
        self._size += len(chunk)
        self.end += 1
        self.last = event.id
        self.batch = None
        # In blocks: taking one off the front of a list costs as much as taking many.
        if len(self._chunks) >= 2 * self._max_events:
            self._let_go(len(self._chunks) - self._max_events)
        while self._size > self._max_bytes and len(self._chunks) > 1:
            self._let_go((len(self._chunks) + 1) // 2)

    def reset(self, floor: EventId) -> None:
        """Hold nothing, as events may be missing from it. Every subscriber has to go on from the store."""
        if self._chunks:
            self._let_go(len(self._chunks))
        self._first = self._whole_from = self.end = self.end + 1  # so that no cursor is at the end any more
        self._resets += 1
        self.floor = self.last = floor
        self.batch = None

    def statistics(self, lag: int) -> FeedStatistics:
        """Return a snapshot, with the lag that the hub has found among its subscribers."""
        return FeedStatistics(
            topics=self.topics.patterns,
            subscribers=self.subscribers,
            events=self.end - self._resets,
            ring_events=len(self._chunks),
            ring_bytes=self._size,
            lag=lag,
        )

    def _let_go(self, count: int) -> None:
        self.floor = self._events[count - 1].id
        self._size -= sum(map(len, self._chunks[:count]))
        self._first += count
        del self._events[:count], self._chunks[:count]

    def has_lost(self, cursor: int) -> bool:
        """Whether the ring has let go of the entry at the cursor."""
        return cursor < self._first

    def goes_on_from(self, last: EventId) -> bool:
        """Whether it holds every event newer than this one."""
        return last.epoch == self.floor.epoch and last.sequence >= self.floor.sequence

    def cursor_after(self, sequence: int) -> int:
        """Return the cursor of a subscriber that has seen everything up to this sequence."""
        return self._first + bisect_right(self._events, sequence, key=_sequence_of)

    def was_reset(self, cursor: int) -> bool:
        """Whether the feed was reset since the cursor was set: then the subscriber has not been too slow."""
        return cursor < self._whole_from

    def oldest_cursor(self) -> int:
        """Return the cursor of the oldest event that it holds."""
        return self._first

    def sequence_at(self, cursor: int) -> int:
        """Return the sequence of the entry at the cursor, which is not the end."""
        return self._events[cursor - self._first].id.sequence

    def join(self, cursor: int) -> Batch:
        """Return everything from the cursor on, and keep it for the other subscribers with this cursor."""
        batch = self.batch
        if batch is None or cursor != batch.start:
            start, chunks = cursor - self._first, self._chunks
            body = chunks[start] if start == len(chunks) - 1 else b"".join(chunks[start:])
            batch = self.batch = Batch(body, self.compressors, cursor, self.end)
        return batch

    def events(self, cursor: int) -> list[StoredEvent]:
        """Return the events from the cursor on."""
        return self._events[cursor - self._first :]


def _sequence_of(event: StoredEvent) -> int:
    return event.id.sequence
