# The generator inside of the one that FastAPI gives to a response class.
#
# For a path operation with `yield`, FastAPI wraps the async generator in one of its own and calls
# `response_class(content=wrapper)`. The wrapper adds a checkpoint for each item, and closing it does not close what it
# wraps: the cleanup of the path operation would run when the garbage collector finds it.
#
# Rule: nothing is called or changed, only looked at. A wrapper that isn't known stays as it is.

from __future__ import annotations

from typing import Any

__all__ = ("without_wrapper",)

_MODULE, _NAME, _VARIABLE = "fastapi.routing", "_async_stream_raw", "async_gen"


def without_wrapper(source: object) -> object:
    """Return the async generator that FastAPI has wrapped; anything else as it is."""
    frame: Any = getattr(source, "ag_frame", None)
    if frame is None or frame.f_code.co_name != _NAME or frame.f_globals.get("__name__") != _MODULE:
        return source
    inner: object = frame.f_locals.get(_VARIABLE)
    return source if inner is None else inner
