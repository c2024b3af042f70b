# The thread that commits, for as long as there is something to commit, and the one hop between it and the event loop.
#
# Rule 1: a commit waits for the disk most of its time. So the thread gets the next group in the same hop in which it
#         gives back the results of the last one, before the tasks of that one run on.
# Rule 2: a thread that commits is never abandoned. If an append is cancelled, its group is committed all the same.
# Rule 3: whatever else needs the connection gets it between two groups.

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import final

from anyio import CapacityLimiter, from_thread, to_thread

from ..._errors import StoreUnavailableError
from .._append import Append, Result
from .._group_commit import GroupCommit, Waiting

__all__ = ("CommitThread",)


@final
class CommitThread:
    """Commits the groups of a store.

    Args:
        store: its name, for errors.
        commits: gives out the groups.
        append: makes a group durable, in the thread.
        on_committed: is called with a group that was committed, and its results, in the event loop.
        limiter: of the connection.
    """

    def __init__(
        self,
        store: str,
        commits: GroupCommit,
        append: Callable[[Sequence[Append]], list[Result]],
        on_committed: Callable[[Sequence[Append], Sequence[Result]], None],
        limiter: CapacityLimiter,
    ) -> None:
        self._store = store
        self._commits = commits
        self._append = append
        self._on_committed = on_committed
        self._limiter = limiter

    async def run(self) -> None:
        """Commit what arrives until cancelled. No append is left waiting then."""
        try:
            while True:
                await self._commits.wait_arrived()
                await to_thread.run_sync(self._commit_groups, self._commits.take_group(), limiter=self._limiter)
        finally:
            self._commits.abandon()

    def _commit_groups(self, group: list[Waiting]) -> None:
        while group:
            group = from_thread.run_sync(self._exchange, group, self._commit(group))

    def _commit(self, group: Sequence[Append]) -> list[Result] | StoreUnavailableError:
        try:
            return self._append(group)
        except (sqlite3.Error, OSError) as exc:
            error = StoreUnavailableError(self._store, exc)
            error.__cause__ = exc
            return error

    def _exchange(self, group: list[Waiting], results: list[Result] | StoreUnavailableError) -> list[Waiting]:
        # In the event loop, while the thread waits.
        is_wanted = self._limiter.statistics().tasks_waiting
        following = [] if is_wanted else self._commits.take_group()
        if isinstance(results, list):
            self._on_committed(group, results)
        self._commits.answer(group, results)
        return following
