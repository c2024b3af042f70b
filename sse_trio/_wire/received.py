# ReceivedEvent: one event as a decoder gives it out.

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ("ReceivedEvent",)


# A tuple, because making one is a large part of what decoding costs, and a frozen dataclass takes far longer to make.
class ReceivedEvent(NamedTuple):
    """One event as an ``EventSource`` would dispatch it (WHATWG HTML 9.2.6). Immutable."""

    event: str = "message"
    """The event's type; ``"message"`` where the server named none."""
    data: str = ""
    """The values of its ``data`` lines, joined by ``"\\n"``."""
    id: str = ""
    """The last event id as it stood when this event ended, which an earlier event may have set. ``""`` for none."""

    def json(self) -> Any:
        """Return ``json.loads(data)``.

        Raises:
            ValueError: the data isn't JSON (:exc:`json.JSONDecodeError`), or is nested deeper, or has a longer number,
                than Python takes. The server's fault.
        """
        try:
            return json.loads(self.data)
        except RecursionError:
            raise ValueError("the data is JSON that is nested too deep") from None
