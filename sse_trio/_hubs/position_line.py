# The id of a client's position, for a client that has been sent no event that carries it.
#
# Rule: no client takes it for a message. A block of an id alone sets the id and is not an event (WHATWG HTML 9.2.6,
#       "dispatch"), but @microsoft/fetch-event-source and httpx-sse take it for an empty one. So the line has no blank
#       line behind it. These two, and others that read line by line, know the id at once; EventSource knows it with
#       the next block, whatever that is.

from __future__ import annotations

from typing import TypeAlias, final

from .._wire.event import ServerSentEvent
from ..stores._protocol import EventId, StoredEvent

__all__ = ("Entry", "PositionLine")


@final
class PositionLine:
    """A position, on the wire.

    Args:
        event_id: the id.
        is_block: whether a blank line follows, for clients that are known to do what the standard says.
    """

    __slots__ = ("_id", "_is_block")

    def __init__(self, event_id: EventId, *, is_block: bool) -> None:
        self._id = event_id
        self._is_block = is_block

    def encode(self, sep: str = "\n") -> bytes:
        """Return the bytes of the line."""
        return f"id: {self._id}{sep}{sep * self._is_block}".encode()


Entry: TypeAlias = StoredEvent | ServerSentEvent | PositionLine
"""An event of the store; or a gap or a position, which are the hub's own."""
