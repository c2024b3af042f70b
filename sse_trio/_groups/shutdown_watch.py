# ShutdownWatch: notices that a server shuts down, while a group has streams open. (Signals, which come before it:
# signals.py. What uvicorn has to look at: _servers/uvicorn_exit.py.)
#
# Rule 1: each server is watched once, however many of its streams are open.
# Rule 2: if the server has an event, a task waits for it. If not, the run's ticker looks at the server's state. The
#         ticker runs anyway while streams are open, so a short stream starts no task.

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from anyio import move_on_after

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .._loops.loop import DetachedTask, Loop
    from .._loops.ticker import Entry, Ticker
    from .._servers.connection import ServerShutdown

__all__ = ("ShutdownWatch", "is_shut_down_within")

LOOK_SECONDS = 0.1
"""How often to look at a server without an event. uvicorn looks at its own flag as often."""


class ShutdownWatch:
    """Calls `on_shutdown` once for each watched server that shuts down."""

    __slots__ = ("_looks", "_loop", "_on_shutdown", "_tasks", "_ticker")

    def __init__(self, loop: Loop, ticker: Ticker, on_shutdown: Callable[[ServerShutdown], None]) -> None:
        self._loop = loop
        self._ticker = ticker
        self._on_shutdown = on_shutdown
        self._tasks: dict[ServerShutdown, DetachedTask] = {}
        self._looks: dict[ServerShutdown, _Look] = {}

    def add(self, shutdown: ServerShutdown) -> None:
        """Watch this server until clear(). Does nothing if it is watched already."""
        if shutdown in self._tasks or shutdown in self._looks:
            return
        wait = getattr(shutdown, "wait", None)
        if wait is not None:
            self._tasks[shutdown] = self._wait_for(shutdown, wait)
        else:
            self._looks[shutdown] = look = _Look(shutdown, self._on_shutdown)
            self._ticker.schedule(look, self._loop.current_time() + LOOK_SECONDS)

    def clear(self) -> None:
        """Stop watching all servers."""
        for task in self._tasks.values():
            self._loop.cancel_detached(task)
        for look in self._looks.values():
            self._ticker.discard(look)
        self._tasks.clear()
        self._looks.clear()

    def _wait_for(self, shutdown: ServerShutdown, wait: Callable[[], Awaitable[object]]) -> DetachedTask:
        async def wait_and_call() -> None:
            await wait()
            self._on_shutdown(shutdown)

        return self._loop.spawn_detached(wait_and_call)


class _Look:
    """Looks at one server each time the ticker calls it."""

    __slots__ = ("_on_shutdown", "_shutdown", "tick_entry")

    def __init__(self, shutdown: ServerShutdown, on_shutdown: Callable[[ServerShutdown], None]) -> None:
        self._shutdown = shutdown
        self._on_shutdown = on_shutdown
        self.tick_entry: Entry | None = None

    def tick(self, now: float) -> float:
        """Look at the server, until it has begun to shut down."""
        if not self._shutdown.is_set():
            return now + LOOK_SECONDS
        self._on_shutdown(self._shutdown)
        return math.inf


async def is_shut_down_within(seconds: float, shutdown: ServerShutdown | None) -> bool:
    """Whether this server begins to shut down within `seconds`. Does not wait for a server without an event."""
    wait = getattr(shutdown, "wait", None)
    if wait is not None:
        with move_on_after(seconds):
            await wait()
    return shutdown is not None and shutdown.is_set()
