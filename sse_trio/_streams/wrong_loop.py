# The wrong library for the loop: trio's functions on an asyncio server, asyncio's on a trio server.
#
# Their own errors ("must be called from async context", "no running event loop") don't say that the server decides. The
# exception stays the one that was raised, and gets a note, which tracebacks show.
#
# Rule: a note is added only where the error comes from such a call; nothing else is looked at.

from __future__ import annotations

from typing import TYPE_CHECKING

from .._loops.current import runs_on_trio

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ("explain_wrong_loop",)

_NEEDS_TRIO = (
    "sse_trio: this server runs the stream on asyncio, where trio's functions don't work. Serve the application on "
    "trio (hypercorn --worker-class trio module:app), or write anyio's (anyio.sleep() for trio.sleep()), which work "
    "on both."
)
_NEEDS_ASYNCIO = (
    "sse_trio: this server runs the stream on trio, where asyncio's functions don't work. Serve the application on "
    "asyncio (uvicorn module:app), or write anyio's (anyio.sleep() for asyncio.sleep()), which work on both."
)


def explain_wrong_loop(exc: BaseException) -> None:
    """Add a note to an exception of a producer's, or of a group's, that comes from the wrong library for this loop."""
    members: tuple[BaseException, ...] | None = getattr(exc, "exceptions", None)
    if members is not None:
        for member in members:
            explain_wrong_loop(member)
    elif isinstance(exc, (RuntimeError, AttributeError)):
        on_trio = runs_on_trio()
        if not on_trio and _is_from(exc, "trio", ("must be called from async context", "'RunContext' object")):
            _add_note(exc, _NEEDS_TRIO)
        elif on_trio and _is_from(exc, "asyncio", ("no running event loop", "'NoneType' object")):
            _add_note(exc, _NEEDS_ASYNCIO)


def _is_from(exc: BaseException, package: str, texts: tuple[str, ...]) -> bool:
    text = str(exc)
    # asyncio.get_running_loop() is written in C and has no frame; whoever calls it wants an asyncio loop.
    return text.startswith(texts) and (
        text.startswith("no ") or _raised_in(exc.__traceback__).startswith(package + ".")
    )


def _raised_in(traceback: TracebackType | None) -> str:
    name = ""
    while traceback is not None:
        name = traceback.tb_frame.f_globals.get("__name__", "")
        traceback = traceback.tb_next
    return f"{name}."


def _add_note(exc: BaseException, note: str) -> None:
    exc.__dict__.setdefault("__notes__", []).append(note)  # add_note() of Python 3.11
