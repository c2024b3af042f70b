# The events in a hub's rings that expire, and the task that takes them out when they do.
#
# Rule 1: a ring holds no event beyond its moment. What a subscriber has taken by then is delivered.
# Rule 2: the task runs only in a hub that has had such an event. It takes out a few at a time, so that many with one
#         moment don't hold up the loop.
# Rule 3: rings let go of most events long before their moment. So the list of them is gone through when it has become
#         twice as long, and what no ring holds is forgotten: the list is about as long as the rings are.

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from heapq import heappop, heappush
from typing import Any, NamedTuple, final

from anyio import move_on_after
from anyio.lowlevel import checkpoint

from .._loops.current import current_loop
from .._loops.loop import Parking
from ..stores._expiry import due_of
from ..stores._protocol import StoredEvent
from .position_line import Entry

__all__ = ("Expiries", "Expiry", "without_mark")


AT_ONCE = 100
"""Events that are taken out, or looked at, before other tasks get a turn: less than a millisecond."""
LOOKED_FROM = 1024
"""Events in the list from which on it is gone through."""


class Expiry(NamedTuple):
    """An event in the rings, by its place."""

    due: float
    place: int
    topic: str


@final
class Expiries:
    """The expiries of one hub.

    Args:
        clock: that of the store.
        start: runs a task in the hub's nursery.
        drop: takes events out of the rings.
        is_held: whether a ring holds an event.
    """

    __slots__ = ("_clock", "_drop", "_heap", "_is_held", "_look_at", "_old", "_parking", "_start")

    def __init__(
        self,
        clock: Callable[[], float],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], object],
        drop: Callable[[Sequence[Expiry]], None],
        is_held: Callable[[Expiry], bool],
    ) -> None:
        self._clock = clock
        self._start = start
        self._drop = drop
        self._is_held = is_held
        self._heap: list[Expiry] = []
        self._old: list[Expiry] = []  # a heap that is being gone through
        self._look_at = LOOKED_FROM
        self._parking: Parking | None = None

    def __len__(self) -> int:
        return len(self._heap) + len(self._old)

    def is_over(self, due: float) -> bool:
        """Whether this moment has come."""
        return due <= self._clock()

    def add(self, expiry: Expiry) -> None:
        """Have an event dropped when its moment comes."""
        heappush(self._heap, expiry)
        is_first = self._heap[0] is expiry
        if len(self._heap) > self._look_at and not self._old:
            self._old, self._heap = self._heap, []
            is_first = True
        if self._parking is None:
            self._parking = current_loop().new_parking()
            self._start(self._run)
        elif is_first:
            self._parking.unpark()

    async def _run(self) -> None:
        assert self._parking is not None
        while True:
            while (over := self._take_over(self._clock())) or self._old:
                self._drop(over)
                self._look_at_some()
                await checkpoint()
            if self._heap:
                with move_on_after(self._heap[0].due - self._clock()):
                    await self._parking.park()
            else:
                await self._parking.park()

    def _take_over(self, now: float) -> list[Expiry]:
        over: list[Expiry] = []
        for heap in (self._old, self._heap):
            while heap and heap[0].due <= now and len(over) < AT_ONCE:
                over.append(heappop(heap))
        return over

    def _look_at_some(self) -> None:
        for _ in range(min(AT_ONCE, len(self._old))):
            expiry = heappop(self._old)
            if self._is_held(expiry):
                heappush(self._heap, expiry)
            if not self._old:
                self._look_at = max(LOOKED_FROM, 2 * len(self._heap))

    def live(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return entries that are about to be sent, without events whose moment has come, and without marks."""
        now = self._clock()
        return [_without_mark(entry) for entry in entries if not _is_over(entry, now)]


def _is_over(entry: Entry, now: float) -> bool:
    due = due_of(entry.payload) if isinstance(entry, StoredEvent) else None
    return due is not None and due <= now


def _without_mark(entry: Entry) -> Entry:
    return without_mark(entry) if isinstance(entry, StoredEvent) else entry


def without_mark(event: StoredEvent) -> StoredEvent:
    """Return an event as it is sent."""
    if due_of(event.payload) is None:
        return event
    return event._replace(payload=event.payload[event.payload.index(b"\n") + 1 :])
