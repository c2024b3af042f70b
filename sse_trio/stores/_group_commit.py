# Group commit: one task commits the appends of many tasks together. This is what makes a durable store fast.
#
# Rule 1: only one task commits, so there is no lock, and the order of the groups is the order of the ids.
# Rule 2: a group is whatever arrived during the commit before it. No append waits for a group to fill up.
# Rule 3: who appends only waits for the answer: a task, or a function that is called with it. Cancelling the task's
#         wait does not cancel the commit.
# Rule 4: the next group is on its way before those of the last one are answered: what they do meanwhile costs no time.

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias, final

from anyio import ClosedResourceError, Event

from .._errors import HoldLostError, StoreUnavailableError
from .._loops.current import current_loop
from ._append import AGAIN, Append, Result, group_length
from ._holds import Claim, OnHeldDone
from ._protocol import EventId

__all__ = ("GroupCommit", "Waiting")


Answer: TypeAlias = "Result | StoreUnavailableError | None"
"""What becomes of an append: its result, or why it has none; ``None``: the store was closed."""


class Waiting(Append):
    """One append that has yet to be answered."""

    __slots__ = ()

    def answer(self, answer: Answer) -> None:
        """Tell who waits what has become of it. Called once, in the event loop. Never raises."""
        raise NotImplementedError


@final
class _Parked(Waiting):
    # An append that a task waits for.

    __slots__ = ("_answer", "parking")

    def __init__(
        self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None, claim: Claim | None = None
    ) -> None:
        super().__init__(items, key, claim)
        self.parking = current_loop().new_parking()
        self._answer: Answer = None

    def answer(self, answer: Answer) -> None:
        self._answer = answer
        self.parking.unpark()

    async def wait_result(self) -> Result:
        await self.parking.park()
        answer = self._answer
        if isinstance(answer, StoreUnavailableError):
            raise _own(answer) from answer.__cause__
        if answer is None:
            raise _closed()
        return answer


@final
class _Called(Waiting):
    # An append that a function waits for.

    __slots__ = ("_on_done",)

    def __init__(self, items: Sequence[tuple[str, bytes]], claim: Claim, on_done: OnHeldDone) -> None:
        super().__init__(items, None, claim)
        self._on_done = on_done

    def answer(self, answer: Answer) -> None:
        if isinstance(answer, list):
            self._on_done(answer)
        elif isinstance(answer, StoreUnavailableError):
            error = _own(answer)
            error.__cause__ = answer.__cause__
            self._on_done(error)
        elif answer is None:
            self._on_done(_closed())
        else:
            assert self.claim is not None
            self._on_done(HoldLostError(self.claim.topic))


def _own(error: StoreUnavailableError) -> StoreUnavailableError:
    # A new exception for each append of a group: they would share one traceback, and lengthen it.
    return StoreUnavailableError(error.store, error.why)


def _closed() -> ClosedResourceError:
    return ClosedResourceError("the store was closed before this was acknowledged; it may have been appended")


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
        return await self._append(_Parked(items, key))

    async def claim(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Return the ids once the group with these items and this claim is committed. HoldLostError if refused."""
        return await self._append(_Parked(items, None, claim))

    def claim_soon(self, items: Sequence[tuple[str, bytes]], claim: Claim, on_done: OnHeldDone) -> None:
        """Do the same, for a claim that clears nothing, and call the function with what has become of it."""
        self._add(_Called(items, claim, on_done))

    async def _append(self, append: _Parked) -> list[EventId]:
        result = await self._wait_result(append)
        while result == AGAIN:
            result = await self._wait_result(_Parked(append.items, None, append.claim))
        if isinstance(result, list):
            return result
        assert append.claim is not None
        raise HoldLostError(append.claim.topic)

    async def _wait_result(self, append: _Parked) -> Result:
        self._add(append)
        return await append.wait_result()

    def _add(self, append: Waiting) -> None:
        if self._is_closed:
            raise _closed()  # nobody would commit it
        self._waiting.append(append)
        if len(self._waiting) == 1:
            self._arrived.set()

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
        waiting = [*self._group, *self._waiting]
        self._group, self._waiting = [], []
        for append in waiting:
            append.answer(None)

    def answer(self, group: Sequence[Waiting], results: Sequence[Result] | StoreUnavailableError) -> None:
        """Tell those who wait what has become of their appends."""
        if self._group is group:
            self._group = []
        answers: Sequence[Answer] = [results] * len(group) if isinstance(results, StoreUnavailableError) else results
        for append, each in zip(group, answers, strict=True):
            append.answer(each)

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
                self.answer(group, results)
        finally:
            self.abandon()
