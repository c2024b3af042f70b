# Checks of what the user's functions return: events, decisions and keys. Also of the farewell, an event or a function.
#
# Rule: only True means yes. A coroutine is truthy, so a check of rights that forgot to await would let everyone in.

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Hashable
from typing import TypeGuard

from .._arguments.checks import check_function, shown
from .event import ServerSentEvent

__all__ = ("check_farewell", "returned_bool", "returned_event", "returned_key")


def returned_event(name: str, event: object) -> ServerSentEvent:
    """Return the event that a function returned; raise TypeError if it is not an event."""
    if not isinstance(event, ServerSentEvent):
        msg = f"{name} must return a ServerSentEvent; it returned {shown(event)}"
        raise TypeError(msg)
    return event


def returned_bool(name: str, value: object) -> bool:
    """Return the decision that a function returned; raise TypeError unless it is True or False."""
    if value is True or value is False:
        return value
    if inspect.iscoroutine(value):
        value.close()
    msg = f"{name} must return True or False; it returned {shown(value)}"
    raise TypeError(msg)


def returned_key(name: str, key: object, wanted: str) -> Hashable:
    """Return the key that a function returned; raise TypeError if it can't be hashed or must be awaited first."""
    if _can_be_key(key):
        return key
    if inspect.iscoroutine(key):
        key.close()
    msg = f"{name} returned {shown(key)}, which can't be a key: {wanted}"
    raise TypeError(msg)


def _can_be_key(key: object) -> TypeGuard[Hashable]:
    # isinstance(key, Hashable) is not enough: a tuple may hold a list, and an awaitable is hashable.
    if isinstance(key, Awaitable):
        return False
    try:
        hash(key)
    except TypeError:
        return False
    return True


def check_farewell(value: object) -> None:
    """Raise TypeError unless the value is an event or a function."""
    if not isinstance(value, ServerSentEvent):
        check_function("farewell", value, "a ServerSentEvent, or a function that returns one")
