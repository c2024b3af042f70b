# current_loop(): the running event loop. Only the side of the loop that runs is imported.

from __future__ import annotations

from anyio.lowlevel import RunVar, current_token

from .loop import Loop

__all__ = ("current_loop",)

_loop: RunVar[Loop] = RunVar("sse_trio._loops.loop")


def current_loop() -> Loop:
    """Return the running loop. anyio's error for "not in a loop" where there is none."""
    try:
        return _loop.get()
    except LookupError:
        loop = _make_loop()
        _loop.set(loop)
        return loop


def _make_loop() -> Loop:
    if current_token().backend_class.__module__.endswith("_trio"):
        from .trio import TrioLoop  # noqa: PLC0415 -- only where trio runs already

        return TrioLoop()
    from .asyncio import AsyncioLoop  # noqa: PLC0415 -- only where asyncio runs already

    return AsyncioLoop()
