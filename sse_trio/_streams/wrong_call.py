# The wrong call of send(): `send("x", event="tick")` or `send(data="x")`, as other libraries' events are written.
#
# Python's own error ("got some positional-only arguments passed as keyword arguments") doesn't say what an event is.

from __future__ import annotations

__all__ = ("hint_of_wrong_call",)

_SEND = "EventSendChannel.send() "
_HINT = (
    "sse_trio: send() takes one event. Write await send_channel.send(ServerSentEvent(data, event=..., id=...)), or "
    "await send_channel.send({'data': data, 'event': ..., 'id': ...})."
)


def hint_of_wrong_call(exc: BaseException) -> str | None:
    """Return the note for an exception that comes from calling ``send()`` with anything but one event."""
    return _HINT if isinstance(exc, TypeError) and str(exc).startswith(_SEND) else None
