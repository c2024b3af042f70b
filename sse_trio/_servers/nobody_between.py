# The proof that nobody is between a stream and its server: nobody whom a direct write (direct_write.py) would bypass.
#
# Starlette puts three or more wrappers around each response that look at its head, and only forward what comes after.
# Where nothing is left of `send` without them but the server's own method, nobody misses a body that is written to the
# connection. Whoever else is found gets every body message: a middleware of the application's, or one of a tool's.
#
# Rule 1: the proof reads the wrapper's code and believes nothing that the wrapper says about itself: functools.wraps()
#         copies a `__module__`, and a proxy may answer for what it contains.
# Rule 2: a wrapper is proven if it is a function defined in a module of Starlette's, calls nothing by name, compares
#         with "http.response.start" alone, and holds no variables but its flag and the inner `send`.
# Rule 3: whatever isn't proven gets every message, and so does everything inside of it.
# Rule 4: a method is the server's own if the server's package defines its function. A tool that replaces the method of
#         the class, to see all messages, is somebody in between.

from __future__ import annotations

from types import FunctionType, MethodType
from typing import TYPE_CHECKING, cast

from .closures import MOST_WRAPPERS, closed_over

if TYPE_CHECKING:
    from starlette.types import Send

__all__ = ("is_own_method", "past_starlette", "sees_only_the_head")

_CONSTANTS = frozenset({None, True, False, "type", "http.response.start"})
_VARIABLES = frozenset({"send", "response_started"})


def past_starlette(send: Send) -> Send:
    """Return the `send` for messages after the head: the first one, from outside, that may look at more than that."""
    for _ in range(MOST_WRAPPERS):
        inner = closed_over(send, "send") if sees_only_the_head(send) else None
        if inner is None:
            break
        send = cast("Send", inner)
    return send


def is_own_method(method: object, owner: object, package: str) -> bool:
    """Return whether this `send` is a method of this object, as its server's package defines it."""
    if type(method) is not MethodType or method.__self__ is not owner:
        return False
    module = getattr(method.__func__, "__globals__", {}).get("__name__")
    return str(module).partition(".")[0] == package


def sees_only_the_head(send: object) -> bool:
    """Return whether this is a wrapper of Starlette's that only forwards what comes after the head, to its `send`."""
    if type(send) is not FunctionType or not str(send.__globals__.get("__name__")).startswith("starlette."):
        return False
    code = send.__code__
    return (
        not code.co_names
        and code.co_varnames == ("message",)
        and "send" in code.co_freevars
        and _VARIABLES.issuperset(code.co_freevars)
        and _CONSTANTS.issuperset(code.co_consts)
    )
