# ShutdownWatch: notices that a server shuts down, and has its streams ended, while a group has streams open.
#
# Rule 1: there is one watcher for each server, however many of its streams are open.
# Rule 2: a server with an event is waited for. One without is looked at by the run's ticker, which runs anyway while
#         streams are open, so that a short stream starts no task.

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
"""How often a server without an event is looked at: as often as uvicorn looks at its own flag."""


class ShutdownWatch:
    """Calls `on_shutdown` once for each server that has streams in a group and shuts down."""

    __slots__ = ("_looks", "_loop", "_on_shutdown", "_tasks", "_ticker")

    def __init__(self, loop: Loop, ticker: Ticker, on_shutdown: Callable[[ServerShutdown], None]) -> None:
        self._loop = loop
        self._ticker = ticker
        self._on_shutdown = on_shutdown
        self._tasks: dict[ServerShutdown, DetachedTask] = {}
        self._looks: dict[ServerShutdown, _Look] = {}

    def add(self, shutdown: ServerShutdown) -> None:
        """Watch this server until clear(), unless that has begun."""
        if shutdown in self._tasks or shutdown in self._looks:
            return
        wait = getattr(shutdown, "wait", None)
        if wait is not None:
            self._tasks[shutdown] = self._wait_for(shutdown, wait)
        else:
            self._looks[shutdown] = look = _Look(shutdown, self._on_shutdown)
            self._ticker.schedule(look, self._loop.current_time() + LOOK_SECONDS)

    def clear(self) -> None:
        """Watch none of them any more."""
        for task in self._tasks.values():
            self._loop.cancel_detached(task)
        for look in self._looks.values():
            self._ticker.discard(look)
        self._tasks.clear()
        self._looks.clear()

    def _wait_for(self, shutdown: ServerShutdown, wait: Callable[[], Awaitable[object]]) -> DetachedTask:
        async def wait_and_tell() -> None:
            await wait()
            self._on_shutdown(shutdown)

        return self._loop.spawn_detached(wait_and_tell)


class _Look:
    """Looks at a server every so often, when the ticker calls it."""

    __slots__ = ("_on_shutdown", "_shutdown", "tick_entry")

    def __init__(self, shutdown: ServerShutdown, on_shutdown: Callable[[ServerShutdown], None]) -> None:
        self._shutdown = shutdown
        self._on_shutdown = on_shutdown
        self.tick_entry: Entry | None = None

    def tick(self, now: float) -> float:
        """Look, until the server has begun to shut down."""
        if not self._shutdown.is_set():
            return now + LOOK_SECONDS
        self._on_shutdown(self._shutdown)
        return math.inf


async def is_shut_down_within(seconds: float, shutdown: ServerShutdown | None) -> bool:
    """Whether this server has begun to shut down. Waits for that, up to `seconds`, where the server has an event."""
    wait = getattr(shutdown, "wait", None)
    if wait is not None:
        with move_on_after(seconds):
            await wait()
    return shutdown is not None and shutdown.is_set()
