# Starlette's BaseHTTPMiddleware, which makes a response of its own out of what another response sends.
#
# Rule 1: if the client is gone, a response may send nothing, and servers accept that. This middleware raises "No
#         response returned", so it gets a head.
# Rule 2: a response that fails after its head sends no final frame, so that the client can tell. This middleware sends
#         one itself before it raises, so the connection has to be cut before.
# Rule 3: it forwards messages in a task of its own, one at a time: when it takes a message, it has forwarded the one
#         before. With n of these middlewares, a message has passed all of them when n more were taken.
# Rule 4: we recognise it by the `receive` that it passes down, which other middlewares leave alone or
#         wrap in a closure.

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING

from .closures import MOST_WRAPPERS, closed_over

if TYPE_CHECKING:
    from starlette.types import Receive

__all__ = ("count_base_middlewares",)

_MODULE = "starlette.middleware.base"


def count_base_middlewares(receive: Receive) -> int:
    """Return how many of them this ``receive`` has come through."""
    count = 0
    each: object = receive
    for _ in range(MOST_WRAPPERS):
        if not isinstance(each, FunctionType):
            break
        is_its = each.__globals__.get("__name__") == _MODULE
        count += is_its
        each = _received_by_request(each) if is_its else closed_over(each, "receive")
    return count


def _received_by_request(function: FunctionType) -> object:
    # It calls a method of the request that it has made, which has the `receive` from further out.
    return getattr(getattr(closed_over(function, "wrapped_receive"), "__self__", None), "receive", None)
