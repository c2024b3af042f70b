# What one subscriber does with events besides filtering: where it ends, and what its client is sent instead.
#
# Rule 1: the event that ends a subscription is delivered, and nothing after it.
# Rule 2: the predicate is called for each event once, in order, and only for what the subscriber's filter lets through.
# Rule 3: these functions see what users have published. The gap of a topic that was deleted passes them as it is.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from .._wire.event import ServerSentEvent, with_topic
from .._wire.returned import returned_bool, returned_event
from ..stores._holds import is_deletion
from ..stores._protocol import StoredEvent
from .position_line import Entry

__all__ = ("Rewrite", "Until", "UntilEvent", "cut_after", "rewritten", "until_of")

Until: TypeAlias = Callable[[str, ServerSentEvent], bool]
"""A user's function."""
UntilEvent: TypeAlias = Callable[[StoredEvent], bool]
Rewrite: TypeAlias = Callable[[str, ServerSentEvent], ServerSentEvent]


def until_of(function: Until) -> UntilEvent:
    """Return the user's function as one of a stored event. It fails closed, as a filter does."""

    def is_last(event: StoredEvent) -> bool:
        return not is_deletion(event.payload) and returned_bool("until", function(event.topic, event.event))

    return is_last


def cut_after(is_last: UntilEvent, events: Sequence[Entry]) -> int | None:
    """Return how many of the events there are up to the last one, that one included; None if it is not among them."""
    for count, event in enumerate(events, 1):
        if isinstance(event, StoredEvent) and is_last(event):
            return count
    return None


def rewritten(rewrite: Rewrite, entry: Entry) -> Entry:
    """Return what the user's function makes of an event, with the id of that event; gaps and positions as they are."""
    if not isinstance(entry, StoredEvent) or is_deletion(entry.payload):
        return entry
    new = returned_event("rewrite", rewrite(entry.topic, entry.event))
    sent = ServerSentEvent(new.data, event=new.event, id=str(entry.id), retry=new.retry, comment=new.comment)
    return with_topic(sent, entry.topic)
