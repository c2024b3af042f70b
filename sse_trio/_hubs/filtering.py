# The filter of one subscriber: which events it lets through, and when its client needs a new position.
#
# Rule 1: a filter may be a check of rights, so it fails closed: a result that is neither True nor False is an error.
# Rule 2: an event that is left out does not move the client's `Last-Event-ID`. A client whose filter lets little
#         through would come back with an old id, and get a gap for events that it was never meant to see. So the hub
#         sends it its position (position_line.py) when its id has fallen far enough behind.
# Rule 3: a filter sees what users have published. The gap of a topic that was deleted passes it, as every gap does.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias, final

from anyio.lowlevel import checkpoint

from .._wire.event import ServerSentEvent
from .._wire.returned import returned_bool
from ..stores._holds import is_deletion
from ..stores._protocol import EventId, StoredEvent
from .position_line import Entry

__all__ = ("EventFilter", "Filter")

Filter: TypeAlias = Callable[[str, ServerSentEvent], bool]

TOLD_AFTER_EVENTS = 64
"""Events left out in a row after which the client is sent its position."""
TOLD_AFTER_SECONDS = 10.0
"""How old the client's position may be when another event is left out."""
AT_ONCE = 100
"""Events that the filter is called with before other tasks get a turn, where it can wait: about a millisecond."""


@final
class EventFilter:
    """The user's function, and how far the client's last id is behind because of it."""

    __slots__ = ("_behind", "_behind_since", "_function", "_last")

    def __init__(self, function: Filter) -> None:
        self._function = function
        self._behind = 0
        self._behind_since = 0.0
        self._last: EventId | None = None

    def wants(self, event: StoredEvent) -> bool:
        """Whether the subscriber is sent the event. Raises what the function raises."""
        if is_deletion(event.payload):
            return True
        wanted = self._function(event.topic, event.event)
        return wanted if wanted is True or wanted is False else returned_bool("filter", wanted)

    def select(self, events: Sequence[Entry]) -> list[Entry]:
        """Return what the filter lets through, and every gap and position; note how much was left out since."""
        selected: list[Entry] = []
        behind, last = self._behind, self._last
        for event in events:
            if not isinstance(event, StoredEvent) or self.wants(event):
                selected.append(event)
                behind, last = 0, None
            else:
                behind, last = behind + 1, event.id
        self._behind, self._last = behind, last  # only now: if the function raises, nothing was taken
        return selected

    async def select_in_slices(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Return what the filter lets through, with a checkpoint for every hundred events; change nothing."""
        selected: list[StoredEvent] = []
        for start in range(0, len(events), AT_ONCE):
            selected += [event for event in events[start : start + AT_ONCE] if self.wants(event)]
            await checkpoint()
        return selected

    def position_to_tell(self, now: float) -> EventId | None:
        """Return the id to send to the client, if its own is too far behind; the client then counts as up to date."""
        if self._behind == 0:
            self._behind_since = now
            return None
        if self._behind < TOLD_AFTER_EVENTS and now - self._behind_since < TOLD_AFTER_SECONDS:
            return None
        last, self._last = self._last, None
        self._behind, self._behind_since = 0, now
        return last
