# Publishing: events go to the store, and from a store of this process alone straight to the rings.
#
# Rule 1: a store that other processes write to tells of every event through follow(), this process's own included. Only
#         a store with `append_nowait` needs no follower: its events are passed on in publish() itself.
# Rule 2: publishing to such a store takes no checkpoint per event. It takes one when a slice is used up, so that
#         a publisher in a loop lets the readers run.

from __future__ import annotations

from time import perf_counter
from typing import final

from anyio.lowlevel import checkpoint

from .._arguments.checks import check_key
from .._channels.pacer import SLICE_EVENTS, SLICE_SECONDS
from ..stores._protocol import AppendNowait, EventId, EventStore, StoredEvent
from .state import HubState

__all__ = ("Publisher",)


@final
class Publisher:
    """Publishes to one hub.

    Args:
        hub: the hub.
        store: its store.
        append_nowait: the store's fast path, if it has one.
    """

    __slots__ = ("_append_nowait", "_hub", "_round", "_slice_end", "_slice_events", "_store")

    def __init__(self, hub: HubState, store: EventStore, append_nowait: AppendNowait | None) -> None:
        self._hub = hub
        self._store = store
        self._append_nowait = append_nowait
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
