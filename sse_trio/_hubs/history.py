# The history of one subscriber: what it has missed, read from the store page by page until the rings go on from there.
#
# Rule 1: at most one page is held. The next one is read when the subscriber has taken it.
# Rule 2: the store decides what is a gap. It becomes one event, before the events that follow it.
# Rule 3: a subscriber whose topic may be gone for good, as that of a run, ends with the gap that says so.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeAlias, final

from anyio import CancelScope

from .._loops.current import current_loop
from .._loops.loop import Parked
from .._wire.event import ServerSentEvent
from ..stores._holds import is_deletion
from ..stores._protocol import EventId, Gap, Page, StoredEvent
from ..stores._topics import TopicFilter
from .feed import Feed
from .filtering import EventFilter
from .position import Position
from .position_line import Entry
from .state import HubState

__all__ = ("MAX_REPLAY", "EndsWith", "History", "read_latest")

MAX_REPLAY = 1000
"""Events that a subscriber without an id may be sent first, and that its filter may look at for that: they are read,
and held, at once."""

EndsWith: TypeAlias = Callable[[Page], Awaitable[bool]]
"""Asked about a page with a gap, and about a first page without events: whether nothing can follow it."""


@final
class History:
    """The events that a subscriber gets from the store."""

    __slots__ = ("_hub", "_is_stopped", "_parking", "_position", "_reading", "ends_with", "pending")

    def __init__(self, hub: HubState, position: Position) -> None:
        self._hub = hub
        self._position = position
        self._is_stopped = False
        self._reading: CancelScope | None = None
        self._parking: Parked | None = None
        self.ends_with: EndsWith | None = None
        self.pending: Sequence[Entry] = ()
        """Events that were read and not taken yet. Mostly empty, and an empty tuple takes no memory."""

    @property
    def is_reading(self) -> bool:
        """Whether a task reads the store."""
        return self._reading is not None

    @property
    def is_stopped(self) -> bool:
        """Whether nothing is read any more: what is pending is the last."""
        return self._is_stopped

    def add(self, *entries: Entry) -> None:
        """Add entries to what is pending."""
        self.pending = [*self.pending, *entries]

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Put entries that were taken before what is pending."""
        self.pending = [*entries, *self.pending]

    def take(self) -> Sequence[Entry]:
        """Remove what is pending and return it; the next page can be read."""
        taken, self.pending = self.pending, ()
        if self._parking is not None:
            self._parking.unpark()
        expiries = self._hub.expiries
        return taken if expiries is None else expiries.live(taken)

    def add_page(self, page: Page) -> bool:
        """Add what a page says; return whether the rings go on from it, and go live there if so."""
        if page.gap is not None:
            self._hub.counters.gaps += 1
            self.add(_gap_event(page.gap, page))
        if page.events:
            self.add(*_after_gap(page))
        complete = self._position.can_go_live(page.next)
        if complete:
            self._position.go_live(page.next)
        self._position.wake()
        return complete

    def start(self, after: EventId | Page) -> None:
        """Read on in the hub's nursery, until the rings go on from there."""
        if not self._is_stopped:
            self._hub.start_reading(self._read_on, after)

    def stop(self) -> None:
        """Read no more."""
        self._is_stopped = True
        if self._reading is not None:
            self._reading.cancel()

    async def _read_on(self, after: EventId | Page) -> None:
        feed = self._position.feed
        if feed is None or self._is_stopped:
            return  # stopped before this task began
        with CancelScope() as self._reading:
            await self._read_pages(feed, after)
        self._reading = None

    async def _read_pages(self, feed: Feed, after: EventId | Page) -> None:
        while True:
            while self.pending:
                await self._wait_taken()
            epoch = feed.timeline.position.epoch
            page = await self._hub.read_patiently(feed.topics, after)
            if await self._is_last(page):
                self._is_stopped = True  # before the page wakes who takes it
            if self.add_page(page) or self._is_stopped:
                return
            after = page
            if page.next == page.tip and page.next.epoch != epoch == feed.timeline.position.epoch:
                await feed.wait_woken()  # the store has begun a new history, which the hub has yet to hear of

    async def _is_last(self, page: Page) -> bool:
        if self.ends_with is None or page.gap is None:
            return False
        return await self._hub.patiently(partial(self.ends_with, page))

    async def _wait_taken(self) -> None:
        parking = self._parking = current_loop().new_parking()
        try:
            await parking.park()
        finally:
            self._parking = None


async def read_latest(hub: HubState, topics: TopicFilter, wanted: int, event_filter: EventFilter | None) -> Page:
    """Read the latest events that the filter lets through, of those that may be read at once."""
    count = wanted
    while True:
        page = await hub.read_last(topics, count)
        if event_filter is None:
            return page
        events = await event_filter.select_in_slices(page.events)
        if len(events) >= wanted or len(page.events) < count or count == MAX_REPLAY:
            return page._replace(events=tuple(events[-wanted:]))
        count = min(4 * count, MAX_REPLAY)


def _after_gap(page: Page) -> Sequence[StoredEvent]:
    # Subscribers that have missed what was deleted have had a gap for it already.
    return page.events if page.gap is None else [event for event in page.events if not is_deletion(event.payload)]


def _gap_event(gap: Gap, page: Page) -> ServerSentEvent:
    # Its id is that of the event trimmed last, so that a client that gets no further hears of this gap once. It is not
    # newer than what follows, which the client would miss: each topic loses its own oldest.
    oldest, told = gap.oldest, page.trimmed_to
    if oldest is not None and oldest.sequence <= told.sequence:
        told = EventId(oldest.epoch, oldest.sequence - 1)
    data = {"after": str(gap.after), "oldest": None if oldest is None else str(oldest)}
    return ServerSentEvent.json(data, event="gap", id=str(told))
