# Group commit: one task commits the appends of many tasks together. This is what makes a durable store fast.
#
# Rule 1: only one task commits, so there is no lock, and the order of the groups is the order of the ids.
# Rule 2: a group is whatever arrived during the commit before it. No append waits for a group to fill up.
# Rule 3: a task that appends only waits for the result. Cancelling that wait does not cancel the commit.
# Rule 4: the next group is on its way before the tasks of the last one run on: what they do meanwhile costs no time.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import final

from anyio import ClosedResourceError, Event

from .._errors import HoldLostError, StoreUnavailableError
from .._loops.current import current_loop
from ._append import AGAIN, Append, Result, group_length
from ._holds import Claim
from ._protocol import EventId

__all__ = ("GroupCommit", "Waiting", "answer")


@final
class Waiting(Append):
    """One call of ``append`` and its result."""

    __slots__ = ("error", "parking", "result")

    def __init__(
        self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None, claim: Claim | None = None
    ) -> None:
        super().__init__(items, key, claim)
        self.parking = current_loop().new_parking()
        self.result: Result | None = None
        self.error: StoreUnavailableError | None = None


@final
class GroupCommit:
    """Collects appends, and gives them out group by group.

    A store takes a group with :meth:`take_group`, makes it durable, and answers it, one group at a time: in a task,
    with :meth:`run`, or in a thread.
    """

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._group: list[Waiting] = []
        self._arrived = Event()
        self._is_closed = False

    async def append(self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        """Return the ids once the group with these items is committed. Cancelled: outcome unknown."""
        return await self._append(Waiting(items, key))

    async def claim(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Return the ids once the group with these items and this claim is committed. HoldLostError if refused."""
        return await self._append(Waiting(items, None, claim))

    async def _append(self, append: Waiting) -> list[EventId]:
        result = await self._wait_result(append)
        while result == AGAIN:
            result = await self._wait_result(Waiting(append.items, None, append.claim))
        if isinstance(result, list):
            return result
        assert append.claim is not None
        raise HoldLostError(append.claim.topic)

    async def _wait_result(self, append: Waiting) -> Result:
        self._waiting.append(append)
        if len(self._waiting) == 1:
            self._arrived.set()
        await append.parking.park()
        if append.error is not None:
            # A new exception for each task: they would share one traceback, and lengthen it.
            raise StoreUnavailableError(append.error.store, append.error.why) from append.error.__cause__
        if append.result is None:
            raise ClosedResourceError("the store was closed before this was appended")
        return append.result

    # --- the store's side

    async def wait_arrived(self) -> None:
        """Wait until there is an append to commit."""
        if not self._waiting:
            self._arrived = Event()
            await self._arrived.wait()

    def take_group(self) -> list[Waiting]:
        """Return the appends to commit together next; none if nothing waits, or if the store is being closed."""
        count = 0 if self._is_closed else group_length(self._waiting)
        self._group, self._waiting = self._waiting[:count], self._waiting[count:]
        return self._group

    def close(self) -> None:
        """Give out no more groups."""
        self._is_closed = True

    def abandon(self) -> None:
        """Leave no append waiting: nothing commits any more."""
        self.close()
        for append in (*self._group, *self._waiting):
            append.parking.unpark()

    async def run(self, commit: Callable[[Sequence[Append]], Awaitable[Sequence[Result]]]) -> None:
        """Commit what arrives until cancelled. No append is left waiting then.

        What ``commit`` raises as :exc:`StoreUnavailableError` is raised in every task whose append was in the group;
        anything else is an error in the store, and ends this.
        """
        try:
            while True:
                await self.wait_arrived()
                group = self.take_group()
                try:
                    results: Sequence[Result] | StoreUnavailableError = await commit(group)
                except StoreUnavailableError as exc:
                    results = exc
                answer(group, results)
        finally:
            self.abandon()


def answer(group: Sequence[Waiting], results: Sequence[Result] | StoreUnavailableError) -> None:
    """Tell the tasks that wait what has become of their appends."""
    if isinstance(results, StoreUnavailableError):
        for append in group:
            append.error = results
    else:
        for append, result in zip(group, results, strict=True):
            append.result = result
    for append in group:
        append.parking.unpark()
