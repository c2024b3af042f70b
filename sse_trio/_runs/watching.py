# Who watches a run in this process, and what a client that wants to is answered.
#
# Rule 1: the store decides what is there: this process asks it, but for its own runs, which it knows.
# Rule 2: a run that stops when it is unwatched has to hear of watchers in other processes (watchers.py).
# Rule 3: in this process, who watches a key watches whichever run has it: a client whose run is replaced before it has
#         read all of it gets a gap, and then the new one. If there is none, because the run has expired or was deleted,
#         the stream ends with the gap, since no end can come any more. The next request of that client is a 404.

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import final

from ..stores._holds import Held, HoldingStore
from ..stores._protocol import EventId, Page
from .control import RunRef
from .keys import RunKeys
from .record import RunRecord
from .task import RunTask
from .watchers import Watchers

__all__ = ("RunLookup", "Watching")


@final
class RunLookup:
    """Finds the record of a run, wherever it runs.

    Args:
        keys: of the runs.
        store: of the hub.
        tasks: the runs of this process, by key.
    """

    def __init__(self, keys: RunKeys, store: HoldingStore, tasks: Mapping[str, RunTask]) -> None:
        self._keys = keys
        self._store = store
        self._tasks = tasks

    async def find(self, key: str) -> tuple[RunRecord, Held | None] | None:
        """Return the record of a run, and what the store has of it if it was asked; ``None`` if there is no run."""
        topic = self._keys.topic_of(key)
        task = self._tasks.get(key)
        if task is not None and not task.is_ending:
            return task.record, None
        held = await self._store.held(topic)
        if held is None:
            return None
        record = RunRecord.load(held)
        return None if not record.is_running and held.due_in <= 0 else (record, held)

    async def is_gone(self, key: str, page: Page) -> bool:
        """Whether the log of a run went while it was read: this page says that there is a gap."""
        return page.gap is not None and await self._store.held(self._keys.topic_of(key)) is None

    async def is_gone_since(self, key: str, page: Page) -> bool:
        """The same of a run that was there when its watcher was admitted, so that no log is gone, too."""
        if page.gap is None and key in self._tasks:
            return False  # it has sent nothing yet
        return await self._store.held(self._keys.topic_of(key)) is None


@final
class Watching:
    """The watchers of this process.

    Args:
        lookup: finds runs.
        tasks: the runs of this process, by key.
        watchers: tells other processes.
    """

    def __init__(self, lookup: RunLookup, tasks: Mapping[str, RunTask], watchers: Watchers) -> None:
        self._lookup = lookup
        self._tasks = tasks
        self._watchers = watchers
        self._watched: Counter[str] = Counter()

    def count(self, key: str) -> int:
        """Return the number of responses that watch a run."""
        return self._watched[key]

    def total(self) -> int:
        """Return the number of responses that watch any run."""
        return self._watched.total()

    async def admit(self, key: str, after: str | None) -> int | AbstractContextManager[None]:
        """Return the status to answer a client with, or what to hold open while it watches."""
        found = await self._lookup.find(key)
        if found is None:
            return 404
        record, held = found
        if held is not None and not record.is_running and _has_seen(after, held.end):
            return 204
        return self._watching(key, record)

    @contextmanager
    def _watching(self, key: str, record: RunRecord) -> Generator[None]:
        task = self._tasks.get(key)
        tell: AbstractContextManager[None] = nullcontext()
        if task is not None:
            task.watched(1)
        is_elsewhere = task is None or task.run != record.run
        if is_elsewhere and record.is_running and record.unwatched is not None:
            tell = self._watchers.watching(record.owner, RunRef(key, record.run), record.unwatched)
        self._watched[key] += 1
        try:
            with tell:
                yield
        finally:
            self._watched[key] -= 1
            if not self._watched[key]:
                del self._watched[key]
            task = self._tasks.get(key)
            if task is not None:
                task.watched(-1)


def _has_seen(after: str | None, end: EventId) -> bool:
    if not after:
        return False
    last = EventId.parse(after)
    return last.epoch == end.epoch and last.sequence >= end.sequence
