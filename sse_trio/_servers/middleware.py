# Starlette's BaseHTTPMiddleware, which makes a response of its own out of what another one sends.
#
# Rule 1: where the client is gone, a response may send nothing, and servers say nothing about it. This middleware
#         raises "No response returned", so it gets a head.
# Rule 2: a response that fails after its head sends no final frame, so that the client can tell. This middleware sends
#         one in its place before it raises, so the connection has to be cut before.
# Rule 3: it hands on in tasks of its own, each with one message: a message that it takes says that it has handed on the
#         one before. So what was sent last has passed all of them when as many more were taken as there are of them.
# Rule 4: we know it by the `receive` that it hands on, which other middlewares leave alone or wrap in a closure.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ("count_base_middlewares",)

_MOST_WRAPPERS = 32
_MODULE = "starlette.middleware.base"


def count_base_middlewares(receive: Receive) -> int:
    """Return how many of them this ``receive`` has come through."""
    count, each = 0, receive
    for _ in range(_MOST_WRAPPERS):
        if not isinstance(each, FunctionType):
            break
        is_its = each.__globals__.get("__name__") == _MODULE
        count += is_its
        each = _received_by_request(each) if is_its else _within(each, "receive")
    return count


def _received_by_request(function: FunctionType) -> Any:
    # It calls a method of the request that it has made, which has the `receive` of what is around it.
    return getattr(getattr(_within(function, "wrapped_receive"), "__self__", None), "receive", None)


def _within(function: FunctionType, name: str) -> Any:
    try:
        return (function.__closure__ or ())[function.__code__.co_freevars.index(name)].cell_contents
    except (IndexError, ValueError):  # it has none, or the cell is empty by now
        return None
