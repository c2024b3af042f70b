# The `send` that a response is given is mostly not the server's: each layer of a framework puts a closure around it.
#
# Rule 1: wrappers may be looked into. Messages go through all of them, but for those of rule 2.
# Rule 2: Starlette has three or more around each response that only look for the head, and together cost as much as all
#         that this package does for a delivery; so what comes after the head goes past them. Such a wrapper is known by
#         where it was defined and by its code: no name to call anything by, no constants but those that say "the head",
#         no variables but its flag and `send`. Whatever else Starlette may make of it one day is not passed by.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CellType

    from starlette.types import Send

__all__ = ("innermost_send", "send_past_head")

_MOST_WRAPPERS = 32  # Starlette has two, and one for each route and mount; a middleware may well be another

_HEAD_CONSTANTS = frozenset({None, True, False, "type", "http.response.start"})
_HEAD_VARIABLES = frozenset({"send", "response_started"})


def innermost_send(send: Send) -> object:
    """Return what lies behind all wrappers that are closures over the `send` that they call."""
    return _within(send, callable)


def send_past_head(send: Send) -> Send:
    """Return the `send` for messages after the head: the one within those of Starlette's that look for nothing else."""
    return cast("Send", _within(send, _only_sees_head))


def _within(send: object, is_passed: Callable[[object], bool]) -> object:
    for _ in range(_MOST_WRAPPERS):
        inner = _wrapped(send) if is_passed(send) else None
        if inner is None:
            break
        send = inner
    return send


def _only_sees_head(send: object) -> bool:
    # Not by what it says of itself: functools.wraps() copies a __module__, and a proxy may answer for what is in it.
    if type(send) is not FunctionType or not str(send.__globals__.get("__name__")).startswith("starlette."):
        return False
    code = send.__code__
    return (
        not code.co_names
        and code.co_varnames == ("message",)
        and _HEAD_VARIABLES.issuperset(code.co_freevars)
        and _HEAD_CONSTANTS.issuperset(code.co_consts)
    )


def _wrapped(send: object) -> object | None:
    names: tuple[str, ...] = getattr(getattr(send, "__code__", None), "co_freevars", ())
    cells: tuple[CellType, ...] = getattr(send, "__closure__", None) or ()
    if "send" not in names:
        return None
    try:
        return cast("object", cells[names.index("send")].cell_contents)
    except (IndexError, ValueError):  # not of Python's making, or the cell is empty by now
        return None
