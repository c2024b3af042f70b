# Hub and open_hub(): what is published to a topic reaches every subscriber of it, in the same order, each event once.
#
# Rule 1: what a user may do is here, and how it is documented. The hub's state is in state.py, publishing in
#         publisher.py, rings and wake-ups in fanout.py, a subscriber in source.py.
# Rule 2: every argument is checked here, before anything is changed.

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from operator import attrgetter
from typing import Literal, final

from anyio import create_task_group

from .._arguments.checks import check_count, check_flag, check_function, check_text, wrong
from .._arguments.opening import opening
from .._failures import collapse, raise_again
from .._wire.event import Sendable, ServerSentEvent
from ..stores._holds import ANYONE, DELETED, Claim
from ..stores._items import pack_item, pack_items
from ..stores._keys import key_of
from ..stores._kicks import pack_kick
from ..stores._protocol import EventId, EventStore, append_nowait_of
from ..stores._topics import TopicFilter
from .fanout import Fanout
from .feed import FeedStatistics
from .filtering import Filter
from .history import MAX_REPLAY
from .past import HubHistory, read_history
from .publisher import Publisher
from .ring import RingLimits
from .source import HUB_OVERFLOWS, HubOverflow, SubscriptionSource
from .state import HubState
from .subscription import Subscription
from .topics import topic_of
from .until import Rewrite, Until, until_of

__all__ = ("Hub", "HubStatistics", "open_hub", "publisher_of_hub", "state_of_hub")

