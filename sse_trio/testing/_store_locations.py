# Helpers of the store checks: locations to open stores at, and a read to the tip.

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from .._arguments.checks import shown
from ..stores import Retention
from ..stores._protocol import EventId, EventStore, Gap, StoredEvent
from ..stores._topics import TopicFilter

__all__ = ("ALL", "KEEP_ALL", "Locations", "MakeStore", "MakeStoreByPrefix", "plain", "read_all")

ALL: Final = TopicFilter("*")
KEEP_ALL: Final = Retention()


class MakeStore(Protocol):
    """Makes a store that is not open yet.

    ``location`` names a storage. The same location is the same file or database, as after a restart or in another
    process; a new location is empty. ``hub`` and ``topic`` are the limits of retention.
    """

    def __call__(self, location: str, hub: Retention, topic: Retention, /) -> EventStore:
        """Return the store."""
        ...


class MakeStoreByPrefix(Protocol):
    """Makes a store that is not open yet, with limits by pattern.

    As :class:`MakeStore`; ``topics`` has patterns, as of a subscription, and the limits of each topic that they match.
    The longest that matches counts, and a topic that none matches has no limits of its own.
    """

    def __call__(self, location: str, hub: Retention, topics: Mapping[str, Retention], /) -> EventStore:
        """Return the store."""
        ...


class Locations:
    """Opens the stores of one check, at locations that no other check uses."""

    def __init__(self, make_store: MakeStore, name: str) -> None:
        self._make_store = make_store
        self._name = name

    def open(self, location: str = "0", hub: Retention = KEEP_ALL, topic: Retention = KEEP_ALL) -> EventStore:
        """Return a store at one of the check's locations."""
        store = self._make_store(f"{self._name}-{location}", hub, topic)
        if not hasattr(store, "__aenter__"):
            raise TypeError(f"make_store must return an event store; got {shown(store)}")
        return store


async def read_all(
    store: EventStore, topics: TopicFilter, after: EventId | None, *, limit: int = 256
) -> tuple[list[StoredEvent], Gap | None]:
    """Read page by page to the tip, and check each page on the way."""
    page = await store.read(topics, after, limit=limit)
    events, gap = list(page.events), page.gap
    while page.next != page.tip:
        assert page.next.sequence < page.tip.sequence, f"order: next={page.next} is beyond the tip {page.tip}"
        last, page = page.next, await store.read(topics, page, limit=limit)
        assert page.gap is None, f"gap: one more, at {last}, in reading on where nothing was trimmed"
        assert page.next > last, f"order: reading on from {last} doesn't advance"
        assert all(last < event.id <= page.next for event in page.events), f"order: not within ({last}, {page.next}]"
        assert len(page.events) <= limit, f"order: {len(page.events)} events in a page of {limit}"
        events += page.events
    return events, gap


def plain(events: Iterable[StoredEvent]) -> list[tuple[int, str, bytes]]:
    """Return events in the model's form."""
    return [(event.id.sequence, event.topic, event.payload) for event in events]
