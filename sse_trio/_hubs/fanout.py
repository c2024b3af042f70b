# The fan-out: which rings an event is added to, and when the readers of a ring are woken.
#
# Rule 1: a feed exists while a subscriber has chosen its topics, and a ring while a feed has its topic. An event is
#         encoded once, for all rings; if it belongs to none, it is not encoded.
# Rule 2: readers are woken in the pass of the loop after the one that published, so a burst that was published in one
#         pass is one write for each of them. Each ring knows its readers.
# Rule 3: they are woken a few at a time, so that ten thousand don't hold up the loop, whatever they have chosen.
# Rule 4: after a gap, rings get only what is newer than the newest event that is gone. With an older one, a ring would
#         end before its floor, and its subscribers would not hear of the gap.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Sequence
from operator import attrgetter
from typing import final

from anyio.lowlevel import checkpoint

from .._groups.kickable import kick_here
from .._loops.current import current_loop
from ..stores._expiry import due_of
from ..stores._holds import is_deletion
from ..stores._kicks import KICKS
from ..stores._protocol import EventId, EventStore, StoredEvent
from ..stores._topics import TopicFilter
from .expiries import Expiries, Expiry, without_mark
from .feed import Feed
from .ring import Ring, RingLimits
from .ring_index import RingIndex
from .timeline import Timeline

__all__ = ("Fanout",)

WOKEN_AT_ONCE = 50
"""Readers that are woken before other tasks get a turn: their writes take less than a millisecond. With 200 woken at
once, each mid-`send`, garbage collection took 10 % longer and the median latency doubled."""


@final
class Fanout:
    """The feeds of a hub, and the rings that they share.

    Args:
        position: the id of the newest event that the hub has passed on.
        limits: how much each ring holds.
    """

    __slots__ = ("_changed", "_feeds", "_index", "_parking", "expiries", "rounds", "timeline")

    def __init__(self, position: EventId, limits: RingLimits) -> None:
        self._feeds: dict[TopicFilter, Feed] = {}
        self._index = RingIndex(limits)
        self._changed: dict[Ring, None] = {}
        self._parking = current_loop().new_parking()
        self.timeline: Timeline = Timeline(position)
        self.rounds: int = 0
        """How many rounds of wake-ups have begun."""
        self.expiries: Expiries | None = None
        """Those of its events, in a store that has them."""

    # --- feeds

    def feeds(self) -> Collection[Feed]:
        """Return the feeds, in no order."""
        return self._feeds.values()

    def enter(self, topics: TopicFilter) -> Feed:
        """Return the feed of these topics for one more subscriber."""
        feed = self._feeds.get(topics)
        if feed is None:
            rings = self._index.open(topics, self.timeline.place_of(self.timeline.position))
            feed = self._feeds[topics] = Feed(topics, rings, self.timeline)
        feed.enter()
        return feed

    def leave(self, feed: Feed) -> None:
        """Undo one enter()."""
        feed.leave()
        if not feed.subscribers:
            del self._feeds[feed.topics]
            for ring in feed.rings:
                if not ring.subscribers:
                    self._index.remove(ring)

    # --- events

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Add the next events of the hub to the rings that they belong to, and have the readers woken."""
        for event in events:
            if event.topic == KICKS:
                kick_here(event.payload)
                continue  # no subscriber may see it
            rings = self._index.rings_of(event.topic)
            if rings:
                may_be_mark = event.payload[:1] == b":"
                live = self._obey_mark(event, rings) if may_be_mark else event
                if live is not None:
                    chunk, place = live.encode(), self.timeline.place_of(event.id)
                    for ring in rings:
                        ring.append(live, chunk, place)
                        if may_be_mark:
                            ring.newest_mark = place
                        self._changed[ring] = None
        self.timeline.position = events[-1].id
        if self._changed:
            self._parking.unpark()

    def _obey_mark(self, event: StoredEvent, rings: Sequence[Ring]) -> StoredEvent | None:
        # An event whose payload may begin with a mark: do what it says, and return what subscribers are sent.
        if is_deletion(event.payload):
            for ring in rings:
                ring.purge(event.topic)  # what was deleted must not be delivered; its mark follows, which tells of it
        due = due_of(event.payload)
        if due is None or self.expiries is None:
            return event
        if self.expiries.is_over(due):
            return None
        self.expiries.add(Expiry(due, self.timeline.place_of(event.id), event.topic))
        return without_mark(event)

    def drop(self, expired: Sequence[Expiry]) -> None:
        """Take events out of the rings."""
        for _, place, topic in expired:
            for ring in self._index.rings_of(topic):
                ring.drop(place)

    def holds(self, expiry: Expiry) -> bool:
        """Whether a ring holds this event."""
        return any(expiry.place > ring.floor for ring in self._index.rings_of(expiry.topic))

    def reset(self, floor: EventId) -> None:
        """Empty every ring: events up to ``floor`` are gone. The store knows what each subscriber has missed."""
        place = self.timeline.restart(floor)
        for ring in self._index.rings():
            ring.reset(place)
            self._changed[ring] = None
        self._parking.unpark()

    # --- the hub's tasks

    async def follow(self, store: EventStore) -> None:
        """Add what the store gets from any process. One task in each process, for all subscribers."""
        async with store.follow(self.timeline.position) as pages:
            async for page in pages:
                if page.gap is not None:
                    self.reset(page.trimmed_to)
                if newer := self._obey_older(page.events):
                    self.add(newer)

    def _obey_older(self, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        # Return the events that belong into rings. After a gap the first ones may be older than the newest that is
        # gone (each topic loses its own oldest): subscribers read these from the store, and only orders are for us.
        newest_gone = self.timeline.position.sequence
        if not events or events[0].id.sequence > newest_gone:
            return events
        count = bisect_right(events, newest_gone, key=attrgetter("id.sequence"))
        for event in events[:count]:
            if event.topic == KICKS:
                kick_here(event.payload)
        return events[count:]

    async def wake_readers(self) -> None:
        """Wake the readers of each ring that has changed, round after round."""
        while True:
            while self._changed:
                await self._wake_round()
            await self._parking.park()

    async def _wake_round(self) -> None:
        self.rounds += 1
        changed, self._changed = self._changed, {}
        woken = 0
        for ring in changed:
            for reader in [*ring.readers]:  # a copy: a woken reader may leave
                # A reader that was still on its way in the last round may have taken what this round is for.
                if reader.cursor < ring.end and reader.receiver is not None:
                    reader.receiver.unpark()
                    woken += 1
                    if woken % WOKEN_AT_ONCE == 0:
                        await checkpoint()
