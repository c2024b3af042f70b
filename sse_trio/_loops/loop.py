# The protocols for what the library needs from the running event loop and anyio doesn't offer.
#
# Rule 1: _loops/trio.py and _loops/asyncio.py implement them, and only the running loop's implementation is imported.
# Rule 2: an unpark() wins over a cancellation that comes after it, on both loops, as trio defines it. If park()
#         returns, the task was unparked; if it raises, it was not. So every hand-over has a certain outcome.
# Rule 3: spawn_detached() is the only place that starts a task outside a nursery. It exists for the writer: hypercorn's
#         trio worker shields its socket write from cancellation, so the response must be able to return without waiting
#         for that task (C11). The ticker, the waits in the server's own code, and the client's reads that outlive a
#         receive() with a timeout, are detached tasks too. A producer never is.
# Rule 4: objects in a RunVar must not keep their run alive. So they refer to the event loop weakly; otherwise a loop
#         that has served a stream would never be freed.
# Rule 5: a task must not be woken from outside its loop: the loop may not notice it, or the call may fail halfway. So
#         everything that belongs to a loop calls check_here() before it changes anything.
#
# A bare Parking costs 1-2 us for each wait and leaves no garbage to collect. An anyio.Event costs twice that.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import TracebackType

    from .turns import Turn

__all__ = ("CountingTask", "DetachedTask", "Loop", "Parked", "Parking", "Scope", "check_here")


class Parked(Protocol):
    """A task that waits to be woken."""

    def is_parked(self) -> bool:
        """Return whether a task is parked. A cancelled task is not, even if it has not run yet."""
        ...

    def unpark(self) -> None:
        """Wake the parked task, if there is one. Call it only in the loop's thread."""


class Parking(Parked, Protocol):
    """A place where one task at a time waits to be woken."""

    async def park(self) -> None:
        """Wait for unpark(). A checkpoint. Returns if the task was unparked, raises if it was cancelled before that."""


class DetachedTask(Protocol):
    """A task outside every nursery."""

    def cancel(self) -> None:
        """Cancel the task, unless it is done. It still runs for as long as the server shields its code."""


class Scope(Protocol):
    """A cancel scope. Enter it in the task that it is for."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None, /
    ) -> bool: ...

    def cancel(self) -> None:
        """Cancel what runs in it."""


class CountingTask(Protocol):
    """A task that counts its Task.cancel() calls: asyncio's, from Python 3.11 on."""

    def cancelling(self) -> int:
        """Return how many cancellations were requested and not taken back."""
        ...

    def uncancel(self) -> int:
        """Take one request back; return how many remain."""
        ...


class Loop(Protocol):
    """The running event loop."""

    @property
    def tells_cancellations(self) -> bool:
        """Whether a task can tell a requested cancellation from one that escapes from awaited code.

        False on asyncio before Python 3.11, where ``Task.cancel()`` leaves no trace.
        """
        ...

    def counting_task(self) -> CountingTask | None:
        """Return the running task, or ``None`` if tasks of this loop don't count their cancellations."""
        ...

    @property
    def keeps_idle_tasks(self) -> bool:
        """Whether an idle task should be kept and woken, because that is cheaper than starting a new one."""
        ...

    def turn(self, now: float) -> Turn:
        """Return whether the caller may write without waiting (turns.py). From any thread."""
        ...

    def starts_at_once(self, *, by_hand: bool) -> bool:
        """Return whether start_at_once() can do more than spawn_detached().

        Args:
            by_hand: whether the function's code doesn't depend on the task that runs it, so that one task may begin it
                and another one end it.
        """
        ...

    def start_at_once(
        self, async_fn: Callable[[], Coroutine[Any, Any, None]], *, context: Context, by_hand: bool
    ) -> DetachedTask | None:
        """Run ``async_fn()`` inside this call until it has to wait; as spawn_detached() otherwise.

        Call it only from a user's own call, such as a send(): a ``context`` that is entered already breaks the loop.

        Returns:
            The task that runs the remainder; ``None`` if it has ended.
        """
        ...

    @property
    def new_scope(self) -> Callable[[], Scope]:
        """Make a cancel scope of the loop's own. anyio.CancelScope() looks up its class at each call, and wraps it."""
        ...

    @property
    def current_time(self) -> Callable[[], float]:
        """The loop's clock, in seconds. It keeps the loop alive, so only keep it in objects that the run outlives."""
        ...

    def new_parking(self) -> Parking:
        """Return a new parking without a task."""
        ...

    def spawn_detached(
        self, async_fn: Callable[[], Awaitable[None]], *, context: Context | None = None
    ) -> DetachedTask:
        """Start ``async_fn()`` outside every nursery, in this context or a copy of the caller's. It must not raise.

        Keep a reference to the task until it has ended, or pass it to cancel_detached().
        """
        ...

    def call_next(self, fn: Callable[[], None]) -> None:
        """Call ``fn()`` when the running task first waits, or before that: at once where the loop can't put it off.

        As a task that is started now would run. If that is what fn() does, it runs a pass later.
        """

    def next_pass(self) -> Awaitable[None]:
        """Wait for the next pass of the loop. A checkpoint."""
        ...

    def cancel_detached(self, task: DetachedTask) -> None:
        """Cancel the task, and keep a reference to it until it has ended."""

    def is_here(self) -> bool:
        """Return whether the caller runs in this event loop. From any thread."""
        ...

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        """Make the loop call ``fn()``, unless it is closed. From any thread or signal handler."""
        ...


def check_here(loop: Loop, what: str) -> None:
    """Raise RuntimeError if the caller is outside the event loop that an object belongs to.

    Args:
        loop: the object's event loop.
        what: the object, as the message names it: "this send channel".
    """
    if not loop.is_here():
        msg = (
            f"{what} belongs to an event loop and was called from outside it, so nothing was done; from another "
            "thread, write anyio.from_thread.run_sync(function, *args, token=token), or from_thread.run for a "
            "coroutine function, with the token = anyio.lowlevel.current_token() of the event loop; threads of "
            "anyio.to_thread need no token"
        )
        raise RuntimeError(msg)
