# The trio implementation of _loops/loop.py. Imported only when trio is running.

from __future__ import annotations

import contextvars
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import (
    Abort,
    RaiseCancelT,
    Task,
    current_clock,
    current_task,
    current_trio_token,
    reschedule,
    spawn_system_task,
    wait_task_rescheduled,
)

from .turns import Turn, Turns

if TYPE_CHECKING:
    from .loop import CountingTask, DetachedTask, Parking

__all__ = ("TrioLoop",)


class TrioParking:
    """A parking that uses trio's low-level wait and reschedule."""

    __slots__ = ("_task",)

    def __init__(self) -> None:
        self._task: Task | None = None

    async def park(self) -> None:
        """Wait for unpark()."""
        self._task = current_task()
        await wait_task_rescheduled(self._abort)

    def is_parked(self) -> bool:
        """Return whether a task is parked."""
        return self._task is not None

    def unpark(self) -> None:
        """Wake the parked task, if there is one."""
        if self._task is not None:
            reschedule(self._task)
            self._task = None

    def _abort(self, raise_cancel: RaiseCancelT) -> Abort:
        del raise_cancel
        self._task = None
        return Abort.SUCCEEDED


class TrioDetachedTask:
    """A system task with its own cancel scope."""

    __slots__ = ("_async_fn", "_cancel_scope")

    def __init__(self, async_fn: Callable[[], Awaitable[None]]) -> None:
        self._async_fn = async_fn
        self._cancel_scope = trio.CancelScope()

    async def run(self) -> None:
        """Run as the task."""
        with self._cancel_scope:
            await self._async_fn()

    def cancel(self) -> None:
        """Cancel the task."""
        self._cancel_scope.cancel()


class TrioLoop:
    """The running trio loop."""

    __slots__ = ("_token", "_turns", "keeps_idle_tasks", "new_scope", "tells_cancellations")

    def __init__(self) -> None:
        self.new_scope = trio.CancelScope
        self.keeps_idle_tasks = True
        self.tells_cancellations = True  # every cancellation comes from a scope
        self._turns = Turns()
        self._token = weakref.ref(current_trio_token())

    @property
    def current_time(self) -> Callable[[], float]:
        """The loop's clock."""
        return current_clock().current_time  # trio.current_time() looks up the run at each call

    def turn(self, now: float) -> Turn:
        """Return whether the running task may write."""
        return self._turns.of(current_task(), now) if self.is_here() else "elsewhere"

    def starts_at_once(self, *, by_hand: bool) -> bool:
        """No: a trio task has its turn in the next pass."""
        del by_hand
        return False

    def start_at_once(
        self, async_fn: Callable[[], Coroutine[Any, Any, None]], *, context: contextvars.Context, by_hand: bool
    ) -> DetachedTask | None:
        """Start a system task."""
        del by_hand
        return self.spawn_detached(async_fn, context=context)

    def counting_task(self) -> CountingTask | None:
        """None: in trio every cancellation comes from a scope."""
        return None

    def new_parking(self) -> Parking:
        """Return a new parking."""
        return TrioParking()

    def spawn_detached(
        self, async_fn: Callable[[], Awaitable[None]], *, context: contextvars.Context | None = None
    ) -> DetachedTask:
        """Start a system task."""
        task = TrioDetachedTask(async_fn)
        spawn_system_task(task.run, context=contextvars.copy_context() if context is None else context)
        return task

    def call_next(self, fn: Callable[[], None]) -> None:
        """Call fn() now: trio has nothing cheaper than a task that could do it later."""
        fn()

    async def next_pass(self) -> None:
        """Wait for the next pass."""
        await trio.lowlevel.checkpoint()

    def cancel_detached(self, task: DetachedTask) -> None:
        """Cancel the task. trio keeps a reference to it."""
        task.cancel()

    def is_here(self) -> bool:
        """Return whether the caller runs in this trio run."""
        try:
            return current_trio_token() is self._token()
        except RuntimeError:
            return False

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        """Make the loop call fn()."""
        token = self._token()
        if token is not None:
            try:
                token.run_sync_soon(fn)
            except trio.RunFinishedError:
                pass
