# The watchers that this process has of runs in other processes, and what their owners are told of them.
#
# Rule 1: a process that watches a run which stops when it is unwatched says so again and again. A process that is gone
#         says nothing.
# Rule 2: a watcher that is new is told of at once, whenever the others are due: its run may be about to stop.

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import NamedTuple, final

from anyio import Event, move_on_after, sleep

from .._errors import StoreUnavailableError
from .control import Control, RunRef

__all__ = ("Watchers",)

MOST_OFTEN = 0.05
"""Seconds between two messages about watchers, at least."""


class _Watched(NamedTuple):
    owner: str
    ref: RunRef
    seconds: float
    """After which it stops unless its owner is told."""


@final
class Watchers:
    """The watchers that this process has of runs in other processes, if those stop when they are unwatched."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._watched: Counter[_Watched] = Counter()
        self._new: set[_Watched] = set()
        self._came = Event()

    @contextmanager
    def watching(self, owner: str, ref: RunRef, seconds: float) -> Generator[None]:
        """Tell the owner about this watcher, while the body runs."""
        entry = _Watched(owner, ref, seconds)
        if entry not in self._watched:
            self._new.add(entry)
            self._came.set()
        self._watched[entry] += 1
        try:
            yield
        finally:
            self._watched[entry] -= 1
            self._watched += Counter[_Watched]()  # drop what is down to 0

    async def tell(self) -> None:
        """Tell the owners, at once of what is new, and of all three times in the shortest time that one waits."""
        while True:
            shortest = self._shortest()
            with move_on_after(max(MOST_OFTEN, shortest / 3)):
                while self._shortest() >= shortest:  # otherwise all are due sooner
                    await self._tell_new()
            await self._tell(self._watched)

    def _shortest(self) -> float:
        return min((entry.seconds for entry in self._watched), default=math.inf)

    async def _tell_new(self) -> None:
        await self._came.wait()
        new, self._new, self._came = self._new, set[_Watched](), Event()
        await self._tell(new)
        await sleep(MOST_OFTEN)

    async def _tell(self, entries: Collection[_Watched]) -> None:
        for owner in {entry.owner for entry in entries}:
            try:
                await self._control.send(owner, "watched", [entry.ref for entry in entries if entry.owner == owner])
            except StoreUnavailableError:
                return  # said again soon
