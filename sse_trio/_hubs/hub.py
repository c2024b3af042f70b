# The hub: what is published to a topic reaches every subscriber of it, in the same order, each event once.
#
# Rule 1: the store is the truth. It gives the ids and keeps the events; the hub hands on what the store has, to
#         everybody who is in position, and to nobody anything else.
# Rule 2: one task for each hub reads what is new (one follower a process), one calls the readers. A store of this
#         process alone needs no follower: what it has just appended is handed on in publish() itself.
# Rule 3: readers are called in the pass after the one that published, and so many at a time. A burst published in one
#         pass is therefore one write for each of them, and ten thousand of them don't hold up the loop. Where they
#         would take all of it, the hub rests between its rounds, and what comes meanwhile shares a write.

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, cast, final, runtime_checkable

from anyio import ClosedResourceError, create_task_group, move_on_after, sleep
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from .._arguments.checks import check_count, check_function, check_key, check_text, is_series, members_of, wrong
from .._channels.pacer import SLICE_EVENTS, SLICE_SECONDS
from .._errors import StoreUnavailableError
from .._failures import collapse
from .._loops.current import current_loop
from .._loops.loop import check_here
from .._wire.event import Sendable, as_event
from ..stores._protocol import EventId, EventStore, Page, StoredEvent, pack_event
from ..stores._topics import TopicFilter, check_topic, is_below
from .feed import Feed, FeedStatistics
from .subscription import HUB_OVERFLOWS, MAX_REPLAY, Filter, HubOverflow, Subscription

__all__ = ("Hub", "HubStatistics", "open_hub")

