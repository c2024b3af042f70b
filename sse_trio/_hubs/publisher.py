# Publishing: events go to the store, and from a store of this process alone straight to the rings.
#
# Rule 1: a store that other processes write to tells of every event through follow(), this process's own included. Only
#         a store with `append_nowait` needs no follower: its events are passed on in publish() itself.
# Rule 2: publishing to such a store takes no checkpoint per event. It takes one when a slice is used up, so that
#         a publisher in a loop lets the readers run.

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import cast, final

from anyio.lowlevel import checkpoint

from .._arguments.checks import check_key
from .._channels.pacer import SLICE_EVENTS, SLICE_SECONDS
from ..stores._expiry import ExpiringStore, check_ttl, expiring, expiring_store
from ..stores._holds import Claim, HoldingStore, NowaitHoldingStore, OnHeldDone, append_held_soon_of
from ..stores._protocol import AppendNowait, EventId, EventStore, StoredEvent
from .state import HubState

__all__ = ("Publisher", "holding_store")


@final
class Publisher:
    """Publishes to one hub.

    Args:
        hub: the hub.
        store: its store.
        append_nowait: the store's fast path, if it has one.
    """

    __slots__ = ("_append_nowait", "_expiring", "_holding", "_hub", "_round", "_slice_end", "_slice_events", "_store")

    def __init__(self, hub: HubState, store: EventStore, append_nowait: AppendNowait | None) -> None:
        self._hub = hub
        self._store = store
        self._append_nowait = append_nowait
        self._expiring: ExpiringStore | None = None
        self._holding: HoldingStore | None = None
        self._round = -1
        self._slice_events = 0
        self._slice_end = 0.0

    async def publish(self, items: list[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        """Append the items to the store, and return their ids."""
        self._hub.check_here()
        if key is not None:
            check_key(key)
        if self._append_nowait is None:
            ids = await self._store.append(items, key=key)
            self._hub.counters.published += len(ids)
            return ids
        if self._slice_is_used_up(len(items)):
            await checkpoint()
        ids = self._append_nowait(items, key=key)
        self._hub.counters.published += len(ids)
        self._pass_on(ids, items)
        return ids

    def expiring(self, items: list[tuple[str, bytes]], ttl: float) -> list[tuple[str, bytes]]:
        """Return the items of events that expire after these seconds. TypeError if the store has no such events."""
        check_ttl(ttl)
        if self._expiring is None:  # looked for once, as below
            self._expiring = expiring_store(self._store)
        return expiring(items, self._expiring.expiry_clock() + ttl)

    def expiring_each(self, items: list[tuple[str, bytes]], ttls: list[float | None]) -> list[tuple[str, bytes]]:
        """Return the items of events each of which has its own ttl, or none."""
        pairs = zip(items, ttls, strict=True)
        return [item if ttl is None else self.expiring([item], ttl)[0] for item, ttl in pairs]

    async def publish_held(self, items: list[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Make a claim on a topic and append the items to it in the same step. HoldLostError if it is refused."""
        self._hub.check_here()
        if self._holding is None:  # looked for once: isinstance() with a protocol costs as much as an append
            self._holding = holding_store(self._store)
        if self._append_nowait is None:
            ids = await self._holding.append_held(items, claim)
        else:
            await checkpoint()
            ids = cast("NowaitHoldingStore", self._store).append_held_nowait(items, claim)
            self._pass_on(ids, items)
        self._hub.counters.published += len(ids)
        return ids

    @property
    def publish_held_soon(self) -> Callable[[list[tuple[str, bytes]], Claim, OnHeldDone], None] | None:
        """What begins a ``publish_held()`` in the hub's loop, if the store can do that. note_published() ends it."""
        return append_held_soon_of(self._store)

    def note_published(self, count: int) -> None:
        """Count events in."""
        self._hub.counters.published += count

    def _pass_on(self, ids: list[EventId], items: list[tuple[str, bytes]]) -> None:
        fanout = self._hub.fanout
        if ids and ids[0].sequence > fanout.timeline.position.sequence:  # otherwise the key was used before
            fanout.add([StoredEvent(id_, *item) for id_, item in zip(ids, items, strict=True)])

    def _slice_is_used_up(self, count: int) -> bool:
        # A slice begins with the first event after a checkpoint, or after readers were woken.
        now = perf_counter()
        if self._round != self._hub.fanout.rounds:
            self._round = self._hub.fanout.rounds
            self._slice_events, self._slice_end = 0, 0.0
        self._slice_events += count
        if not self._slice_end:
            self._slice_end = now + SLICE_SECONDS
            return False
        if self._slice_events < SLICE_EVENTS and now < self._slice_end:
            return False
        self._slice_events, self._slice_end = 0, 0.0
        return True


def holding_store(store: EventStore) -> HoldingStore:
    """Return the store. TypeError if it can't hold topics."""
    if not isinstance(store, HoldingStore):
        msg = (
            f"the store of this hub, a {type(store).__name__}, holds no topics: runs and delete() need append_held(), "
            "held() and held_due(), see docs/stores.md"
        )
        raise TypeError(msg)
    return store
