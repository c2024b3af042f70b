# The keeper of a process: it claims the topics of new runs, renews the leases of its own runs, ends runs whose owner is
# gone, and removes old ones.
#
# Rule 1: one task looks at the store, for all runs and all their watchers, when the next record is due. The store has
#         its records in that order, so a look costs the same for ten runs and for ten thousand.
# Rule 2: a lease is renewed three times before it is due. The owner of a record that is due is gone, or has no
#         store. The step that ends it names the token, so of several processes one does it, and an owner that is only
#         late finds its run ended.
# Rule 3: after an outage of the store owners get a full lease to come back, before anything is taken from them.

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import final

from anyio import create_task_group, sleep

from .._errors import HoldLostError, RunExistsError, StoreUnavailableError
from .._hubs.publisher import Publisher
from ..stores._holds import Claim, Held, HoldingStore
from .ending import OnEnd, RunEnd, end_mark
from .keys import RunKeys
from .log import RETRY_SECONDS, RunLog, new_token
from .record import RunRecord
from .task import RunTask

__all__ = ("Keeper",)

LATE_SECONDS = 0.05
"""How long after a record is due it is looked at: clocks are not read at one moment."""
LOOKED_AT = 100
"""Records of one look."""

_logger = logging.getLogger("sse_trio")


@final
class Keeper:
    """Keeps the records of all runs below a prefix.

    Args:
        publisher, store: of the hub.
        keys: of the runs.
        lease: in seconds.
        on_end: of the user.
        owner: the name of this process.
        tasks: the runs of this process, by key.
    """

    def __init__(
        self,
        publisher: Publisher,
        store: HoldingStore,
        keys: RunKeys,
        lease: float,
        on_end: OnEnd | None,
        owner: str,
        tasks: Mapping[str, RunTask],
    ) -> None:
        self._publisher = publisher
        self._store = store
        self._keys = keys
        self._lease = lease
        self._on_end = on_end
        self._tasks = tasks
        self._owner = owner
        self._is_behind = False
        self._beginning: set[RunLog] = set()

    async def claim(self, key: str, log: RunLog, record: RunRecord, *, replace: bool) -> bool:
        """Return whether the run is ours now, and not one that runs already. RunExistsError if it has ended."""
        self._beginning.add(log)
        try:
            return await self._claim(key, log, record, replace=replace)
        finally:
            self._beginning.discard(log)

    async def _claim(self, key: str, log: RunLog, record: RunRecord, *, replace: bool) -> bool:
        expected: str | None = None
        while True:
            try:
                await log.begin(record, expected)
            except HoldLostError:
                held = await self._store.held(log.topic)
            else:
                return True
            if held is None:
                expected = None
                continue
            if log.hold_if_tried(held.token):
                return True  # it was kept, and its answer was lost
            there = RunRecord.load(held)
            if self._runs_already(key, held, there):
                return False
            expected = await self._make_way(key, held, there, replace=replace)

    def _runs_already(self, key: str, held: Held, there: RunRecord) -> bool:
        if not there.is_running or self._was_never_begun(key, held, there):
            return False
        return held.due_in > 0 or there.owner == self._owner

    def _was_never_begun(self, key: str, held: Held, record: RunRecord) -> bool:
        # Whether it is what is left of a start() here that has failed, or was cancelled, after the store had kept it.
        is_ours = record.owner == self._owner
        return is_ours and not self._is_here(key, record) and not self._is_beginning(held)

    def _is_beginning(self, held: Held) -> bool:
        return any(log.has_tried(held.token) for log in self._beginning)

    def _is_here(self, key: str, record: RunRecord) -> bool:
        task = self._tasks.get(key)
        return task is not None and task.run == record.run

    async def _make_way(self, key: str, held: Held, there: RunRecord, *, replace: bool) -> str | None:
        # Return the token to take the topic from. RunExistsError if there is a run that must not be replaced.
        if not there.is_running:
            if not replace and held.due_in > 0:
                raise RunExistsError(key, there.state)
        elif not self._was_never_begun(key, held, there):
            await self.settle(held)
            return None
        return held.token

    async def renew(self) -> None:
        """Renew the leases of this process, for ever."""
        while True:
            await sleep(RETRY_SECONDS if self._is_behind else self._lease / 3)
            self._is_behind = False
            async with create_task_group() as nursery:
                for task in [*self._tasks.values()]:
                    if task.log.is_renewable:
                        nursery.start_soon(self._renew_one, task)

    async def _renew_one(self, task: RunTask) -> None:
        try:
            await task.log.renew()
        except HoldLostError:
            task.lose()
        except StoreUnavailableError as exc:
            self._is_behind = True
            _logger.warning("the lease of the run %r was not renewed: %s", task.key, exc)

    async def keep(self) -> None:
        """Look at what is due, for ever."""
        while True:
            try:
                wait = await self._look()
            except StoreUnavailableError:
                wait = self._lease
            await sleep(wait)

    async def _look(self) -> float:
        # Return the seconds to the next look. A run that begins meanwhile is not due before a lease has passed.
        records = await self._store.held_due(self._keys.prefix, limit=LOOKED_AT)
        for held in records:
            if held.due_in > 0:
                return min(held.due_in + LATE_SECONDS, self._lease)
            await self.settle(held)
        return self._lease if len(records) < LOOKED_AT else 0.0

    async def settle(self, held: Held) -> None:
        """End a run whose lease is over, or remove one whose time is."""
        record, key = RunRecord.load(held), self._keys.key_of(held.topic)
        if not record.is_running:
            claim, mark = Claim(held.topic, held.token, None, clear=True), []
        elif self._is_here(key, record) or self._is_beginning(held):
            return  # it runs here: this process was late, and is about to renew or to end it
        else:
            end = RunEnd(key=key, state="interrupted", reason="lease", labels=record.labels)
            mark = [(held.topic, end_mark(end, self._on_end))]
            ended = record.ended_as("interrupted", "lease")
            claim = Claim(held.topic, held.token, new_token(), ended.dump(), record.ttl)
        try:
            await self._publisher.publish_held(mark, claim)
        except HoldLostError:
            return  # another process was first, or its owner came back
        if mark:
            _logger.warning("the run %r is interrupted: its process is gone", key)
