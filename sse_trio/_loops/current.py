# current_loop(): the running event loop. Imports only the implementation for that loop.

from __future__ import annotations

from anyio.lowlevel import RunVar, current_token

from .loop import Loop

__all__ = ("current_loop", "runs_on_trio")

_loop: RunVar[Loop] = RunVar("sse_trio._loops.loop")


def current_loop() -> Loop:
    """Return the running loop. Outside a loop, raises anyio's error."""
    try:
        return _loop.get()
    except LookupError:
        loop = _make_loop()
        _loop.set(loop)
        return loop


def runs_on_trio() -> bool:
    """Return whether the running loop is trio's; if not, it is asyncio's. Outside a loop, raises anyio's error."""
    return current_token().backend_class.__module__.endswith("_trio")


def _make_loop() -> Loop:
    if runs_on_trio():
        from .trio import TrioLoop  # noqa: PLC0415 -- only when trio is running

        return TrioLoop()
    from .asyncio import AsyncioLoop  # noqa: PLC0415 -- only when asyncio is running

    return AsyncioLoop()
