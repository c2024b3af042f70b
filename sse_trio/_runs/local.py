# The runs of this process: their tasks, what they add up to, and their end when open_runs() is left.
#
# Rule 1: a run is here from its start until its end is stored and its producer has returned. Another one with its key
#         may begin before that, as soon as the end is stored; then that one is here.
# Rule 2: observers are told of a run when it has ended, in its own task. What they raise is logged and changes nothing.

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import Any, final

from anyio import ClosedResourceError, Event, move_on_after
from anyio.abc import TaskGroup

from .._reasons import CloseReason
from .control import Request, RunRef
from .statistics import RunObserver, RunsStatistics
from .task import FINAL_SECONDS, RunTask

__all__ = ("LocalRuns",)

_logger = logging.getLogger("sse_trio")


@final
class LocalRuns:
    """The runs of this process.

    Args:
        nursery: that they run in.
    """

    def __init__(self, nursery: TaskGroup) -> None:
        self._nursery = nursery
        self._counts: Counter[str] = Counter()
        self._events = 0
        self._observers: tuple[RunObserver, ...] = ()
        self.tasks: dict[str, RunTask] = {}
        """By key, the oldest first."""
        self.is_closed = False
        self._is_over = False
        self._starts = 0
        self._started = Event()

    def add_observer(self, observer: RunObserver) -> None:
        """Tell this one of each run that ends from now on."""
        self._observers += (observer,)

    @contextmanager
    def starting(self) -> Generator[None]:
        """Have close() wait for a start, which may end in a run."""
        self._starts += 1
        try:
            yield
        finally:
            self._starts -= 1
            self._started.set()

    def check_begins(self) -> None:
        """Raise ClosedResourceError if open_runs() has been left since the start began."""
        if self._is_over:
            msg = "open_runs() was left while this run was starting, so it is interrupted when its lease is over"
            raise ClosedResourceError(msg)

    def begin(self, task: RunTask, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """Run it."""
        self.tasks[task.key] = task
        self._counts["started"] += 1
        self._nursery.start_soon(self._serve, task, produce, args)
        if self.is_closed:  # it was left meanwhile
            task.end("interrupted", "shutdown", CloseReason.SHUTDOWN)

    async def _serve(self, task: RunTask, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        try:
            await task.serve(produce, args)
        finally:
            self._counts[task.record.state] += 1
            self._events += task.events
            if self.tasks.get(task.key) is task:
                del self.tasks[task.key]
            self._tell_observers(task)

    def _tell_observers(self, task: RunTask) -> None:
        for observer in self._observers:
            try:
                observer.run_ended(task.status())
            except Exception:
                _logger.exception("%r failed for the run %r", observer, task.key)

    def on_message(self, request: Request, ref: RunRef) -> None:
        """Do what another process asks of a run, if that is here still."""
        task = self.tasks.get(ref.key)
        if task is None or ref.run not in {"", task.run}:
            return
        if request == "stop":
            task.end("stopped", "stop", CloseReason.KICKED)
        else:
            task.watched(0)

    def statistics(self, name: str, watchers: int) -> RunsStatistics:
        """Return a snapshot."""
        counts = self._counts
        return RunsStatistics(
            name=name,
            running=len(self.tasks),
            watchers=watchers,
            started=counts["started"],
            completed=counts["completed"],
            failed=counts["failed"],
            stopped=counts["stopped"],
            interrupted=counts["interrupted"],
            events=self._events + sum([task.events for task in [*self.tasks.values()]]),
        )

    async def close(self, grace: float) -> None:
        """Tell every run, give it its grace, and wait for its end."""
        self.is_closed = True
        for task in [*self.tasks.values()]:
            task.end("interrupted", "shutdown", CloseReason.SHUTDOWN, grace)
        with move_on_after(FINAL_SECONDS):  # a store that is down must not hold it
            while self._starts:
                self._started = Event()
                await self._started.wait()
        for task in [*self.tasks.values()]:
            await task.ended.wait()
        self._is_over = True
