# The state of a hub behind its handle: the store, the fan-out, the subscribers and the counters.
#
# Rule 1: the store is the truth. It gives the ids and keeps the events; the hub passes on what the store has.
# Rule 2: a subscriber is registered here from its entering to its leaving, and its feed exists for as long.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Protocol, TypeVar, final

from anyio import ClosedResourceError, sleep
from anyio.abc import TaskGroup

from .._errors import StoreUnavailableError
from .._loops.current import current_loop
from .._loops.loop import check_here
from ..stores._expiry import ExpiringStore
from ..stores._protocol import EventId, EventStore, Page
from ..stores._topics import TopicFilter
from .expiries import Expiries
from .fanout import Fanout
from .feed import Feed, FeedStatistics
from .orders import without_orders

T = TypeVar("T")

__all__ = ("Counters", "HubState", "Subscriber")

PAGE_EVENTS = 256
"""Events of a page of history, at most."""
RETRY_SECONDS = 0.25
"""How long a subscriber waits before it reads a store again that was down. (A follower waits in the store.)"""


@final
class Counters:
    """The counters of a hub, named as in ``HubStatistics``."""

    __slots__ = ("delivered", "dropped", "gaps", "published", "resumes")
    delivered: int
    dropped: int
    gaps: int
    published: int
    resumes: int

    def __init__(self) -> None:
        self.published = 0
        self.delivered = 0
        """To subscribers that have left; each of the others counts its own."""
        self.dropped = 0
        self.resumes = 0
        self.gaps = 0


class Subscriber(Protocol):
    """A subscriber, as its hub sees it."""

    received: int
    """Events that it has taken."""

    @property
    def feed(self) -> Feed | None:
        """The feed that it entered."""
        ...

    def lag(self) -> int | None:
        """Return the events that it has yet to take."""
        ...

    def refuse_sends(self) -> None:
        """Take in nothing more."""


@final
class HubState:
    """The state that the hub, its publisher and its subscriptions share."""

    __slots__ = ("_is_closed", "_loop", "_nursery", "_store", "counters", "expiries", "fanout", "name", "subscribers")
    counters: Counters
    fanout: Fanout
    name: str

    def __init__(self, store: EventStore, name: str, fanout: Fanout, nursery: TaskGroup) -> None:
        self._store = store
        self._nursery = nursery
        self._loop = current_loop()
        self._is_closed = False
        self.name = name
        self.fanout = fanout
        self.counters = Counters()
        self.subscribers: set[Subscriber] = set()
        self.expiries: Expiries | None = None
        """Those of its events, in a store that has them."""
        if isinstance(store, ExpiringStore):
            self.expiries = fanout.expiries = Expiries(
                store.expiry_clock, nursery.start_soon, fanout.drop, fanout.holds
            )

    def check_here(self) -> None:
        """Raise RuntimeError when called from outside the hub's event loop."""
        check_here(self._loop, f"the hub {self.name!r}")

    # --- subscribers

    def enter(self, subscriber: Subscriber, topics: TopicFilter) -> Feed:
        """Return the feed of these topics, which holds every event from now on. ClosedResourceError when closed."""
        if self._is_closed:
            raise ClosedResourceError(f"the hub {self.name!r} is closed")
        self.check_here()
        self.subscribers.add(subscriber)
        return self.fanout.enter(topics)

    def leave(self, subscriber: Subscriber, feed: Feed) -> None:
        """Undo one enter()."""
        self.subscribers.discard(subscriber)
        self.counters.delivered += subscriber.received
        self.fanout.leave(feed)

    def close(self) -> None:
        """End every subscription once it has taken what it has."""
        self._is_closed = True
        for subscriber in [*self.subscribers]:
            subscriber.refuse_sends()

    def feed_statistics(self) -> list[FeedStatistics]:
        """Return a snapshot of each feed."""
        lags: dict[Feed | None, int] = {}
        for subscriber in self.subscribers:
            lags[subscriber.feed] = max(subscriber.lag() or 0, lags.get(subscriber.feed, 0))
        return [feed.statistics(lags[feed]) for feed in self.fanout.feeds()]

    # --- the store

    def start_reading(self, read: Callable[[EventId | Page], Coroutine[Any, Any, None]], after: EventId | Page) -> None:
        """Run ``read(after)`` in the hub's nursery."""
        self._nursery.start_soon(read, after)

    async def read(self, topics: TopicFilter, after: EventId | Page | None, limit: int = PAGE_EVENTS) -> Page:
        """Read the store; after ``None``, from the oldest event that it keeps."""
        return without_orders(topics, await self._store.read(topics, after, limit=limit))

    @property
    def store(self) -> EventStore:
        """The store, which the hub has entered."""
        return self._store

    async def read_position(self) -> EventId:
        """Return the id of the newest event."""
        return (await self._store.read_last(TopicFilter("*"), 0)).tip

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """Read the newest events of the store."""
        asked = count
        while True:
            page = await self._store.read_last(topics, asked)
            shown = without_orders(topics, page)
            if len(shown.events) >= count or len(page.events) < asked:
                return shown._replace(events=shown.events[max(0, len(shown.events) - count) :])
            asked *= 2

    async def read_patiently(self, topics: TopicFilter, after: EventId | Page) -> Page:
        """Read the store, and try again while it is down."""
        return await self.patiently(partial(self.read, topics, after))

    @staticmethod
    async def patiently(ask: Callable[[], Awaitable[T]]) -> T:
        """Return what a question to the store returns; ask again while it is down."""
        while True:
            try:
                return await ask()
            except StoreUnavailableError:
                await sleep(RETRY_SECONDS)
