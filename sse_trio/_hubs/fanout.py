# The fan-out: which feeds an event belongs to, and when their readers are woken.
#
# Rule 1: a feed exists while a subscriber has chosen its topics. An event is encoded once, for all feeds; if it belongs
#         to none, it is not encoded.
# Rule 2: readers are woken in the pass of the loop after the one that published, so a burst that was published in one
#         pass is one write for each of them.
# Rule 3: they are woken a few at a time, so that ten thousand of them don't hold up the loop.

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import final

from anyio.lowlevel import checkpoint

from .._loops.current import current_loop
from ..stores._holds import is_deletion
from ..stores._protocol import EventId, EventStore, StoredEvent
from ..stores._topics import TopicFilter, is_below
from .feed import Feed

__all__ = ("Fanout",)

WOKEN_AT_ONCE = 50
"""Readers that are woken before other tasks get a turn: their writes take less than a millisecond. With 200 woken at
once, each mid-`send`, garbage collection took 10 % longer and the median latency doubled."""


@final
class Fanout:
    """The feeds of a hub.

    Args:
        position: the id of the newest event that the hub has passed on.
        max_events, max_bytes: how much each feed holds.
    """

    __slots__ = (
        "_changed",
        "_exact",
        "_feeds",
        "_max_bytes",
        "_max_events",
        "_parking",
        "_prefixed",
        "position",
        "rounds",
    )

    def __init__(self, position: EventId, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._feeds: dict[TopicFilter, Feed] = {}
        self._exact: dict[str, list[Feed]] = {}
        self._prefixed: list[tuple[tuple[str, ...], Feed]] = []
        self._changed: dict[Feed, None] = {}
        self._parking = current_loop().new_parking()
        self.position: EventId = position
        self.rounds: int = 0
        """How many rounds of wake-ups have begun."""

    # --- feeds

    def feeds(self) -> Collection[Feed]:
        """Return the feeds, in no order."""
        return self._feeds.values()

    def enter(self, topics: TopicFilter) -> Feed:
        """Return the feed of these topics for one more subscriber."""
        feed = self._feeds.get(topics)
        if feed is None:
            feed = self._feeds[topics] = Feed(topics, self.position, self._max_events, self._max_bytes)
            for topic in topics.exact:
                self._exact.setdefault(topic, []).append(feed)
            if topics.prefixes:
                self._prefixed.append((topics.prefixes, feed))
        feed.subscribers += 1
        return feed

    def leave(self, feed: Feed) -> None:
        """Undo one enter()."""
        feed.subscribers -= 1
        if feed.subscribers:
            return
        topics = feed.topics
        del self._feeds[topics]
        for topic in topics.exact:
            self._exact[topic].remove(feed)
            if not self._exact[topic]:
                del self._exact[topic]
        if topics.prefixes:
            self._prefixed.remove((topics.prefixes, feed))

    # --- events

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Add the next events of the hub to the feeds that they belong to, and have the readers woken."""
        for event in events:
            if is_deletion(event.payload):
                self._forget(event)
            feeds = [feed for prefixes, feed in self._prefixed if is_below(event.topic, prefixes)]
            feeds += self._exact.get(event.topic, ())
            if feeds:
                chunk = event.encode()
                for feed in feeds:
                    feed.append(event, chunk)
                    self._changed[feed] = None
        self.position = events[-1].id
        if self._changed:
            self._parking.unpark()

    def _forget(self, deletion: StoredEvent) -> None:
        # What was deleted must not be delivered from a ring. Each subscriber reads on in the store.
        topic, id_ = deletion.topic, deletion.id
        for feed in self._feeds.values():
            if feed.topics.matches(topic):
                feed.reset(EventId(id_.epoch, id_.sequence - 1))

    def reset(self, floor: EventId) -> None:
        """Empty every feed: events up to ``floor`` are gone. The store knows what each subscriber has missed."""
        self.position = floor
        for feed in self._feeds.values():
            feed.reset(floor)
            self._changed[feed] = None
        self._parking.unpark()

    # --- the hub's tasks

    async def follow(self, store: EventStore) -> None:
        """Add what the store gets from any process. One task in each process, for all subscribers."""
        async with store.follow(self.position) as pages:
            async for page in pages:
                if page.gap is not None:
                    self.reset(page.trimmed_to)
                if page.events:
                    self.add(page.events)

    async def wake_readers(self) -> None:
        """Wake the readers of each feed that has changed, round after round."""
        while True:
            while self._changed:
                await self._wake_round()
            await self._parking.park()

    async def _wake_round(self) -> None:
        self.rounds += 1
        changed, self._changed = self._changed, {}
        woken = 0
        for feed in changed:
            for reader in [*feed.waiting]:  # a copy: a reader that goes on removes itself
                # A reader that was still on its way in the last round may have taken what this round is for.
                if reader.cursor != feed.end and reader.receiver is not None:
                    reader.receiver.unpark()
                    woken += 1
                    if woken % WOKEN_AT_ONCE == 0:
                        await checkpoint()
