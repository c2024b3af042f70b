# Where a cancellation comes from. The stream's own ends the stream, a requested one is raised, and a stray one is a
# failure (C12).
#
# Rule 1: a cancellation was requested if a cancel scope around the task is cancelled, or if `Task.cancel()` was called
#         on asyncio, which the task counts from Python 3.11 on.
# Rule 2: every other cancellation is a stray. It comes from something that the code awaited: a cancelled future, or a
#         task of a client library. It is raised as a RuntimeError, because event loops, task groups and frameworks drop
#         cancellations silently.
# Rule 3: the task's count may include requests that were handled: asyncio's TaskGroup leaves one on Python 3.11 and
#         3.12 when a task in it fails. So only the difference from the count at the start matters, and a request before
#         the stream's own cancellation counts only if its exception is still under way.
# Rule 4: after the stream, its task's count is what it was before, plus requests that are still under way.

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

# How the messages of anyio's cancellations begin on asyncio. anyio recognizes them by this too. (anyio 4.11 has both.)
_SCOPE_MESSAGES = ("Cancelled via cancel scope ", "Cancelled by cancel scope ")


def is_cancellation(exc: BaseException) -> bool:
    """Return whether this is a cancellation, or a group of cancellations only."""
    if isinstance(exc, BaseExceptionGroup):
        return cast("BaseExceptionGroup[BaseException]", exc).split(get_cancelled_exc_class())[1] is None
    return isinstance(exc, get_cancelled_exc_class())


async def is_asked_for(loop: Loop) -> bool:
    """Return whether the cancellation that this task has just caught was requested. Call it in that task."""
    task = loop.counting_task()
    if _is_scope_cancelled() or (task is not None and task.cancelling() > 0):
        return True
    if not loop.tells_cancellations:
        # asyncio.run() cancels all tasks at its end, and may cancel the task of this nursery after this one.
        await cancel_shielded_checkpoint()
    return _is_scope_cancelled()


def stray_cancellation(culprit: str, exc: BaseException) -> RuntimeError:
    """Return the error to raise for a cancellation that was not requested and came out of this culprit."""
    error = RuntimeError(
        f"a cancellation that was not requested came out of {culprit}: something that it awaited was cancelled, "
        "such as a future or a library's task; catch the cancellation where you await that"
    )
    error.__cause__ = exc
    return error


async def guarded(culprit: str, async_fn: Callable[[], Awaitable[object]]) -> None:
    """Call the function in a nursery, and raise its stray cancellation, which the nursery would drop."""
    try:
        await async_fn()
    except BaseException as exc:
        if is_cancellation(exc) and not await is_asked_for(current_loop()):
            raise stray_cancellation(culprit, exc) from exc
        raise


class CancelRequests:
    """The requests to cancel the task that serves a stream. Make it in that task."""

    __slots__ = ("_at_own", "_before", "_can_tell", "_task")

    def __init__(self, loop: Loop) -> None:
        self._can_tell = loop.tells_cancellations
        self._task: CountingTask | None = loop.counting_task()
        self._before = 0 if self._task is None else self._task.cancelling()
        self._at_own: int | None = None

    def note_own(self) -> None:
        """Note that the stream's own scope is about to be cancelled. From any task."""
        if self._at_own is None:
            self._at_own = self._count()

    def are_there(self) -> bool:
        """Return whether there are requests, so that the cancellation just caught was requested. In that task."""
        return _is_scope_cancelled() or not self._can_tell or self._count() > 0

    def are_none(self) -> bool:
        """Return whether there is no request, the stream's own included. Then nothing is to be settled."""
        return self._at_own is None and self._count() <= 0

    async def settle(self, error: BaseException | None) -> BaseException | None:
        """Return what to raise of the error that left the stream's scope. In that task, outside the scope."""
        if _is_scope_cancelled():
            return error
        if error is not None and is_cancellation(error):
            if self._at_own is None:
                return error if self.are_there() else stray_cancellation("the server's `receive`", error)
            if not self._can_tell or self._came_after_own() or (self._count() > 0 and not _is_of_scopes(error)):
                return error
            error = None
        elif error is None and self._came_after_own():
            return await _pending_cancellation() or get_cancelled_exc_class()()
        pending = await self._forget()
        return pending if error is None else error

    def _came_after_own(self) -> bool:
        # Whether a Task.cancel() came after the stream's own cancellation. In the same pass asyncio raises one
        # exception for both, with the message of the first, and anyio before 4.13 drops it with its scope.
        return self._at_own is not None and self._count() > self._at_own

    async def _forget(self) -> BaseException | None:
        # Requests that are counted but no longer pending were handled.
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
