# A subscriber's position in a feed: the next entry that it takes, and the receiver to wake when there is one.
#
# Rule 1: a position is a cursor, not a queue: the events are in the feed, once for all subscribers.
# Rule 2: history overlaps with the ring. What the subscriber has read from the store, up to `skip_to`, is skipped here.

from __future__ import annotations

from typing import final

from .._loops.loop import Parked
from ..stores._protocol import EventId, StoredEvent
from .feed import Feed

__all__ = ("Position",)


@final
class Position:
    """The cursor of one subscriber. It is live while the subscriber reads the feed and not the store."""

    __slots__ = ("cursor", "feed", "is_live", "last", "receiver", "skip_to")

    def __init__(self) -> None:
        self.feed: Feed | None = None
        """The feed, from the subscriber's entering to its leaving."""
        self.cursor: int = 0
        self.is_live: bool = False
        self.last: EventId = EventId("", -1)
        """The id of the newest event that the subscriber has taken, or has read past in the store."""
        self.skip_to: int = -1
        """The sequence up to which it has read the store; -1 once the cursor is past that."""
        self.receiver: Parked | None = None
        """The receiver to wake; None while the subscriber doesn't wait."""

    # --- waiting

    def enter(self, feed: Feed) -> None:
        """Wait for the events of this feed, if there is a receiver already."""
        self.feed = feed
        if self.receiver is not None:
            feed.waiting[self] = None

    def leave(self) -> None:
        """Wait for no events any more."""
        if self.feed is not None:
            self.feed.waiting.pop(self, None)
        self.feed = None
        self.is_live = False

    def begin_waiting(self, receiver: Parked) -> None:
        """Have this receiver woken for each event, until end_waiting()."""
        if self.receiver is receiver:
            return
        self.receiver = receiver
        if self.feed is not None:
            self.feed.waiting[self] = None

    def end_waiting(self) -> None:
        """Wake the receiver no more."""
        self.receiver = None
        if self.feed is not None:
            self.feed.waiting.pop(self, None)

    def wake(self) -> None:
        """Wake the receiver, if there is one."""
        if self.receiver is not None:
            self.receiver.unpark()

    # --- reading

    def can_go_live(self, last: EventId) -> bool:
        """Whether the feed holds every event newer than this one."""
        return self.feed is not None and self.feed.goes_on_from(last)

    def go_live(self, last: EventId) -> None:
        """Read the feed from the first event that is newer than this one."""
        assert self.feed is not None
        self.last = last
        self.skip_to = last.sequence
        self.cursor = self.feed.cursor_after(last.sequence)
        self.is_live = True

    def is_ready(self) -> bool:
        """Whether there is an entry to take. It may turn out to be lost, or one to skip."""
        return self.is_live and self.feed is not None and self.cursor < self.feed.end

    def drop_lost(self) -> int:
        """Go on at the oldest entry that the feed still holds; return how many were lost."""
        assert self.feed is not None
        lost = self.feed.oldest_cursor() - self.cursor
        self.cursor += lost
        self.skip_to = -1
        return lost

    def skip_seen(self) -> bool:
        """Skip what the subscriber has read from the store; return whether there is an entry left to take."""
        assert self.feed is not None
        if self.skip_to >= 0:
            if self.feed.sequence_at(self.cursor) <= self.skip_to:
                self.cursor = self.feed.cursor_after(self.skip_to)
            else:
                self.skip_to = -1
        return self.cursor < self.feed.end

    def advance(self) -> int:
        """Take every entry up to the end; return the cursor of the first of them."""
        assert self.feed is not None
        cursor, self.cursor = self.cursor, self.feed.end
        self.last = self.feed.last
        return cursor

    def events(self) -> list[StoredEvent]:
        """Return the events from the cursor on, and take none."""
        assert self.feed is not None
        return self.feed.events(self.cursor)

    def lag(self) -> int | None:
        """Return how many entries there are to take; None where the store alone knows."""
        feed = self.feed
        if feed is None or not self.is_live or feed.was_reset(self.cursor):
            return None
        cursor = self.cursor
        if self.skip_to >= 0:
            seen_to = feed.cursor_after(self.skip_to)
            if seen_to > feed.oldest_cursor():  # otherwise nothing that it has seen is in the ring
                cursor = max(cursor, seen_to)
        return feed.end - cursor
