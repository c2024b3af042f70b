# current_loop(): the running event loop. Imports only the implementation for that loop.
#
# Rule: anyio keeps the loop (RunVar), and finds it by asking which library runs, for which loop, and what it keeps for
#       that: a tenth of the cost of a short stream. So each thread remembers, weakly, the loop that it found last, and
#       asks that one first whether it runs the caller. What others keep for each loop is in a LoopVar.

from __future__ import annotations

from threading import local
from typing import TYPE_CHECKING, Generic, TypeVar, cast
from weakref import ref

from anyio.lowlevel import RunVar, current_token

if TYPE_CHECKING:
    from .loop import Loop

__all__ = ("LoopVar", "current_loop", "runs_on_trio")

T = TypeVar("T")

_loop: RunVar[Loop] = RunVar("sse_trio._loops.loop")


class _Latest(local):
    """What this thread has found last."""

    loop: ref[Loop] | None = None


_latest = _Latest()


class LoopVar(Generic[T]):
    """A variable with a value for each event loop, as anyio's RunVar, for what every stream looks up."""

    def get(self) -> T | None:
        """Return the value in the running loop; None if it has none."""
        return cast("T | None", current_loop().values.get(self))

    def set(self, value: T) -> None:
        """Set the value in the running loop."""
        current_loop().values[self] = value


def current_loop() -> Loop:
    """Return the running loop. Outside a loop, raises anyio's error."""
    latest = _latest.loop
    loop = None if latest is None else latest()
    if loop is None or not loop.runs_caller():
        loop = _kept_loop()
        _latest.loop = ref(loop)
    return loop


def runs_on_trio() -> bool:
    """Return whether the running loop is trio's; if not, it is asyncio's. Outside a loop, raises anyio's error."""
    return current_token().backend_class.__module__.endswith("_trio")


def _kept_loop() -> Loop:
    try:
        return _loop.get()
    except LookupError:
        loop = _make_loop()
        _loop.set(loop)
        return loop


def _make_loop() -> Loop:
    if runs_on_trio():
        from .trio import TrioLoop  # noqa: PLC0415 -- only when trio is running

        return TrioLoop()
    from .asyncio import AsyncioLoop  # noqa: PLC0415 -- only when asyncio is running

    return AsyncioLoop()
