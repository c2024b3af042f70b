# Stops a run, in whichever process it runs, and waits for its end.
#
# Rule 1: the run that is meant is the one that has the key when stop() is called. One that replaces it meanwhile is
#         left alone, and not waited for.

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

from .._hubs.subscription import Subscription
from .._reasons import CloseReason
from .control import Control, RunRef
from .record import RunRecord
from .task import RunTask
from .watching import RunLookup

__all__ = ("Stopping",)


@final
class Stopping:
    """Stops runs.

    Args:
        lookup: finds runs.
        tasks: the runs of this process, by key.
        control: tells other processes.
        live: returns a subscription to what a run sends from now on, which ends after its end.
    """

    def __init__(
        self,
        lookup: RunLookup,
        tasks: Mapping[str, RunTask],
        control: Control,
        live: Callable[[str], Subscription],
    ) -> None:
        self._lookup = lookup
        self._tasks = tasks
        self._control = control
        self._live = live

    async def stop(self, key: str) -> RunTask | RunRecord | None:
        """Return when the run that has the key now has ended. Return its task if it was here, else what was found."""
        found = await self._lookup.find(key)
        if found is None:
            return None
        meant, task = found[0], self._tasks.get(key)
        if task is not None and task.run == meant.run:
            task.end("stopped", "stop", CloseReason.KICKED)
            await task.ended.wait()
            return task
        if meant.is_running:
            await self._stop_elsewhere(key, meant)
        return meant

    async def _stop_elsewhere(self, key: str, meant: RunRecord) -> None:
        async with self._live(key) as subscription:
            if not await self._still_runs(key, meant):  # asked now that its end can't be missed
                return
            await self._control.send(meant.owner, "stop", [RunRef(key, meant.run)])
            async for event in subscription:
                if event.event == "gap" and not await self._still_runs(key, meant):
                    return  # it was replaced or deleted before its end was read

    async def _still_runs(self, key: str, meant: RunRecord) -> bool:
        found = await self._lookup.find(key)
        return found is not None and found[0].is_running and found[0].run == meant.run
