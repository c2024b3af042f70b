# A feed: the events of one choice of topics, and the subscribers that have made this choice.
#
# Rule 1: a feed holds no events. They are in the rings of its topics, which it shares with every other choice that has
#         these topics. So a choice that no other subscriber has costs that subscriber little, and a publisher nothing.
# Rule 2: the rings of a feed have no event in common, and their order is the order of places, which is the store's.
# Rule 3: subscribers that take the same events share a batch: all that read the same ring; or, if events of several
#         rings are mixed, all that have made the same choice.

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, final

from .._loops.current import current_loop
from .._loops.loop import Parked
from ..stores._protocol import StoredEvent
from ..stores._topics import TopicFilter
from .ring import Reader, Ring, RingBatch
from .timeline import Timeline

__all__ = ("Feed", "FeedStatistics")

OTHERS = 8
"""A choice of several topics takes the batches of one of its rings if that ring has eight times as many subscribers as
the choice. Otherwise it joins its own, so that one compressor sees all that these subscribers are sent."""


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
    """The latest events of its topics, which their rings hold. Other choices of these topics share the rings."""
    ring_bytes: int
    """Their bytes on the wire, before any compression."""
    lag: int
    """The most events that any of its subscribers in position has yet to take."""


@final
class _AnyEvent:
    # A reader that waits for whatever comes next.

    __slots__ = ("cursor", "receiver")

    def __init__(self, receiver: Parked) -> None:
        self.cursor = -1
        self.receiver = receiver


@final
class Feed:
    """The rings of one choice of topics.

    Args:
        topics: the choice.
        rings: one for each topic and prefix.
        timeline: the places of the hub's events.
    """

    __slots__ = ("_batch", "_before", "_compressors", "_cuts", "ring", "rings", "subscribers", "timeline", "topics")

    def __init__(self, topics: TopicFilter, rings: tuple[Ring, ...], timeline: Timeline) -> None:
        self.topics: TopicFilter = topics
        self.rings: tuple[Ring, ...] = rings
        self.ring: Ring | None = rings[0] if len(rings) == 1 else None
        """The ring of a choice that is one topic or prefix."""
        self.timeline: Timeline = timeline
        self._before = self.total()
        self._batch: RingBatch | None = None
        self._cuts = 0
        self._compressors: dict[str, Any] = {}
        self.subscribers: int = 0

    # --- its readers

    def add_reader(self, reader: Reader) -> None:
        """Have its receiver, if it has one, woken for each event."""
        for ring in self.rings:
            ring.readers[reader] = None

    def remove_reader(self, reader: Reader) -> None:
        """Have it woken no more."""
        for ring in self.rings:
            del ring.readers[reader]

    async def wait_woken(self) -> None:
        """Wait until its readers are woken the next time."""
        parking = current_loop().new_parking()
        reader = _AnyEvent(parking)
        self.add_reader(reader)
        try:
            await parking.park()
        finally:
            self.remove_reader(reader)

    # --- its subscribers

    def enter(self) -> None:
        """Count one more subscriber."""
        self.subscribers += 1
        for ring in self.rings:
            ring.subscribers += 1

    def leave(self) -> None:
        """Count one less."""
        self.subscribers -= 1
        for ring in self.rings:
            ring.subscribers -= 1

    # --- its events

    def floor(self) -> int:
        """Return the place after which its rings hold every event."""
        return max([ring.floor for ring in self.rings])

    def end(self) -> int:
        """Return the place of its newest event."""
        return max([ring.end for ring in self.rings])

    def total(self) -> int:
        """Return how many events its rings have ever got."""
        return sum([ring.total for ring in self.rings])

    def held_after(self, cursor: int) -> int:
        """Return how many events after the cursor its rings hold."""
        return sum([ring.held_after(cursor) for ring in self.rings])

    def ring_to_share(self, cursor: int) -> Ring | None:
        """Return the ring whose batch is all there is after the cursor, if that is taken as it is by its other feeds.

        A ring that has nothing after the cursor stands for there being nothing at all.
        """
        found = None
        for ring in self.rings:
            if ring.end > cursor:
                if found is not None or not self._is_small_beside(ring):
                    return None
                found = ring
        return found or self.rings[0]

    def latest_batch(self, cursor: int) -> RingBatch | None:
        """Return the batch that it joined itself, if that is all there is after the cursor."""
        batch = self._batch
        if batch is None or not batch.start <= cursor < batch.first:
            return None
        cuts = 0
        for ring in self.rings:
            if ring.end > batch.end:
                return None
            cuts += ring.cuts
        return batch if cuts == self._cuts else None

    def fresh(self, cursor: int) -> list[Ring]:
        """Return the rings that have got an event after the cursor. They may have let go of it."""
        return [ring for ring in self.rings if ring.end > cursor]

    def events(self, fresh: Sequence[Ring], cursor: int) -> list[StoredEvent]:
        """Return the events of these rings after the cursor, in order."""
        events = [event for ring in fresh for event in ring.events_after(cursor)]
        if len(fresh) > 1:
            events.sort(key=_sequence_of)
        return events

    def join(self, fresh: Sequence[Ring], cursor: int) -> RingBatch:
        """Return everything that these rings, the fresh ones, have after the cursor, joined once for all takers."""
        if self.ring is not None:
            return self.ring.join(cursor)
        if len(fresh) == 1 and self._is_small_beside(fresh[0]):
            return fresh[0].join(cursor)
        batch = self._batch = self.latest_batch(cursor) or self._join_own(fresh, cursor)
        return batch

    def _is_small_beside(self, ring: Ring) -> bool:
        return ring.subscribers >= OTHERS * self.subscribers

    def _join_own(self, fresh: Sequence[Ring], cursor: int) -> RingBatch:
        cuts = sum([ring.cuts for ring in self.rings])
        if cuts != self._cuts:
            self._cuts, self._compressors = cuts, {}  # as in Ring.purge()
        chunks = [chunk for ring in fresh for chunk in ring.chunks_after(cursor)]
        chunks.sort(key=itemgetter(0))
        body = chunks[0][1] if len(chunks) == 1 else b"".join([chunk for _, chunk in chunks])
        start = max([ring.place_before(cursor) for ring in self.rings])
        # A client's decoder can go on with a compressor's output only if it was sent all of that. Who takes the batches
        # of a ring too was not, nor who has lost events of one ring that are older than what another still holds.
        is_alone = start > cursor or any(self._is_small_beside(ring) for ring in self.rings)
        compressors = None if is_alone else self._compressors
        first, has_mark = chunks[0][0], max([ring.newest_mark for ring in self.rings]) > cursor
        return RingBatch(body, compressors, start, first, chunks[-1][0], len(chunks), has_mark=has_mark)

    def statistics(self, lag: int) -> FeedStatistics:
        """Return a snapshot, with the lag that the hub has found among its subscribers."""
        sizes = [ring.size() for ring in self.rings]
        return FeedStatistics(
            topics=self.topics.patterns,
            subscribers=self.subscribers,
            events=self.total() - self._before,
            ring_events=sum([events for events, _ in sizes]),
            ring_bytes=sum([size for _, size in sizes]),
            lag=lag,
        )


def _sequence_of(event: StoredEvent) -> int:
    return event.id.sequence
