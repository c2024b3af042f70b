# Group commit: one task commits the appends of many tasks together. This is what makes a durable store fast.
#
# Rule 1: only one task commits, so there is no lock, and the order of the groups is the order of the ids.
# Rule 2: a group is whatever arrived during the commit before it. No append waits for a group to fill up.
# Rule 3: a task that appends only waits for the result. Cancelling that wait does not cancel the commit.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import final

from anyio import ClosedResourceError, Event

from .._errors import HoldLostError, StoreUnavailableError
from ._append import AGAIN, Append, Result, group_length
from ._holds import Claim
from ._protocol import EventId

__all__ = ("GroupCommit",)


@final
class _Waiting(Append):
    """One call of ``append`` and its result."""

    __slots__ = ("answered", "error", "result")

    def __init__(
        self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None, claim: Claim | None = None
    ) -> None:
        super().__init__(items, key, claim)
        self.answered = Event()
        self.result: Result | None = None
        self.error: StoreUnavailableError | None = None


@final
class GroupCommit:
    """Collects appends and hands them to ``commit``, group by group.

    Args:
        commit: makes a group durable and returns the result of each append in it, in order. What it raises as
            :exc:`StoreUnavailableError` is raised in every task whose append was in the group; anything else is an
            error in the store and ends :meth:`run`.
    """

    def __init__(self, commit: Callable[[Sequence[Append]], Awaitable[Sequence[Result]]]) -> None:
        self._commit = commit
        self._waiting: list[_Waiting] = []
        self._arrived = Event()

    async def append(self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        """Return the ids once the group with these items is committed. Cancelled: outcome unknown."""
        return await self._append(_Waiting(items, key))

    async def claim(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Return the ids once the group with these items and this claim is committed. HoldLostError if refused."""
        return await self._append(_Waiting(items, None, claim))

    async def _append(self, append: _Waiting) -> list[EventId]:
        result = await self._wait_result(append)
        while result == AGAIN:
            result = await self._wait_result(_Waiting(append.items, None, append.claim))
        if isinstance(result, list):
            return result
        assert append.claim is not None
        raise HoldLostError(append.claim.topic)

    async def _wait_result(self, append: _Waiting) -> Result:
        self._waiting.append(append)
        self._arrived.set()
        await append.answered.wait()
        if append.error is not None:
            # A new exception for each task: they would share one traceback, and lengthen it.
            raise StoreUnavailableError(append.error.store, append.error.why) from append.error.__cause__
        if append.result is None:
            raise ClosedResourceError("the store was closed before this was appended")
        return append.result

    async def run(self) -> None:
        """Commit what arrives until cancelled. No append is left waiting then."""
        group: list[_Waiting] = []
        try:
            while True:
                await self._arrived.wait()
                group = self._next_group()
                await self._commit_group(group)
        finally:
            for append in (*group, *self._waiting):
                append.answered.set()

    def _next_group(self) -> list[_Waiting]:
        count = group_length(self._waiting)
        group, self._waiting = self._waiting[:count], self._waiting[count:]
        if not self._waiting:
            self._arrived = Event()
        return group

    async def _commit_group(self, group: Sequence[_Waiting]) -> None:
        try:
            for append, result in zip(group, await self._commit(group), strict=True):
                append.result = result
        except StoreUnavailableError as exc:
            for append in group:
                append.error = exc
        for append in group:
            append.answered.set()
