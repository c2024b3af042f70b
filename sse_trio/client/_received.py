# ReceivedEvents: the events that an event source has received and not returned yet, across its connections.
#
# Rule 1: the next connection goes on after the last event that was received; what the user is shown as the last event's
#         id is that of the last event that was returned.
# Rule 2: events that were too large are counted for all connections, and logged.

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable

from .._wire.decoder import EventDecoder
from .._wire.received import ReceivedEvent
from ._options import EventSourceOptions
from ._request import StreamRequest

__all__ = ("ReceivedEvents",)

_logger = logging.getLogger("sse_trio.client")


class ReceivedEvents:
    """Events that wait to be returned, the ids around them, and the number of events that were skipped."""

    __slots__ = ("_options", "_request", "_returned_id", "_skipped_in_connection", "events", "received_id", "skipped")
    received_id: str
    skipped: int

    def __init__(self, request: StreamRequest, options: EventSourceOptions, last_event_id: str) -> None:
        self._request = request
        self._options = options
        self.events: deque[ReceivedEvent] = deque()
        self.received_id = self._returned_id = last_event_id
        self.skipped = self._skipped_in_connection = 0

    @property
    def last_event_id(self) -> str:
        """The id to go on from after the event that was returned last."""
        return self._returned_id if self.events else self.received_id

    def new_decoder(self) -> EventDecoder:
        """Return the decoder of the next connection."""
        self._skipped_in_connection = 0
        return EventDecoder(
            max_event_size=self._options.max_event_size,
            last_event_id=self.received_id,
            skip_too_large=self._options.skip_too_large,
        )

    def take(self, events: Iterable[ReceivedEvent], decoder: EventDecoder) -> None:
        """Keep the events that the decoder made."""
        self.events.extend(events)
        self.received_id = decoder.last_event_id
        skipped, self._skipped_in_connection = decoder.skipped - self._skipped_in_connection, decoder.skipped
        if skipped:
            self._note_skipped(skipped)

    def pop(self) -> ReceivedEvent:
        """Return the next event."""
        event = self.events.popleft()
        self._returned_id = event.id
        return event

    def _note_skipped(self, skipped: int) -> None:
        self.skipped += skipped
        _logger.warning(
            "%s: skipped %d events of more than %d bytes",
            self._request.description,
            skipped,
            self._options.max_event_size,
        )
