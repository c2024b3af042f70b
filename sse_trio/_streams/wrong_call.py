# Wrong calls whose error is Python's own, and doesn't say what to write.
#
# `send("x", event="tick")` or `send(data="x")`, as other libraries' events are written: "got some positional-only
# arguments passed as keyword arguments" doesn't say what an event is. And a producer with other parameters than it is
# called with: the traceback ends in this package, and not at a line of the user's.

from __future__ import annotations

from .traceback_end import raised_in

__all__ = ("hint_of_wrong_call",)

_SEND = "EventSendChannel.send() "
_HINT = (
    "sse_trio: send() takes one event. Write await send_channel.send(ServerSentEvent(data, event=..., id=...)), or "
    "await send_channel.send({'data': data, 'event': ..., 'id': ...})."
)
_HINT_FOR_PRODUCERS = (
    "sse_trio: a producer is called as produce(send_channel, *args), with the arguments that you give after it, as in "
    "EventSourceResponse(produce, *args), and awaited. What producers= has is called without arguments. "
    "functools.partial gives it others, keyword arguments too."
)


def hint_of_wrong_call(exc: BaseException, called_in: str) -> str | None:
    """Return the note for an exception that comes from a call with the wrong arguments.

    Args:
        exc: what a producer raised.
        called_in: the module that calls producers.
    """
    if not isinstance(exc, TypeError):
        return None
    if raised_in(exc.__traceback__) == called_in:
        return _HINT_FOR_PRODUCERS
    return _HINT if str(exc).startswith(_SEND) else None