MAX_HISTORY = 100_000
"""Events of one history(): they are held at once."""
DELETION = ServerSentEvent.json({"after": None, "oldest": None}, event="gap")
"""What subscribers of a topic that was deleted are sent."""


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

    async def publish(
        self, topic: str, event: Sendable, *, key: str | tuple[str, int] | None = None, ttl: float | None = None
    ) -> EventId:
        """Publish one event, as ``send()`` takes them, and return the id that it got.

        Args:
            topic: its topic.
            event: the event.
            key: see below.
            ttl: seconds after which the event expires: who comes later, or comes back later, is not sent it, and
                that is no gap. The store deletes it.

        Returns when the store keeps the event, as safely as that store promises. Subscribers get it soon after.

        Checkpoint: always with a store that has to wait; with ``MemoryStore`` once in a slice of 256 events or a
        millisecond. Cancellation: the outcome is unknown. With ``key`` you can publish the same again safely: a name of
        this event alone, such as that of its row in an outbox, or ``(producer, number)``. The store says how long it
        remembers a key: ``remember_keys``.

        Raises:
            ValueError, TypeError: the event is not legal, or has an id; the topic or the ttl is not legal; or the store
                can't delete events that expire. The caller's fault.
            StoreUnavailableError: the store is down; the outcome is unknown.
            ClosedResourceError: the hub was left; during this call, the outcome is unknown. The caller's fault.
            RuntimeError: it was called outside the hub's event loop. The caller's fault.
        """
        items = [pack_item(topic, event)]
        if ttl is not None:
            items = self._publisher.expiring(items, ttl)
        return (await self._publisher.publish(items, key_of(key)))[0]

    async def publish_many(
        self,
        events: Iterable[tuple[str, Sendable]],
        *,
        key: str | tuple[str, int] | None = None,
        ttl: float | None = None,
    ) -> list[EventId]:
        """Publish events as neighbours, all or none of them, and return their ids. Otherwise as :meth:`publish`."""
        items = pack_items(events)
        if ttl is not None:
            items = self._publisher.expiring(items, ttl)
        return await self._publisher.publish(items, key_of(key))

    async def kick(self, labels: Mapping[str, str], *, group: str | None = None) -> None:
        """End the streams with these labels in every process that has this hub open.

        Args:
            labels: a stream is ended, with ``CloseReason.KICKED``, if it has all of them, with these values.
            group: the ``name`` of the :class:`StreamGroup`; by default streams of all groups are ended.

        Returns when the store keeps the order. The processes obey within milliseconds; one that can't reach the store
        obeys when it can again.

        Raises:
            ValueError, TypeError: there is no label, or one that is not a ``str``. The caller's fault.
            StoreUnavailableError, ClosedResourceError, RuntimeError: as :meth:`publish`.

        Checkpoint, cancellation: as :meth:`publish`. You may kick again.
        """
        await self._publisher.publish([pack_kick(labels, group)], None)

    async def delete(self, topic: str) -> None:
        """Delete every event of one topic, in the store and in every process, and tell its subscribers by a ``gap``.

        The store keeps the ``gap`` event in their place. A run is deleted by ``Runs.delete()``.

        Raises:
            ValueError, TypeError: the topic is not legal, or the store can't delete. The caller's fault.
            StoreUnavailableError: the store is down; the outcome is unknown, and you can delete again.
            ClosedResourceError, RuntimeError: as :meth:`publish`.
        """
        topic, payload = pack_item(topic, DELETION)
        await self._publisher.publish_held([(topic, DELETED + payload)], Claim(topic, ANYONE, ANYONE, clear=True))

    async def position(self) -> str:
        """Return the id of the newest event of the hub: ``after=`` it, a subscription gets what comes from now on.

        Read it before you load the state that a client begins with. Checkpoint: always. Raises what the store raises.
        """
        return str(await self._state.read_position())

    async def history(
        self, *topics: str, after: str | None = None, last: int | None = None, limit: int = 1000
    ) -> HubHistory:
        """Return events that the hub keeps, without subscribing.

        Args:
            topics: as for :meth:`subscribe`.
            after: an id: events that are newer. By default, from the oldest.
            last: instead, this number of the newest events.
            limit: the most events to return. ``position`` of the result is where to go on.

        Checkpoint: always. Raises what the store raises, and ValueError, TypeError for an argument that makes no sense.
        """
        check_count("limit", limit, most=MAX_HISTORY)
        if last is not None:
            check_count("last", last, least=0, most=limit)
        if after is not None:
            _check_after(after)
            if last is not None:
                raise ValueError("after must be None if last is given: the newest events are the same after any id")
        return await read_history(self._state, TopicFilter(*topics), after, last, limit)

    @staticmethod
    def topic(*names: str) -> str:
        """Return a topic made of these names, one for each level, with ``/``, ``*`` and ``%`` in them quoted.

        For names that come from outside: ``hub.topic("rooms", name)`` is below ``rooms/*``, and no other name gives it.
        """
        return topic_of(*names)

    def subscribe(
        self,
        *topics: str,
        after: str | None = None,
        replay: int | Literal["all"] | None = None,
        overflow: HubOverflow = "resume",
        filter: Filter | None = None,  # noqa: A002 -- what it is
        id_blocks: bool = False,
        until: Until | None = None,
        rewrite: Rewrite | None = None,
    ) -> Subscription:
        """Return a subscription: the source of a response, or an async context manager to receive from.

        Args:
            topics: exact topics, ``prefix/*`` for all below a prefix, or ``*``.
            after: the client's last event id, from ``last_event_id(request)``. Everything newer is sent. If some of
                that is gone, a ``gap`` event comes first, with ``{"after": ..., "oldest": ...}`` as its data.
            replay: for a client without an ``after``, how many of the latest events it is sent first, 1000 at most.
                With a ``filter``, of those that it lets through among the latest 1000. ``"all"``: everything that the
                store keeps of these topics, however much it is, page by page.
            overflow: what happens to a subscriber that falls behind the ring. ``"resume"``: it goes on from the
                store, and misses nothing that is kept. ``"drop_oldest"``: it misses what the ring let go of.
                ``"close"``: its stream ends (``CloseReason.KICKED``), and the client reconnects.
            filter: called with topic and event, for each subscriber and event; ``False`` leaves the event out. What
                it raises, and a result that is neither ``True`` nor ``False``, ends this subscription alone.
            id_blocks: whether the client learns its position at once, from an id without data, where it has been sent
                no event that says it: at the start, and while the filter leaves events out. ``EventSource`` then comes
                back to it in every case. By default the id comes with the next event, because
                ``@microsoft/fetch-event-source`` and ``httpx-sse`` take an id without data for an empty message.
            until: called with topic and event, as the ``filter`` and after it; the first event for which it returns
                ``True`` is the last: the subscription ends after it, and a stream completes.
            rewrite: called with topic and event, and returns the event to send instead, under the same id. So a client
                of ``prices/*`` can be sent topics: ``lambda topic, event: ServerSentEvent(event.data, event=topic)``.

        What you receive yourself has its topic in ``event.topic``.

        Raises:
            ValueError, TypeError: an argument that makes no sense.
        """
        if overflow not in HUB_OVERFLOWS:
            raise wrong(ValueError, "overflow", f"one of {', '.join(map(repr, HUB_OVERFLOWS))}", overflow)
        if replay is not None and replay != "all" and (type(replay) is not int or not 0 <= replay <= MAX_REPLAY):
            raise wrong(ValueError, "replay", f'a number of events, from 0 to {MAX_REPLAY}, "all", or None', replay)
        if after is not None:
            _check_after(after)
        for name, function in (("filter", filter), ("until", until), ("rewrite", rewrite)):
            if function is not None:
                check_function(name, function, "a function of topic and event")
        check_flag("id_blocks", id_blocks)
        # An empty last event id means none (WHATWG HTML section 9.2.2).
        start = after or (None if replay == "all" else replay or 0)
        source = SubscriptionSource(
            self._state,
            TopicFilter(*topics),
            start,
            overflow,
            filter,
            until=None if until is None else until_of(until),
            rewrite=rewrite,
            id_blocks=id_blocks,
        )
        return Subscription(source)

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


def _check_after(after: object) -> None:
    if not isinstance(after, str):
        wanted = "the text of an id: last_event_id(request), or str(id) of what publish() returned"
        raise wrong(TypeError, "after", wanted, after)


state_of_hub: Callable[[Hub], HubState] = attrgetter("_state")
"""The state behind a hub, for runs."""
publisher_of_hub: Callable[[Hub], Publisher] = attrgetter("_publisher")
"""What publishes to its store, for runs and for publish_endpoint()."""


def _check_store(store: object) -> None:
    methods = ("__aenter__", "__aexit__", "append", "read", "read_last", "follow")
    if isinstance(store, type) or not all(hasattr(store, method) for method in methods):
        wanted = (
            "an event store, such as MemoryStore(), SQLiteStore(path) or RedisStore(url), or None for MemoryStore()"
        )
        raise wrong(TypeError, "store", wanted, store)


@opening
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
