# What a framework's middleware makes of a response that nothing was sent of.
#
# Rule: a response may send nothing where the client is gone, and servers say nothing about it. Starlette's
#       BaseHTTPMiddleware doesn't ask whether it is, and raises "No response returned". We know it by the `receive`
#       that it hands on, which other middlewares leave alone or wrap in a closure.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ("insists_on_answer",)

_MOST_WRAPPERS = 32
_INSISTS = "starlette.middleware.base"


def insists_on_answer(receive: Receive) -> bool:
    """Whether this is the ``receive`` of a middleware that raises if a response sends nothing."""
    each: object = receive
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(each, FunctionType):
            return False
        if each.__globals__.get("__name__") == _INSISTS:
            return True
        each = _wrapped(each)
    return False


def _wrapped(function: FunctionType) -> Any:
    try:
        return (function.__closure__ or ())[function.__code__.co_freevars.index("receive")].cell_contents
    except (IndexError, ValueError):  # it wraps none, or the cell is empty by now
        return None
