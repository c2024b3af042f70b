# The base of every exception of this library, and what a decoder raises. The others are in _errors.py.

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .received import ReceivedEvent

__all__ = ("EventTooLargeError", "SSEError")


class SSEError(Exception):
    """The base of every exception that is ``sse_trio``'s own."""


class EventTooLargeError(SSEError):
    """An event of a stream is larger than the decoder's ``max_event_size``. The server's fault, or the limit's.

    ``events`` are the events that ended before it in the same bytes and that nothing else has returned. ``event_id`` is
    the id that the event itself has set before it became too large: go on after that one and it doesn't come back.
    ``None`` if it had set none by then.
    """

    def __init__(self, max_event_size: int, events: Sequence[ReceivedEvent] = (), event_id: str | None = None) -> None:
        super().__init__(
            f"the stream holds an event of more than {max_event_size} bytes; if such events are expected, "
            "use a larger max_event_size, or skip_too_large=True to go on without them"
        )
        self.max_event_size = max_event_size
        self.event_id = event_id
        self.events: tuple[ReceivedEvent, ...] = tuple(events)
