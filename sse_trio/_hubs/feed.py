# A feed: the latest events of one choice of topics, as bytes, with the subscribers that read along in it.
#
# Rule 1: an event is encoded once, for all feeds and all subscribers. A subscriber is a cursor: the number, counted
#         since the feed was made, of the next entry that it will take.
# Rule 2: it holds every event newer than `floor`, in order, and nothing older. Who has to go on from before `floor`
#         reads the store; so what the ring lets go of nobody loses.
# Rule 3: a batch is joined once for all who are at the same place, which nearly all of them are.

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
    """A snapshot of a feed: a choice of topics, for all who subscribe to just that."""

    topics: tuple[str, ...]
    """Its topics and patterns, sorted, without those that another pattern covers."""
    subscribers: int
    """Subscriptions to it."""
    events: int
    """Events that it got since somebody began to subscribe to it."""
    ring_events: int
    """The latest of them, which it holds."""
    ring_bytes: int
    """Their bytes on the wire, before any compression."""
    lag: int
    """The most events that any of its subscribers in position has yet to take."""


class Reader(Protocol):
    """Whoever reads along, and waits for more."""

    cursor: int
    """The number of the next entry that it will take."""

    @property
    def receiver(self) -> Parked | None:
        """Whom to call then. None while it doesn't wait."""
        ...


@final
class _Waiting:
    # Waits for whatever comes.

    __slots__ = ("cursor", "receiver")

    def __init__(self, receiver: Parked) -> None:
        self.cursor = -1
        self.receiver = receiver


class Feed:
    """A ring of events for all subscribers of the same topics."""

    __slots__ = (
        "_chunks",
        "_events",
        "_first",
        "_max_bytes",
        "_max_events",
        "_resets",
        "_sequences",
        "_size",
        "_uncalled_bytes",
        "_uncalled_events",
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
        self._uncalled_events = self._uncalled_bytes = 0
        self._events: list[StoredEvent] = []
        self._chunks: list[bytes] = []
        self._sequences: list[int] = []
        self.end: int = 0
        """The cursor of one who has taken everything."""
        self.last: EventId = floor
        """The id of the newest event, or of the newest before the oldest."""
        self.batch: Batch | None = None
        """What was joined last: everything from some cursor to the end. None since an event has come."""
        self.compressors: dict[str, Any] = {}
        """What compression makes of it, for those of its subscribers that asked for it: ``_compression/shared.py``."""
        self.subscribers: int = 0
        # Who is to be called when there is an event. A dict, for its order and for leaving it again at once.
        self.waiting: dict[Reader, None] = {}

    async def wait_called(self) -> None:
        """Wait until its readers are called the next time."""
        parking = current_loop().new_parking()
        waiting = _Waiting(parking)
        self.waiting[waiting] = None
        try:
            await parking.park()
        finally:
            self.waiting.pop(waiting, None)

    def append(self, event: StoredEvent, chunk: bytes) -> None:
        """Add the next event, and let go of the oldest when there are too many."""
        self._events.append(event)
        self._chunks.append(chunk)
        self._sequences.append(event.id.sequence)
        self._size += len(chunk)
        self._uncalled_events += 1
        self._uncalled_bytes += len(chunk)
        self.end += 1
        self.last = event.id
        self.batch = None
        # In blocks: to take one off the front of a list costs as much as to take many.
        if len(self._chunks) >= 2 * self._max_events:
            self._let_go(len(self._chunks) - self._max_events)
        while self._size > self._max_bytes and len(self._chunks) > 1:
            self._let_go((len(self._chunks) + 1) // 2)

    def is_pressing(self) -> bool:
        """Whether what its readers were not called to yet takes a quarter of the ring."""
        return 4 * self._uncalled_events >= self._max_events or 4 * self._uncalled_bytes >= self._max_bytes

    def begin_calling(self) -> None:
        """Take note that its readers are about to be called to all there is."""
        self._uncalled_events = self._uncalled_bytes = 0

    def reset(self, floor: EventId) -> None:
        """Hold nothing: what was here may not be all there was. Everybody has to go on from the store."""
        if self._chunks:
            self._let_go(len(self._chunks))
        self._first = self._whole_from = self.end = self.end + 1  # nobody's cursor is at the end any more
        self._resets += 1
        self.floor = self.last = floor
        self.batch = None

    def statistics(self, lag: int) -> FeedStatistics:
        """Return a snapshot, with what the hub knows of its subscribers' lag."""
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
        del self._events[:count], self._chunks[:count], self._sequences[:count]

    def has_lost(self, cursor: int) -> bool:
        """Whether the entry that the cursor names was let go of."""
        return cursor < self._first

    def goes_on_from(self, last: EventId) -> bool:
        """Whether it holds every event newer than this one."""
        return last.epoch == self.floor.epoch and last.sequence >= self.floor.sequence

    def cursor_after(self, sequence: int) -> int:
        """Return the cursor of one who has seen everything up to this sequence."""
        return self._first + bisect_right(self._sequences, sequence)

    def was_reset(self, cursor: int) -> bool:
        """Whether what comes at the cursor may never have been here: then it's nobody's fault that it is lost."""
        return cursor < self._whole_from

    def oldest_cursor(self) -> int:
        """Return the cursor of the oldest event that is held."""
        return self._first

    def sequence_at(self, cursor: int) -> int:
        """Return the sequence of the entry at the cursor, which is not the end."""
        return self._sequences[cursor - self._first]

    def join(self, cursor: int) -> Batch:
        """Return everything from the cursor on, and keep it for the others who are there."""
        batch = self.batch
        if batch is None or cursor != batch.start:
            start, chunks = cursor - self._first, self._chunks
            body = chunks[start] if start == len(chunks) - 1 else b"".join(chunks[start:])
            batch = self.batch = Batch(body, self.compressors, cursor, self.end)
        return batch

    def events(self, cursor: int) -> list[StoredEvent]:
        """Return the events from the cursor on."""
        return self._events[cursor - self._first :]
