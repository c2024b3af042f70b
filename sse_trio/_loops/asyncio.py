# The asyncio implementation of _loops/loop.py. Imported only when asyncio is running.

from __future__ import annotations

import asyncio
import contextvars
import sys
import weakref
from asyncio import Task, current_task, get_running_loop
from collections.abc import Awaitable, Callable, Coroutine, Generator
from functools import partial
from threading import get_ident
from types import coroutine
from typing import TYPE_CHECKING, Any, cast

from anyio import CancelScope

from .by_hand import Remainder
from .turns import Turn, Turns

if TYPE_CHECKING:
    from .loop import CountingTask, DetachedTask, Parking

__all__ = ("AsyncioLoop",)


class AsyncioParking:
    """A parking that uses one bare future for each wait."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[None] | None = None

    async def park(self) -> None:
        """Wait for unpark()."""
        self._future = future = asyncio.get_running_loop().create_future()
        try:
            await future
        except asyncio.CancelledError as exc:
            if future.cancelled() or not future.done():
                raise
            _cancel_again(exc)
        finally:
            self._future = None

    def is_parked(self) -> bool:
        """Return whether a task is parked."""
        return self._future is not None and not self._future.done()

    def unpark(self) -> None:
        """Wake the parked task, if there is one."""
        future = self._future
        if future is not None and not future.done():
            future.set_result(None)


def _cancel_again(exc: asyncio.CancelledError) -> None:
    # Task.cancel() was called after unpark() in the same pass of the loop (anyio's own cancellation waits for the next
    # pass). The unpark() wins, and the cancellation, which asyncio raises only once, must not be lost. So cancel again:
    # the task's next await raises, and Task.cancelling() has the same count.
    task = cast("asyncio.Task[object]", asyncio.current_task())
    if sys.version_info >= (3, 11):
        task.uncancel()
    task.cancel(*exc.args[:1])


class AsyncioLoop:
    """The running loop of asyncio or uvloop."""

    __slots__ = ("_detached", "_loop", "_thread", "_turns", "keeps_idle_tasks", "new_scope", "tells_cancellations")

    def __init__(self) -> None:
        self.new_scope = type(CancelScope())
        self.keeps_idle_tasks = False
        self.tells_cancellations = sys.version_info >= (3, 11)
        self._thread = get_ident()
        self._turns = Turns()
        self._loop = weakref.ref(asyncio.get_running_loop())
        self._detached: set[asyncio.Task[None]] = set()

    @property
    def current_time(self) -> Callable[[], float]:
        """The loop's clock."""
        loop = self._loop()  # not get_running_loop(), see turn()
        assert loop is not None  # it runs
        return loop.time

    def counting_task(self) -> CountingTask | None:
        """Return the running task. Tasks count from Python 3.11 on."""
        if sys.version_info < (3, 11):
            return None
        else:  # noqa: RET505 -- for type checkers
            return current_task(self._loop())

    def turn(self, now: float) -> Turn:
        """Return whether the running task may write."""
        # Not get_running_loop(), which is a system call before Python 3.12. In a loop's own thread, the loop has a
        # current task only while it is the one that runs.
        loop = self._loop()
        return "elsewhere" if loop is None or get_ident() != self._thread else self._turns.of(current_task(loop), now)

    def starts_at_once(self, *, by_hand: bool) -> bool:
        """Any coroutine from Python 3.12 on, where tasks can start eagerly."""
        return by_hand or sys.version_info >= (3, 12)

    def start_at_once(
        self, async_fn: Callable[[], Coroutine[Any, Any, None]], *, context: contextvars.Context, by_hand: bool
    ) -> DetachedTask | None:
        """Step a coroutine by hand, or start an eager task."""
        if by_hand:
            coroutine = async_fn()
            try:
                waits_for: object = context.run(coroutine.send, None)
            except StopIteration:
                return None
            return self.spawn_detached(partial(Remainder, coroutine, waits_for), context=context)
        if sys.version_info >= (3, 12):
            task = Task(async_fn(), loop=get_running_loop(), context=context, eager_start=True)
            return None if task.done() else cast("DetachedTask", task)
        return self.spawn_detached(async_fn, context=context)

    def new_parking(self) -> Parking:
        """Return a new parking."""
        return AsyncioParking()

    def spawn_detached(
        self, async_fn: Callable[[], Awaitable[None]], *, context: contextvars.Context | None = None
    ) -> DetachedTask:
        """Start a task. The caller keeps a reference to it."""
        # Not loop.create_task(): an eager task factory would run the task inside this call.
        loop = get_running_loop()
        if sys.version_info < (3, 11):
            # Before 3.11 a task copies the context that it is made in, so make it in the context that it should have.
            context = contextvars.copy_context() if context is None else context
            return context.run(Task, async_fn(), loop=loop)  # type: ignore[arg-type,return-value]
        else:  # noqa: RET505 -- for type checkers
            return Task(async_fn(), loop=loop, context=context)  # type: ignore[arg-type,return-value]

    def call_next(self, fn: Callable[[], None]) -> None:
        """Call fn() in the next pass."""
        loop = self._loop()  # not get_running_loop(), see turn()
        assert loop is not None  # it runs
        loop.call_soon(fn)

    @coroutine
    def next_pass(self) -> Generator[None, None, None]:
        """Wait for the next pass, as asyncio.sleep(0) does: a task that yields nothing goes on in the next pass."""
        yield

    def cancel_detached(self, task: DetachedTask) -> None:
        """Cancel the task, and keep a reference until it has ended: asyncio's own references are weak."""
        native = cast("asyncio.Task[None]", task)
        if not native.done():
            self._detached.add(native)
            native.add_done_callback(self._detached.discard)
            native.cancel()

    def is_here(self) -> bool:
        """Return whether the caller runs in this event loop."""
        try:
            return get_running_loop() is self._loop()
        except RuntimeError:
            return False

    def call_soon_threadsafe(self, fn: Callable[[], None]) -> None:
        """Make the loop call fn()."""
        loop = self._loop()
        if loop is not None and not loop.is_closed():
            try:
                loop.call_soon_threadsafe(fn)
            except RuntimeError:  # closed after the check
                pass
