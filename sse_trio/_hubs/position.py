# A subscriber's position in its feed: the place up to which it has seen everything, and the receiver to wake.
#
# Rule 1: a position is a cursor, not a queue: the events are in the rings, once for all subscribers.
# Rule 2: history overlaps with the rings. What the subscriber has read from the store is before its cursor, also if the
#         hub has yet to hear of it, so it is not sent again.

from __future__ import annotations

from typing import final

from .._loops.loop import Parked
from ..stores._protocol import EventId
from .feed import Feed

__all__ = ("Position",)


@final
class Position:
    """The cursor of one subscriber. It is live while the subscriber reads the rings and not the store."""

    __slots__ = ("_origin", "_origin_place", "counted", "cursor", "feed", "is_live", "receiver")

    def __init__(self) -> None:
        self.feed: Feed | None = None
        """The feed, from the subscriber's entering to its leaving."""
        self.cursor: int = 0
        self.counted: int = 0
        """How many events its rings had got at the cursor, so that those which they let go of can be counted. (Events
        that it read from the store before the hub heard of them count as not taken, until it goes live again.)"""
        self.is_live: bool = False
        self._origin = EventId("", -1)  # where it went live
        self._origin_place = 0
        self.receiver: Parked | None = None
        """The receiver to wake; None while the subscriber doesn't wait."""

    # --- waiting

    def enter(self, feed: Feed) -> None:
        """Belong to this feed: the receiver is woken for each of its events."""
        self.feed = feed
        feed.add_reader(self)

    def leave(self) -> None:
        """Belong to no feed any more."""
        if self.feed is not None:
            self.feed.remove_reader(self)
        self.feed = None
        self.is_live = False

    def wake(self) -> None:
        """Wake the receiver, if there is one."""
        if self.receiver is not None:
            self.receiver.unpark()

    # --- reading

    @property
    def last(self) -> EventId:
        """The id of the newest event that the subscriber has taken, or has read past in the store."""
        return self._origin._replace(sequence=self._origin.sequence + self.cursor - self._origin_place)

    def can_go_live(self, last: EventId) -> bool:
        """Whether the rings hold every event newer than this one."""
        feed = self.feed
        return feed is not None and feed.timeline.is_known(last) and feed.timeline.place_of(last) >= feed.floor()

    def go_live(self, last: EventId) -> None:
        """Read the rings from the first event that is newer than this one."""
        assert self.feed is not None
        self._origin = last
        self._origin_place = self.cursor = self.feed.timeline.reach(last)
        self.counted = self.feed.total() - self.feed.held_after(self.cursor)
        self.is_live = True

    def is_ready(self) -> bool:
        """Whether there is an event to take. It may turn out to be lost."""
        return self.is_live and self.feed is not None and self.cursor < self.feed.end()

    def was_reset(self) -> bool:
        """Whether history was lost since it went live: then the subscriber has not been too slow."""
        assert self.feed is not None
        return self.cursor < self.feed.timeline.began

    def skip_lost(self) -> int:
        """Count what the rings have let go of as taken; return how many events that were."""
        assert self.feed is not None
        lost = self._not_taken() - self.feed.held_after(self.cursor)
        self.counted += lost
        if self.feed.ring is not None:
            self.cursor = self.feed.ring.floor  # so that all who are too slow are at the same place again
        return lost

    def advance(self, end: int, count: int) -> None:
        """Take this many events, which are all up to this place."""
        self.cursor = end
        self.counted += count

    def lag(self) -> int | None:
        """Return how many events there are to take; None where the store alone knows."""
        if self.feed is None or not self.is_live or self.was_reset():
            return None
        return self._not_taken() if self.cursor < self.feed.floor() else self.feed.held_after(self.cursor)

    def _not_taken(self) -> int:
        assert self.feed is not None
        return self.feed.total() - self.counted
