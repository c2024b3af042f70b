# What functions of the user's return: events, decisions, keys. And the farewell: an event, or such a function.
#
# Rule: what is merely true is not a yes. A coroutine is true, and so a check of rights would let everything through.

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Hashable
from typing import TypeGuard

from .._arguments.checks import check_function, shown
from .event import ServerSentEvent

__all__ = ("check_farewell", "returned_bool", "returned_event", "returned_key")


def returned_event(name: str, event: object) -> ServerSentEvent:
    """Return what a function has returned; TypeError if that is not an event."""
    if not isinstance(event, ServerSentEvent):
        msg = f"{name} must return a ServerSentEvent; it returned {shown(event)}"
        raise TypeError(msg)
    return event


def returned_bool(name: str, value: object) -> bool:
    """Return what a function has decided; TypeError if that is neither True nor False."""
    if value is True or value is False:
        return value
    if inspect.iscoroutine(value):
        value.close()
    msg = f"{name} must return True or False; it returned {shown(value)}"
    raise TypeError(msg)


def returned_key(name: str, key: object, wanted: str) -> Hashable:
    """Return what a function has made a key of; TypeError if no table can hold that, or if it is not there yet."""
    if _can_be_key(key):
        return key
    if inspect.iscoroutine(key):
        key.close()
    msg = f"{name} returned {shown(key)}, which can't be a key: {wanted}"
    raise TypeError(msg)


def _can_be_key(key: object) -> TypeGuard[Hashable]:
    # A tuple says that it is hashable, whatever is in it; and an awaitable is.
    if isinstance(key, Awaitable):
        return False
    try:
        hash(key)
    except TypeError:
        return False
    return True


def check_farewell(value: object) -> None:
    """Raise TypeError for what is neither an event nor a function."""
    if not isinstance(value, ServerSentEvent):
        check_function("farewell", value, "a ServerSentEvent, or a function that returns one")
