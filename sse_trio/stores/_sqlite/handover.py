# What this process has appended itself, handed to its own followers, so that they need not read it from the file.
#
# Rule 1: only what is committed is handed over, in the order of the commits, with the ids that the file gave.
# Rule 2: a follower takes a group only if it follows its position without a hole. A hole means that another process has
#         written in between: the follower reads the file then, which has both, and drops what it has read already.
# Rule 3: a follower that is slow holds a bounded number of events here, and reads the remainder from the file.

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import final

from ..._loops.current import current_loop
from .._append import Append, Result
from .._follower import FOLLOWED_AT_ONCE
from .._protocol import EventId, Page, StoredEvent

__all__ = ("Handover", "new_events")

_MOST = 16 * FOLLOWED_AT_ONCE
"""Events that wait for one follower."""


@final
class Handover:
    """Takes groups in, for one follower, and gives pages out."""

    __slots__ = ("_events", "_groups", "_parking", "is_stale")

    def __init__(self) -> None:
        self._groups: deque[Sequence[StoredEvent]] = deque()
        self._events = 0
        self._parking = current_loop().new_parking()
        self.is_stale = True
        """Whether the file may have events that are not handed over."""

    def add(self, events: Sequence[StoredEvent]) -> None:
        """Take in a group that was committed: neighbours, at least one."""
        self._groups.append(events)
        self._events += len(events)
        if self._events > _MOST:
            self._drop()
        self._parking.unpark()

    def note_stale(self) -> None:
        """Note that another process may have written."""
        self.is_stale = True
        self._parking.unpark()

    def _drop(self) -> None:
        self._groups.clear()
        self._events = 0
        self.is_stale = True

    def take(self, after: EventId | Page) -> Page | None:
        """Return the next page after this position, if it is here."""
        position, trimmed_to = (after.next, after.trimmed_to) if isinstance(after, Page) else (after, after)
        while self._groups:
            first = self._groups[0][0].id
            if first.epoch != position.epoch or first.sequence > position.sequence + 1:
                self._drop()
                break
            group = self._groups.popleft()
            self._events -= len(group)
            events = tuple(group[position.sequence + 1 - first.sequence :])
            if events:
                return Page(events, events[-1].id, None, events[-1].id, trimmed_to)
        return None

    @property
    def has_news(self) -> bool:
        """Whether there may be something to take or to read."""
        return self.is_stale or bool(self._groups)

    async def wait(self) -> None:
        """Return when there may be something to take or to read. There is nothing now. A checkpoint."""
        await self._parking.park()


def new_events(group: Sequence[Append], results: Sequence[Result], before: int) -> list[StoredEvent]:
    """Return the events of a group that are new: those after ``before``, and not of a key that was used already."""
    events: list[StoredEvent] = []
    for append, ids in zip(group, results, strict=True):
        if isinstance(ids, list) and ids and ids[0].sequence > before:
            before = ids[-1].sequence
            events += [StoredEvent(id_, *item) for id_, item in zip(ids, append.items, strict=True)]
    return events
