# The wrong library for the loop: trio's functions on an asyncio server, asyncio's on a trio server.
#
# Their own errors ("must be called from async context", "no running event loop") don't say that the server decides.
#
# Rule: a note is added only where the error comes from such a call; nothing else is looked at.

from __future__ import annotations

from .._loops.current import runs_on_trio
from .traceback_end import raised_in

__all__ = ("hint_of_wrong_loop",)

_NEEDS_TRIO = (
    "sse_trio: this server runs the stream on asyncio, where trio's functions don't work. Serve the application on "
    "trio (hypercorn --worker-class trio module:app), or write anyio's (anyio.sleep() for trio.sleep()), which work "
    "on both."
)
_NEEDS_ASYNCIO = (
    "sse_trio: this server runs the stream on trio, where asyncio's functions don't work. Serve the application on "
    "asyncio (uvicorn module:app), or write anyio's (anyio.sleep() for asyncio.sleep()), which work on both."
)


def hint_of_wrong_loop(exc: BaseException) -> str | None:
    """Return the note for an exception that comes from the wrong library for this loop."""
    if not isinstance(exc, (RuntimeError, AttributeError)):
        return None
    on_trio = runs_on_trio()
    if not on_trio and _is_from(exc, "trio", ("must be called from async context", "'RunContext' object")):
        return _NEEDS_TRIO
    if on_trio and _is_from(exc, "asyncio", ("no running event loop", "'NoneType' object")):
        return _NEEDS_ASYNCIO
    return None


def _is_from(exc: BaseException, package: str, texts: tuple[str, ...]) -> bool:
    text = str(exc)
    # asyncio.get_running_loop() is written in C and has no frame; whoever calls it wants an asyncio loop.
    return text.startswith(texts) and (
        text.startswith("no ") or f"{raised_in(exc.__traceback__)}.".startswith(f"{package}.")
    )
