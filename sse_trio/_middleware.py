# Starlette's BaseHTTPMiddleware, which makes a response of its own out of what another one sends.
#
# Rule 1: where the client is gone, a response may send nothing, and servers say nothing about it. This middleware
#         raises "No response returned", so it gets a head.
# Rule 2: a response that fails after its head sends no final frame, so that the client can tell. This middleware sends
#         one in its place before it raises, so the connection has to be cut before.
# Rule 3: we know it by the `receive` that it hands on, which other middlewares leave alone or wrap in a closure.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ("is_base_middleware",)

_MOST_WRAPPERS = 32
_MODULE = "starlette.middleware.base"


def is_base_middleware(receive: Receive) -> bool:
    """Whether this ``receive`` comes from a ``BaseHTTPMiddleware``."""
    each: object = receive
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(each, FunctionType):
            return False
        if each.__globals__.get("__name__") == _MODULE:
            return True
        each = _wrapped(each)
    return False


def _wrapped(function: FunctionType) -> Any:
    try:
        return (function.__closure__ or ())[function.__code__.co_freevars.index("receive")].cell_contents
    except (IndexError, ValueError):  # it wraps none, or the cell is empty by now
        return None
