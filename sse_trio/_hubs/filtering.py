# The filter of one subscriber: what it lets through, and the position that its client has to be told.
#
# Rule 1: it may be a check of rights, so it fails closed: what is neither True nor False is an error, and no event.
# Rule 2: an event that is left out moves nobody's `Last-Event-ID`. A client whose filter lets little through would
#         come back with an old id, and be told of a gap in events that it was never meant to see. So it is told its
#         position, in a block without data, when it has fallen far enough behind.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from anyio.lowlevel import checkpoint

from .._wire.event import ServerSentEvent
from .._wire.returned import returned_bool
from ..stores._protocol import EventId, StoredEvent

__all__ = ("EventFilter", "Filter")

Filter: TypeAlias = Callable[[str, ServerSentEvent], bool]

TOLD_AFTER_EVENTS = 64
"""Events left out in a row after which the client is told its position."""
TOLD_AFTER_SECONDS = 10.0
"""How old its position may be when another event is left out."""
AT_ONCE = 100
"""Events that are looked at before others get their turn, where that is possible: about a millisecond."""


@final
class EventFilter:
    """A user's function, and how far its client's last id is behind because of it."""

    __slots__ = ("_behind", "_behind_since", "_function", "_last")

    def __init__(self, function: Filter) -> None:
        self._function = function
        self._behind = 0
        self._behind_since = 0.0
        self._last: EventId | None = None

    def wants(self, event: StoredEvent) -> bool:
        """Whether it lets the event through. Raises what the function raises."""
        wanted = self._function(event.topic, event.event)
        return wanted if wanted is True or wanted is False else returned_bool("filter", wanted)

    def select(self, events: Sequence[StoredEvent | ServerSentEvent]) -> list[StoredEvent | ServerSentEvent]:
        """Return what it lets through, gaps and positions in any case; and note how much it left out since."""
        selected: list[StoredEvent | ServerSentEvent] = []
        behind, last = self._behind, self._last
        for event in events:
            if isinstance(event, ServerSentEvent) or self.wants(event):
                selected.append(event)
                behind, last = 0, None
            else:
                behind, last = behind + 1, event.id
        self._behind, self._last = behind, last  # only now: when the function raises nothing was taken
        return selected

    async def select_in_slices(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return what it lets through, with a checkpoint now and then; changes nothing."""
        selected: list[StoredEvent] = []
        for start in range(0, len(events), AT_ONCE):
            selected += [event for event in events[start : start + AT_ONCE] if self.wants(event)]
            await checkpoint()
        return selected

    def position_to_tell(self, now: float) -> EventId | None:
        """Return the id that the client is to be told now, if it is too far behind; it counts as told then."""
        if self._behind == 0:
            self._behind_since = now
            return None
        if self._behind < TOLD_AFTER_EVENTS and now - self._behind_since < TOLD_AFTER_SECONDS:
            return None
        last, self._last = self._last, None
        self._behind, self._behind_since = 0, now
        return last
