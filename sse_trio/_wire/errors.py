# The base class of the library's exceptions, and the error of the decoder. The others are in _errors.py.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .received import ReceivedEvent

__all__ = ("EventTooLargeError", "SSEError")


class SSEError(Exception):
    """The base class of ``sse_trio``'s own exceptions."""


class EventTooLargeError(SSEError):
    """An event is larger than the decoder's ``max_event_size``. Either the server is wrong or the limit is too low.

    ``events`` are the events that ended before it in the same bytes; no other call returns them. ``event_id`` is the id
    that the large event set before it became too large, or ``None``. Reconnect with it and the event doesn't come back.
    """

    def __init__(self, max_event_size: int, events: Sequence[ReceivedEvent] = (), event_id: str | None = None) -> None:
        super().__init__(
            f"the stream holds an event of more than {max_event_size} bytes; if you expect such events, "
            "use a larger max_event_size, or skip_too_large=True to go on without them"
        )
        self.max_event_size = max_event_size
        self.event_id = event_id
        self.events: tuple[ReceivedEvent, ...] = tuple(events)
