# Who watches a run in this process, and what a client that wants to is answered.
#
# Rule 1: the store decides what is there: this process asks it, but for its own runs, which it knows.
# Rule 2: a run that stops when it is unwatched has to hear of watchers in other processes (watchers.py).
# Rule 3: in this process, who watches a key watches whichever run has it: a client whose run is replaced before it has
#         read all of it gets a gap, and then the new one. If there is none, because the run has expired or was deleted,
#         the stream ends after the gap: no end can come any more.

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import final

from anyio import sleep

from .._errors import StoreUnavailableError
from .._hubs.source import SubscriptionSource
from ..stores._holds import Held, HoldingStore
from ..stores._protocol import EventId
from .control import RunRef
from .keys import RunKeys
from .local import LocalRuns
from .log import RETRY_SECONDS
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


@final
class Watching:
    """The watchers of this process.

    Args:
        lookup: finds runs.
        local: the runs of this process.
        watchers: tells other processes.
    """

    def __init__(self, lookup: RunLookup, local: LocalRuns, watchers: Watchers) -> None:
        self._lookup = lookup
        self._local = local
        self._tasks = local.tasks
        self._watchers = watchers
        self._watched: Counter[str] = Counter()

    def count(self, key: str) -> int:
        """Return the number of responses that watch a run."""
        return self._watched[key]

    def total(self) -> int:
        """Return the number of responses that watch any run."""
        return self._watched.total()

    async def admit(
        self, key: str, after: str | None, source: SubscriptionSource
    ) -> int | AbstractContextManager[None]:
        """Return the status to answer a client with, or what to hold open while it watches."""
        found = await self._lookup.find(key)
        if found is None:
            return 404
        record, held = found
        if held is not None and not record.is_running and _has_seen(after, held.end):
            return 204
        source.notice_missing(partial(self._note_missing, key, record, source))
        return self._watching(key, record)

    def _note_missing(self, key: str, record: RunRecord, source: SubscriptionSource, has_gap: bool) -> None:  # noqa: FBT001
        if has_gap or not record.is_running:
            self._local.start_soon(self._end_if_gone, key, source)

    async def _end_if_gone(self, key: str, source: SubscriptionSource) -> None:
        while not source.is_closed:
            try:
                found = await self._lookup.find(key)
            except StoreUnavailableError:
                await sleep(RETRY_SECONDS)
                continue
            if found is None and not source.is_closed:
                source.refuse_sends()
            return

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
