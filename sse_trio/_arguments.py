# The words for an argument that makes no sense: what is wrong with it, and what would be right.

from __future__ import annotations

import math

from ._event import ServerSentEvent

__all__ = ("check_farewell", "check_function", "check_grace", "check_seconds", "check_status_code", "returned_event")

_WITHOUT_BODY = frozenset((204, 205, 304))  # RFC 9110 sections 15.3.5, 15.3.6, 15.4.5


def check_seconds(name: str, value: object, *, zero: bool) -> None:
    """Raise TypeError or ValueError for what is no positive number of seconds; ``zero`` says whether 0 is one."""
    if type(value) is float and value > 0:
        return  # a default nearly always, and asked three times for each stream
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        msg = f"{name} must be a number of seconds or None, not {value!r}"
        raise TypeError(msg)
    if not (value > 0 or (zero and value == 0)):
        least = "0 or more" if zero else "more than 0"
        msg = f"{name}={value} must be {least} seconds, or None for none"
        raise ValueError(msg)


def check_grace(name: str, value: object) -> None:
    """Raise for what is no time that a producer can be given."""
    if value is None or value == math.inf:
        msg = f"{name}={value} must be a number of seconds; a producer that never ends would hold the server"
        raise ValueError(msg)
    check_seconds(name, value, zero=True)


def check_status_code(value: object) -> None:
    """Raise TypeError or ValueError for what is no status of a response with a body."""
    if not isinstance(value, int) or isinstance(value, bool):
        msg = f"status_code must be an int, not {value!r}"
        raise TypeError(msg)
    if not 200 <= value <= 599 or value in _WITHOUT_BODY:
        msg = f"status_code={value} has no stream as its body; to send no body write Response(status_code={int(value)})"
        raise ValueError(msg)


def check_function(name: str, value: object) -> None:
    """Raise TypeError for what can't be called."""
    if not callable(value):
        msg = f"{name} must be a function, not {value!r}; give the function itself, not its result"
        raise TypeError(msg)


def returned_event(name: str, event: object) -> ServerSentEvent:
    """Return what a function of the user's has returned; TypeError if that is no event."""
    if not isinstance(event, ServerSentEvent):
        msg = f"{name} must return a ServerSentEvent, not {event!r}"
        raise TypeError(msg)
    return event


def check_farewell(value: object) -> None:
    """Raise TypeError for what is neither an event nor a function."""
    if not isinstance(value, ServerSentEvent) and not callable(value):
        msg = f"farewell must be a ServerSentEvent, or a function that returns one, not {value!r}"
        raise TypeError(msg)
