# Whose cancellation is it? A stream's own is its ending, one from outside is raised, any other is a failure (C12).
#
# Rule 1: a cancellation was asked for if a cancel scope around the task is cancelled, or if asyncio's own
#         `Task.cancel()` was called, which the task counts from Python 3.11 on.
# Rule 2: every other one is a stray: it comes from something that the code awaited (a future that was cancelled, a task
#         of a client library). It is raised as a RuntimeError, because event loops, task groups and frameworks drop a
#         cancellation without a word.
# Rule 3: the count is about the future, not the past. It begins wherever it stood, and may keep requests that were
#         handled: asyncio's TaskGroup leaves one on Python 3.11 and 3.12 when a task in it fails. So a request that
#         came before the stream's own cancellation counts only if its exception is still under way.
# Rule 4: when the stream is over, its task's count is what it was before, but for requests that are still under way.

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, cast

from anyio import current_effective_deadline, get_cancelled_exc_class
from anyio.lowlevel import cancel_shielded_checkpoint

from .current import current_loop

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from .loop import CountingTask, Loop

__all__ = ("CancelRequests", "guarded", "is_asked_for", "is_cancellation", "stray_cancellation")

# What anyio's cancellations say on asyncio, by which it knows them itself. (anyio 4.11 has both.)
_SCOPE_MESSAGES = ("Cancelled via cancel scope ", "Cancelled by cancel scope ")


def is_cancellation(exc: BaseException) -> bool:
    """Whether this is a cancellation, or a group of nothing else."""
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).split(get_cancelled_exc_class())[1] is None
    return isinstance(exc, get_cancelled_exc_class())


async def is_asked_for(loop: Loop) -> bool:
    """Whether the cancellation that has just come out of what a task of ours ran was asked for. In that task."""
    task = loop.counting_task()
    if _is_scope_cancelled() or (task is not None and task.cancelling() > 0):
        return True
    if not loop.tells_cancellations:
        # asyncio.run() cancels all tasks at its end, and the one whose nursery this is may come after this one.
        await cancel_shielded_checkpoint()
    return _is_scope_cancelled()


def stray_cancellation(culprit: str, exc: BaseException) -> RuntimeError:
    """Return the error to raise for a cancellation that nobody asked for, and that came out of this culprit."""
    error = RuntimeError(
        f"a cancellation that nobody asked for came out of {culprit}: something that it awaited was cancelled, such as "
        "a future or a library's task; catch that where it is awaited"
    )
    error.__cause__ = exc
    return error


async def guarded(culprit: str, async_fn: Callable[[], Awaitable[object]]) -> None:
    """Call it in a nursery, which would take a stray cancellation for its own and drop it."""
    try:
        await async_fn()
    except BaseException as exc:
        if is_cancellation(exc) and not await is_asked_for(current_loop()):
            raise stray_cancellation(culprit, exc) from exc
        raise


class CancelRequests:
    """What the task that serves a stream has been asked from outside. Made in that task."""

    __slots__ = ("_at_own", "_before", "_is_told", "_task")

    def __init__(self, loop: Loop) -> None:
        self._is_told = loop.tells_cancellations
        self._task: CountingTask | None = loop.counting_task()
        self._before = 0 if self._task is None else self._task.cancelling()
        self._at_own: int | None = None

    def note_own(self) -> None:
        """Take note that the stream's own scope is about to be cancelled. From any task."""
        if self._at_own is None:
            self._at_own = self._count()

    def are_there(self) -> bool:
        """Whether there are any, so that the cancellation that has just come was asked for. In that task."""
        return _is_scope_cancelled() or not self._is_told or self._count() > 0

    async def settle(self, error: BaseException | None) -> BaseException | None:
        """Return what is left to raise of what came out of the stream's own scope. In that task, outside the scope."""
        if _is_scope_cancelled():
            return error
        if error is not None and is_cancellation(error):
            if self._at_own is None:
                return error if self.are_there() else stray_cancellation("the server's `receive`", error)
            if not self._is_told or self._is_met() or (self._count() > 0 and not _is_of_scopes(error)):
                return error
            error = None
        elif error is None and self._is_met():
            return await _pending_cancellation() or get_cancelled_exc_class()()
        pending = await self._forget()
        return pending if error is None else error

    def _is_met(self) -> bool:
        # Whether a Task.cancel() came after the stream's own cancellation. In the same pass asyncio makes one exception
        # of both, which says whose the first was, and anyio before 4.13 drops that with its scope.
        return self._at_own is not None and self._count() > self._at_own

    async def _forget(self) -> BaseException | None:
        # What is counted and is not still to come was handled.
        if self._task is None or self._count() <= 0:
            return None
        pending = await _pending_cancellation()
        while pending is None and self._count() > 0:
            self._task.uncancel()
        return pending

    def _count(self) -> int:
        return 0 if self._task is None else self._task.cancelling() - self._before


def _is_scope_cancelled() -> bool:
    return current_effective_deadline() == -math.inf


async def _pending_cancellation() -> BaseException | None:
    try:
        await cancel_shielded_checkpoint()
    except get_cancelled_exc_class() as exc:
        return exc
    return None


def _is_of_scopes(exc: BaseException) -> bool:
    each: BaseException | None = exc
    while isinstance(each, get_cancelled_exc_class()):
        if not str(each).startswith(_SCOPE_MESSAGES):
            return False
        each = each.__context__
    return True
