# The timeline of a hub: a number for the place of each event, by which rings and subscribers are compared.
#
# Rule 1: a place is the event's sequence in the store, moved by as much as is needed for places to grow for as long as
#         the hub lives. So a place of a history that was lost is older than any place of the one that follows it.

from __future__ import annotations

from typing import final

from ..stores._protocol import EventId

__all__ = ("Timeline",)


@final
class Timeline:
    """The places of a hub's events.

    Args:
        position: the id of the newest event that the hub has passed on.
    """

    __slots__ = ("_newest", "_offset", "began", "position")

    def __init__(self, position: EventId) -> None:
        self._offset = 0
        self.position: EventId = position
        self.began: int = position.sequence
        """The first place of the present history. A subscriber at an older one has to go on from the store."""
        self._newest = position.sequence  # of the places that were ever given

    def place_of(self, id_: EventId) -> int:
        """Return the place of an event of the present history."""
        return id_.sequence + self._offset

    def reach(self, id_: EventId) -> int:
        """Return the place of an event that a subscriber has seen; the hub may have yet to pass it on."""
        place = self.place_of(id_)
        self._newest = max(self._newest, place)
        return place

    def is_known(self, id_: EventId) -> bool:
        """Whether the id belongs to the present history."""
        return id_.epoch == self.position.epoch

    def restart(self, floor: EventId) -> int:
        """Begin a new history, or a part of one, after ``floor``; return its place, which is the newest of all."""
        place = max(self._newest, self.place_of(self.position)) + 1
        self._offset = place - floor.sequence
        self.position = floor
        self.began = self._newest = place
        return place