CALLED_AT_ONCE = 50
"""Readers called before others get a turn: less than a millisecond of their writes. Of 200, each in the midst of a
server's `send`, so much was alive at once that the collector took a tenth more, and the median came twice as late."""
LONG_ROUND_SECONDS = 0.01
"""From how long a round of calls on the hub rests before the next one, if that could begin at once."""
REST = 2 / 3
"""How long it rests, of what the round took. What is published meanwhile shares a write, and others get two fifths of a
loop that had been all the hub's."""
MAX_REST_SECONDS = 0.1
MAX_CALL_SECONDS = 0.0001
"""What a call may have taken, at most: what others did in the time of a round is not the hub's."""
RETRY_SECONDS = 0.25
"""How long a reader waits that found its store down. A follower, which notices by itself, is the store's."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """A snapshot of a hub."""

    name: str
    """As given to open_hub()."""
    subscribers: int
    """Subscriptions that are in position, or getting there."""
    feeds: int
    """Different choices of topics among them, each with a ring of its own."""
    published: int
    """Events published here."""
    delivered: int
    """Events handed to subscribers, one for each of them."""
    lag: int
    """The most events that any subscriber in position has yet to take; 0 if there is none. Who reads history from the
    store is in no position, and counts among the resumes if it fell behind."""
    dropped: int
    """Events that subscribers with ``overflow="drop_oldest"`` missed."""
    resumes: int
    """How often a subscriber fell behind the ring and went on from the store."""
    gaps: int
    """How often a subscriber had to be told that events are gone."""


@runtime_checkable
class _LocalStore(Protocol):
    def append_nowait(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None) -> list[EventId]: ...


@final
class Hub:
    """Topics, publishers and subscribers. Made by :func:`open_hub`."""

    __slots__ = (
        "_changed",
        "_closed",
        "_current_time",
        "_delivered",
        "_exact",
        "_feeds",
        "_loop",
        "_max_bytes",
        "_max_events",
        "_nursery",
        "_parking",
        "_position",
        "_prefixed",
        "_published",
        "_resting",
        "_slice_end",
        "_slice_events",
        "_store",
        "_subscriptions",
        "dropped",
        "gaps",
        "name",
        "resumes",
    )

    def __init__(self, store: EventStore, name: str, max_events: int, max_bytes: int, nursery: TaskGroup) -> None:
        self._store = store
        self.name: str = name
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._nursery = nursery
        self._position = EventId(store.epoch, 0)
        self._feeds: dict[TopicFilter, Feed] = {}
        self._exact: dict[str, list[Feed]] = {}
        self._prefixed: list[tuple[tuple[str, ...], Feed]] = []
        self._changed: dict[Feed, None] = {}
        self._loop = loop = current_loop()
        self._current_time = loop.current_time
        self._parking = loop.new_parking()
        self._resting = loop.new_parking()
        self._subscriptions: set[Subscription] = set()
        self._closed = False
        self._published = 0
        self._slice_events = 0
        self._slice_end = 0.0
        self._delivered = 0  # to those who have left; each counts its own
        self.dropped: int = 0
        self.resumes: int = 0
        self.gaps: int = 0

    async def publish(self, topic: str, event: Sendable, *, key: tuple[str, int] | None = None) -> EventId:
        """Publish one event, as ``send()`` takes them, and return the id that it got.

        Returns when it is kept as safely as the store says. Subscribers get it soon after.

        Checkpoint: with a store that has to wait, always; with ``MemoryStore`` once in a slice of 256 events or a
        millisecond. Cancellation: the outcome is unknown; with ``key``, a number counted up by each producer, it is
        safe to publish the same again.

        Raises:
            ValueError, TypeError: the event is not legal, or has an id; the topic is none. The caller's fault.
            StoreUnavailableError: the store is down; the outcome is unknown.
            ClosedResourceError: the hub was left. The caller's fault.
            RuntimeError: it was called in another event loop than the hub's. The caller's fault.
        """
        return (await self._publish([(check_topic(topic), pack_event(as_event(event)))], key))[0]

    async def publish_many(
        self, events: Iterable[tuple[str, Sendable]], *, key: tuple[str, int] | None = None
    ) -> list[EventId]:
        """Publish events as neighbours, all or none of them, and return their ids. Else as :meth:`publish`."""
        items = [(check_topic(topic), pack_event(as_event(event))) for topic, event in _checked_pairs(events)]
        return await self._publish(items, key)

    async def _publish(self, items: list[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        self.check_here()
        if key is not None:
            check_key(key)
        if not isinstance(self._store, _LocalStore):
            ids = await self._store.append(items, key=key)
            self._published += len(ids)
            return ids
        if self._slice_is_used_up(len(items)):
            await checkpoint()
        ids = self._store.append_nowait(items, key=key)
        self._published += len(ids)
        if ids and ids[0].sequence > self._position.sequence:  # else a key that was used before
            self._hand_on([StoredEvent(id_, *item) for id_, item in zip(ids, items, strict=True)])
        return ids

    def subscribe(
        self,
        *topics: str,
        after: str | None = None,
        replay: int | None = None,
        overflow: HubOverflow = "resume",
        filter: Filter | None = None,  # noqa: A002 -- what it is
    ) -> Subscription:
        """Return a subscription: the source of a response, or an async context manager to receive from.

        Args:
            topics: exact topics, ``prefix/*`` for all below a prefix, or ``*``.
            after: the client's last event id, of ``last_event_id(request)``. Everything newer is sent. An event
                ``gap`` comes first if some of that is gone, with ``{"after": ..., "oldest": ...}`` as its data.
            replay: for a client without an ``after``, how many of the latest events it is sent first, 1000 at most.
                With a ``filter``, of those that it lets through among the latest 1000.
            overflow: what happens to a subscriber that falls behind the ring. ``"resume"``: it goes on from the
                store, and misses nothing that is kept. ``"drop_oldest"``: it misses what the ring let go of.
                ``"close"``: its stream ends (``CloseReason.KICKED``), and the client reconnects by itself.
            filter: called with topic and event, for each subscriber and event; ``False`` leaves the event out. What
                it raises, and a result that is neither ``True`` nor ``False``, ends this subscription alone.

        Raises:
            ValueError, TypeError: an argument that makes no sense.
        """
        if overflow not in HUB_OVERFLOWS:
            raise wrong(ValueError, "overflow", f"one of {', '.join(map(repr, HUB_OVERFLOWS))}", overflow)
        if replay is not None and (type(replay) is not int or not 0 <= replay <= MAX_REPLAY):
            raise wrong(ValueError, "replay", f"a number of events, from 0 to {MAX_REPLAY}, or None", replay)
        if after is not None and not isinstance(cast("object", after), str):
            wanted = "the text of an id: last_event_id(request), or str(id) of what publish() returned"
            raise wrong(TypeError, "after", wanted, after)
        if filter is not None:
            check_function("filter", filter, "a function of topic and event")
        after = after or None  # an empty last event id is none (WHATWG HTML section 9.2.2)
        return Subscription(self, TopicFilter(*topics), after=after, replay=replay or 0, overflow=overflow, keep=filter)

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub. From any thread. Looks at every subscriber once."""
        subscriptions = [*self._subscriptions]
        lags = [subscription.lag() or 0 for subscription in subscriptions]
        return HubStatistics(
            name=self.name,
            subscribers=len(subscriptions),
            feeds=len(self._feeds),
            published=self._published,
            delivered=self._delivered + sum([subscription.received for subscription in subscriptions]),
            lag=max(lags, default=0),
            dropped=self.dropped,
            resumes=self.resumes,
            gaps=self.gaps,
        )

    def feeds(self) -> list[FeedStatistics]:
        """Return a snapshot of each feed: a choice of topics that somebody subscribes to. In no order.

        Looks at every subscriber once. Topics that nobody reads cost nothing, and are not in it.
        """
        lags: dict[Feed | None, int] = {}
        for subscription in self._subscriptions:
            feed = subscription.feed
            lags[feed] = max(subscription.lag() or 0, lags.get(feed, 0))
        return [feed.statistics(lags[feed]) for feed in self._feeds.values()]

    # --- for subscriptions

    def check_here(self) -> None:
        """Raise RuntimeError where this is called from outside of the hub's event loop."""
        check_here(self._loop, f"the hub {self.name!r}")

    def enter(self, subscription: Subscription, topics: TopicFilter) -> Feed:
        """Return the feed of these topics, which from now on holds every event. ClosedResourceError when closed."""
        if self._closed:
            raise ClosedResourceError(f"the hub {self.name!r} is closed")
        self.check_here()
        self._subscriptions.add(subscription)
        feed = self._feeds.get(topics)
        if feed is None:
            feed = self._feeds[topics] = Feed(topics, self._position, self._max_events, self._max_bytes)
            for topic in topics.exact:
                self._exact.setdefault(topic, []).append(feed)
            if topics.prefixes:
                self._prefixed.append((topics.prefixes, feed))
        feed.subscribers += 1
        return feed

    def leave(self, subscription: Subscription, topics: TopicFilter, feed: Feed) -> None:
        """Undo one enter()."""
        self._subscriptions.discard(subscription)
        self._delivered += subscription.received
        feed.subscribers -= 1
        if feed.subscribers:
            return
        del self._feeds[topics]
        for topic in topics.exact:
            self._exact[topic].remove(feed)
            if not self._exact[topic]:
                del self._exact[topic]
        if topics.prefixes:
            self._prefixed.remove((topics.prefixes, feed))

    async def read(self, topics: TopicFilter, after: EventId | Page) -> Page:
        """Read the store."""
        return await self._store.read(topics, after)

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """Read the newest events of the store."""
        return await self._store.read_last(topics, count)

    def start_reading(self, subscription: Subscription, after: EventId | Page) -> None:
        """Have the subscription read on in the hub's nursery."""
        self._nursery.start_soon(subscription.read_on, after)

    async def read_patiently(self, topics: TopicFilter, after: EventId | Page) -> Page:
        """Read the store, again and again while it is down."""
        while True:
            try:
                return await self._store.read(topics, after)
            except StoreUnavailableError:
                await sleep(RETRY_SECONDS)

    # --- handing on

    def _slice_is_used_up(self, count: int) -> bool:
        now = perf_counter()
        self._slice_events += count
        if not self._slice_end or (self._slice_events < SLICE_EVENTS and now < self._slice_end):
            self._slice_end = self._slice_end or now + SLICE_SECONDS
            return False
        self._slice_end = 0.0
        self._slice_events = 0
        return True

    def _hand_on(self, events: Sequence[StoredEvent]) -> None:
        for event in events:
            feeds = [feed for prefixes, feed in self._prefixed if is_below(event.topic, prefixes)]
            feeds += self._exact.get(event.topic, ())
            if feeds:
                chunk = event.encode()
                for feed in feeds:
                    feed.append(event, chunk)
                    self._changed[feed] = None
                    if feed.is_pressing():
                        self._resting.unpark()
        self._position = events[-1].id
        if self._changed:
            self._parking.unpark()

    async def _follow(self) -> None:
        async with self._store.follow(self._position) as pages:
            async for page in pages:
                if page.gap is not None:
                    self._lose_position(page.trimmed_to)
                if page.events:
                    self._hand_on(page.events)

    def _lose_position(self, floor: EventId) -> None:
        # Events are gone that nobody here has seen. What each subscriber missed the store knows.
        self._position = floor
        for feed in self._feeds.values():
            feed.reset(floor)
            self._changed[feed] = None
        self._parking.unpark()

    async def _call_readers(self) -> None:
        while True:
            while self._changed:
                began = self._current_time()
                called = await self._call_round()
                took = min(self._current_time() - began, called * MAX_CALL_SECONDS)
                if self._changed and took >= LONG_ROUND_SECONDS:
                    await self._rest(min(took * REST, MAX_REST_SECONDS))
            await self._parking.park()

    async def _call_round(self) -> int:
        # Return how many were called.
        self._slice_end = 0.0
        self._slice_events = 0
        changed, self._changed = self._changed, {}
        called = 0
        for feed in changed:
            feed.begin_calling()
            for reader in [*feed.waiting]:  # each leaves by itself when it goes on
                # Who was still on its way in the last round may have taken what this one is for.
                if reader.cursor != feed.end and reader.receiver is not None:
                    reader.receiver.unpark()
                    called += 1
                    if called % CALLED_AT_ONCE == 0:
                        await checkpoint()
        return called

    async def _rest(self, seconds: float) -> None:
        # Cut short when there is so much to take that subscribers would soon fall behind the ring.
        with move_on_after(seconds):
            if not any(feed.is_pressing() for feed in self._changed):
                await self._resting.park()

    # --- for open_hub()

    async def start(self) -> None:
        """Take up position at the end of what the store has, and start the tasks."""
        page = await self._store.read_last(TopicFilter("*"), 0)
        self._position = page.tip
        if not isinstance(self._store, _LocalStore):
            self._nursery.start_soon(self._follow)
        self._nursery.start_soon(self._call_readers)

    def close(self) -> None:
        """End every subscription, when what it has is taken."""
        self._closed = True
        for subscription in [*self._subscriptions]:
            subscription.refuse_sends()


def _checked_pairs(events: object) -> Iterable[tuple[str, Sendable]]:
    wanted = 'an iterable of (topic, event) pairs, such as [("news", "hello")]'
    if not is_series(events):
        raise wrong(TypeError, "events", wanted, events)
    for pair in cast("Iterable[object]", events):
        if len(members_of(pair)) != 2:
            raise wrong(TypeError, "events", wanted, pair)
        yield cast("tuple[str, Sendable]", pair)


def _check_store(store: object) -> None:
    methods = ("__aenter__", "__aexit__", "append", "read", "read_last", "follow")
    if isinstance(store, type) or not all(hasattr(store, method) for method in methods):
        wanted = (
            "an event store, such as MemoryStore(), SQLiteStore(path) or RedisStore(url), or None for MemoryStore()"
        )
        raise wrong(TypeError, "store", wanted, store)


@asynccontextmanager
async def open_hub(
    store: EventStore | None = None, *, name: str = "hub", max_ring_events: int = 1024, max_ring_bytes: int = 1 << 20
) -> AsyncGenerator[Hub]:
    """Open a hub, as an async context manager, in the lifespan of the application.

    Args:
        store: where events are kept; it is entered and left with the hub. Default: ``MemoryStore()``.
        name: for statistics.
        max_ring_events: how many of the latest are kept as bytes, for each choice of topics that somebody subscribes
            to. Who is further behind than that reads the store.
        max_ring_bytes: how many bytes of them.

    When it is left, subscriptions end, and streams made from them complete.

    Raises:
        StoreUnavailableError: the store is down at the start.
        ValueError, TypeError: an argument that makes no sense.
    """
    check_text("name", name)
    check_count("max_ring_events", max_ring_events)
    check_count("max_ring_bytes", max_ring_bytes)
    if store is None:
        from ..stores.memory import MemoryStore  # noqa: PLC0415 -- not every application has a hub, or SQLite

        store = MemoryStore()
    _check_store(store)
    error: BaseException | None = None
    try:
        async with store as opened, create_task_group() as nursery:
            hub = Hub(opened, name, max_ring_events, max_ring_bytes, nursery)
            await hub.start()
            try:
                yield hub
            finally:
                hub.close()
                nursery.cancel_scope.cancel()
    except BaseException as exc:
        error = collapse(exc)
        if error is exc:
            raise
    if error is not None:
        raise error  # not inside of `except`: `from None` would take its own cause from it
