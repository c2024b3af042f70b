# The one clock of all streams of a run: it calls each stream when its next deadline may have come.
#
# Rule 1: a stream is called no later than its earliest deadline, and says itself when to be called next. Events and
#         writes only ever move deadlines away, so they never touch the ticker: no timer and no scope per event.
# Rule 2: what is new and earlier is scheduled. Entries are replaced by being emptied, so that a stream that is over
#         is held by nothing.
# Rule 3: it lives only while there is something to call.

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Protocol

from anyio import CancelScope

from .loop import DetachedTask, Loop

__all__ = ("Entry", "Ticker", "Ticking")


class Ticking(Protocol):
    """What a ticker calls."""

    tick_entry: Entry | None

    def tick(self, now: float) -> float:
        """Do what is due at `now`; return when to be called next."""
        ...


class Entry(float):
    """A place in the ticker's order: the time itself, so that a heap of thousands compares them without our code."""

    __slots__ = ("item",)
    item: Ticking | None


class Ticker:
    """Calls each item when its time has come, in one detached task."""

    __slots__ = ("_heap", "_loop", "_parking", "_running", "_task")

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._parking = loop.new_parking()
        self._heap: list[Entry] = []
        self._running = False
        self._task: DetachedTask | None = None  # held here while it runs

    def schedule(self, item: Ticking, at: float) -> None:
        """Call the item at `at`, in seconds of the loop's clock, unless it is to be called before that anyway."""
        entry = item.tick_entry
        if entry is not None:
            if entry <= at:
                return
            entry.item = None
        item.tick_entry = entry = Entry(at)
        entry.item = item
        heappush(self._heap, entry)
        if self._heap[0] is entry:
            self._start_or_wake()

    def discard(self, item: Ticking) -> None:
        """Call the item no more."""
        if item.tick_entry is not None:
            item.tick_entry.item = None
            item.tick_entry = None

    def clear(self) -> None:
        """Call nobody any more, and end the task."""
        self._heap.clear()
        self._parking.unpark()

    def _start_or_wake(self) -> None:
        if self._running:
            self._parking.unpark()
        else:
            self._running = True
            self._task = self._loop.spawn_detached(self._run)

    async def _run(self) -> None:
        try:
            while self._heap:
                self._call_due(self._loop.current_time())
                self._drop_emptied()
                with CancelScope(deadline=self._heap[0] if self._heap else -math.inf):
                    await self._parking.park()
        finally:
            self._running = False
            self._task = None

    def _drop_emptied(self) -> None:
        # Most of what opens ends before its time: nobody wakes up for that.
        while self._heap and self._heap[0].item is None:
            heappop(self._heap)

    def _call_due(self, now: float) -> None:
        while self._heap and self._heap[0] <= now:
            item = heappop(self._heap).item
            if item is not None:
                item.tick_entry = None
                self.schedule(item, item.tick(now))
