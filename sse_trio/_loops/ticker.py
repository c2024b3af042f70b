# Ticker: calls every stream of a run when its next deadline may have come.
#
# Rule 1: the ticker calls a stream no later than its earliest deadline, and the stream returns when to call it next.
#         Events and writes only move deadlines later, so they don't touch the ticker: no timer or scope per event.
# Rule 2: schedule() only makes a call earlier. It empties the entry that it replaces, so that no entry keeps a stream
#         that has ended.
# Rule 3: its task runs only while there is something to call.

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Protocol

from anyio import CancelScope

from .loop import DetachedTask, Loop

__all__ = ("Entry", "Ticker", "Ticking")


class Ticking(Protocol):
    """An object that a ticker calls."""

    tick_entry: Entry | None

    def tick(self, now: float) -> float:
        """Do what is due at `now`; return when to call this next."""
        ...


class Entry(float):
    """An entry in the ticker's heap. It is the time itself, so that comparing thousands runs no Python code."""

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
        self._task: DetachedTask | None = None  # a reference while it runs

    def schedule(self, item: Ticking, at: float) -> None:
        """Call the item at `at`, in seconds of the loop's clock, unless it is scheduled earlier."""
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
        """Don't call the item any more."""
        if item.tick_entry is not None:
            item.tick_entry.item = None
            item.tick_entry = None

    def clear(self) -> None:
        """Discard all items, and end the task."""
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
        # Most streams end before their deadline. The task must not wake up for those.
        while self._heap and self._heap[0].item is None:
            heappop(self._heap)

    def _call_due(self, now: float) -> None:
        while self._heap and self._heap[0] <= now:
            item = heappop(self._heap).item
            if item is not None:
                item.tick_entry = None
                self.schedule(item, item.tick(now))
