# What the library needs of the running event loop and anyio does not offer: five small things, per loop.
#
# Rule 1: this file names them; _loops/trio.py and _loops/asyncio.py do them, and only the one that runs is imported.
# Rule 2: an unpark() wins over a cancellation that comes after it, on both loops, as trio defines it. Whoever
#         returns from park() was unparked, whoever gets an exception was not: no hand-over is ever in doubt.
# Rule 3: spawn_detached() is the one place that starts a task outside a nursery. It exists for the writer: hypercorn's
#         trio worker shields its socket write from cancellation, so nobody may be obliged to wait for a task that is in
#         one (C11). The ticker, and who waits in the server's own code, are such tasks too, and so is a read of the
#         client's that outlives a receive() with a timeout. No producer ever runs in one.
# Rule 4: what is kept for a run (in a RunVar) doesn't keep the run: its event loop is referred to weakly here, or no
#         loop that has ever served a stream would be freed.
# Rule 5: nobody is woken from outside of the loop: neither asyncio nor trio would notice, or it would fail half done.
#         So whatever belongs to a loop asks is_here() before it changes anything (check_here()).
#
# A bare Parking costs 1-2 us where an anyio.Event for each wait costs twice that, and leaves no garbage to collect.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Protocol

__all__ = ("CountingTask", "DetachedTask", "Loop", "Parked", "Parking", "check_here")


class Parked(Protocol):
    """Whoever waits to be called."""

    def is_parked(self) -> bool:
        """Whether an unpark() would find somebody. A task that was cancelled has left, even if it didn't run yet."""
        ...

    def unpark(self) -> None:
        """Let it go on; nothing if nobody is parked. From the loop's own thread only."""


class Parking(Parked, Protocol):
    """A place where one task at a time waits to be called."""

    async def park(self) -> None:
        """Wait for unpark(). A checkpoint. Cancellation: either unparked and returns, or not and raises."""


class DetachedTask(Protocol):
    """A task that belongs to no nursery."""

    def cancel(self) -> None:
        """Cancel it; nothing if it is done. It goes on for as long as the server shields itself."""


class CountingTask(Protocol):
    """A task that counts how often it was cancelled from outside of every cancel scope: asyncio's, from 3.11 on."""

    def cancelling(self) -> int:
        """Return the number of requests that have not been taken back."""
        ...

    def uncancel(self) -> int:
        """Take one back; return the number that remains."""
        ...


class Loop(Protocol):
    """The running event loop, bound once and kept by whoever needs it often."""

    @property
    def tells_cancellations(self) -> bool:
        """Whether a task can tell a cancellation from outside from one that escapes from what it awaits.

        False on asyncio before Python 3.11, where ``Task.cancel()`` leaves no trace.
        """
        ...

    def counting_task(self) -> CountingTask | None:
        """Return the running task, or ``None`` where tasks don't count their cancellations."""
        ...

    @property
    def keeps_idle_tasks(self) -> bool:
        """Whether it is cheaper to wake a task than to start one."""
        ...

    @property
    def current_time(self) -> Callable[[], float]:
        """The loop's clock, in seconds; to be kept by what lives no longer than the run, and calls it often."""
        ...

    def new_parking(self) -> Parking:
        """Return a new, empty parking."""
        ...

    def spawn_detached(
        self, async_fn: Callable[[], Awaitable[None]], *, context: Context | None = None
    ) -> DetachedTask:
        """Start ``async_fn()`` outside every nursery, in this context or a copy of the caller's. It must not raise.

        Whoever starts it holds the task until it has ended, or gives it to cancel_detached().
        """
        ...

    def cancel_detached(self, task: DetachedTask) -> None:
        """Cancel it, and hold it until it has ended."""

    def is_here(self) -> bool:
        """Whether the caller runs in this event loop. From any thread."""
        ...

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        """Have ``fn()`` called by the loop. From any thread or signal handler; nothing once the loop is closed."""
        ...


def check_here(loop: Loop, what: str) -> None:
    """Raise RuntimeError where this is called from outside of the event loop that a thing belongs to.

    Args:
        loop: the event loop.
        what: the thing, as the message names it: "this send channel".
    """
    if not loop.is_here():
        msg = (
            f"{what} belongs to an event loop and was called from outside of it, so nothing was done; from a worker "
            "thread, write anyio.from_thread.run_sync(function, *args), or from_thread.run for a coroutine function"
        )
        raise RuntimeError(msg)
