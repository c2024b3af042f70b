# Hub and open_hub(): what is published to a topic reaches every subscriber of it, in the same order, each event once.
#
# Rule 1: what a user may do is here, and how it is documented. The hub's state is in state.py, publishing in
#         publisher.py, rings and wake-ups in fanout.py, a subscriber in source.py.
# Rule 2: every argument is checked here, before anything is changed.

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast, final

from anyio import create_task_group

from .._arguments.checks import check_count, check_function, check_text, is_series, members_of, wrong
from .._failures import collapse, raise_again
from .._wire.event import Sendable, as_event
from ..stores._protocol import EventId, EventStore, append_nowait_of, pack_event
from ..stores._topics import TopicFilter, check_topic
from .fanout import Fanout
from .feed import FeedStatistics
from .filtering import Filter
from .history import MAX_REPLAY
from .publisher import Publisher
from .ring import RingLimits
from .source import HUB_OVERFLOWS, HubOverflow, SubscriptionSource
from .state import HubState
from .subscription import Subscription

__all__ = ("Hub", "HubStatistics", "open_hub")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """A snapshot of a hub."""

    name: str
    """As given to open_hub()."""
    subscribers: int
    """Subscriptions that are in position, or getting there."""
    feeds: int
    """Different choices of topics among them. They share the rings of their topics."""
    published: int
    """Events published here."""
    delivered: int
    """Events handed to subscribers, one for each of them."""
    lag: int
    """The most events that any subscriber in position has yet to take; 0 if there is none. A subscriber that reads
    history from the store is not in position; it counts among the resumes if it fell behind."""
    dropped: int
    """Events that subscribers with ``overflow="drop_oldest"`` missed."""
    resumes: int
    """How often a subscriber fell behind the ring and went on from the store."""
    gaps: int
    """How often a subscriber was sent a ``gap`` event, because events are gone."""


@final
class Hub:
    """Topics, publishers and subscribers. Made by :func:`open_hub`."""

    __slots__ = ("_publisher", "_state", "name")

    def __init__(self, state: HubState, publisher: Publisher) -> None:
        self._state = state
        self._publisher = publisher
        self.name: str = state.name

    def __repr__(self) -> str:
        statistics = self.statistics()
        return f"<Hub {self.name!r}: {statistics.subscribers} subscribers, {statistics.published} events published>"

    async def publish(self, topic: str, event: Sendable, *, key: tuple[str, int] | None = None) -> EventId:
        """Publish one event, as ``send()`` takes them, and return the id that it got.

        Returns when the store keeps the event, as safely as that store promises. Subscribers get it soon after.

        Checkpoint: always with a store that has to wait; with ``MemoryStore`` once in a slice of 256 events or a
        millisecond. Cancellation: the outcome is unknown. With ``key``, a number that each producer counts up, you can
        publish the same again safely.

        Raises:
            ValueError, TypeError: the event is not legal, or has an id; or the topic is not legal. The caller's fault.
            StoreUnavailableError: the store is down; the outcome is unknown.
            ClosedResourceError: the hub was left. The caller's fault.
            RuntimeError: it was called outside the hub's event loop. The caller's fault.
        """
        return (await self._publisher.publish([(check_topic(topic), pack_event(as_event(event)))], key))[0]

    async def publish_many(
        self, events: Iterable[tuple[str, Sendable]], *, key: tuple[str, int] | None = None
    ) -> list[EventId]:
        """Publish events as neighbours, all or none of them, and return their ids. Otherwise as :meth:`publish`."""
        items = [(check_topic(topic), pack_event(as_event(event))) for topic, event in _checked_pairs(events)]
        return await self._publisher.publish(items, key)

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
            after: the client's last event id, from ``last_event_id(request)``. Everything newer is sent. If some of
                that is gone, a ``gap`` event comes first, with ``{"after": ..., "oldest": ...}`` as its data.
            replay: for a client without an ``after``, how many of the latest events it is sent first, 1000 at most.
                With a ``filter``, of those that it lets through among the latest 1000.
            overflow: what happens to a subscriber that falls behind the ring. ``"resume"``: it goes on from the
                store, and misses nothing that is kept. ``"drop_oldest"``: it misses what the ring let go of.
                ``"close"``: its stream ends (``CloseReason.KICKED``), and the client reconnects.
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
        start = after or replay or 0  # an empty last event id means none (WHATWG HTML section 9.2.2)
        return Subscription(SubscriptionSource(self._state, TopicFilter(*topics), start, overflow, filter))

    def statistics(self) -> HubStatistics:
        """Return a snapshot of the hub. From any thread. Looks at every subscriber once."""
        subscribers, counters = [*self._state.subscribers], self._state.counters
        return HubStatistics(
            name=self.name,
            subscribers=len(subscribers),
            feeds=len(self._state.fanout.feeds()),
            published=counters.published,
            delivered=counters.delivered + sum([subscriber.received for subscriber in subscribers]),
            lag=max([subscriber.lag() or 0 for subscriber in subscribers], default=0),
            dropped=counters.dropped,
            resumes=counters.resumes,
            gaps=counters.gaps,
        )

    def feeds(self) -> list[FeedStatistics]:
        """Return a snapshot of each feed, which is a choice of topics that has a subscriber. In no order.

        Looks at every subscriber once. A topic without subscribers costs nothing, and is not in the list.
        """
        return self._state.feed_statistics()


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
        store: where events are kept; the hub enters and leaves it. Default: ``MemoryStore()``.
        name: for statistics.
        max_ring_events: how many of the latest events are kept as bytes, for each topic and prefix that has a
            subscriber. A subscriber that falls further behind reads the store.
        max_ring_bytes: how many bytes of them.

    When the hub is left, subscriptions end, and streams made from them complete.

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
    try:
        async with store as opened, create_task_group() as nursery:
            state = HubState(opened, name, await _open_fanout(opened, max_ring_events, max_ring_bytes), nursery)
            append_nowait = append_nowait_of(opened)
            if append_nowait is None:
                nursery.start_soon(state.fanout.follow, opened)
            nursery.start_soon(state.fanout.wake_readers)
            try:
                yield Hub(state, Publisher(state, opened, append_nowait))
            finally:
                state.close()
                nursery.cancel_scope.cancel()
    except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's own layer
        raise_again(collapse(exc))


async def _open_fanout(store: EventStore, max_events: int, max_bytes: int) -> Fanout:
    # It begins at the end of what the store has.
    page = await store.read_last(TopicFilter("*"), 0)
    return Fanout(page.tip, RingLimits(max_events, max_bytes))
