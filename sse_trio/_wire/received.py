# ReceivedEvent: one event, as the decoder returns it.

from __future__ import annotations

import json
from typing import Any, NamedTuple

__all__ = ("ReceivedEvent",)


# A tuple, because making these objects is a large part of the cost of decoding. A frozen dataclass is far slower.
class ReceivedEvent(NamedTuple):
    """One event as an ``EventSource`` would dispatch it (WHATWG HTML 9.2.6). Immutable."""

    event: str = "message"
    """The event's type; ``"message"`` if the server did not name one."""
    data: str = ""
    """The values of its ``data`` lines, joined by ``"\\n"``."""
    id: str = ""
    """The last event id when this event ended. An earlier event may have set it. ``""`` if no event has."""

    def json(self) -> Any:
        """Return ``json.loads(data)``.

        Raises:
            ValueError: the data isn't JSON (:exc:`json.JSONDecodeError`), is nested too deep for Python, or has an int
                too long for it. The server is wrong.
        """
        try:
            return json.loads(self.data)
        except RecursionError:
            raise ValueError("the data is JSON that is nested too deep") from None
