# open_runs() and Runs: streams that outlive their clients.
#
# Rule 1: what a user may do is here, and how it is documented. A run is in task.py, the work between processes in
#         keeper.py and control.py.
# Rule 2: the store decides what is there: this process asks it, but for its own runs, which it knows.

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast, final

from anyio import CancelScope, ClosedResourceError, create_task_group
from anyio.abc import TaskGroup

from .._arguments.checks import check_coroutine_function, check_flag, check_text, wrong
from .._channels.ends import EventSendChannel
from .._errors import HoldLostError, RunExistsError
from .._failures import collapse, raise_again
from .._hubs.hub import Hub, publisher_of_hub, state_of_hub
from .._hubs.publisher import holding_store
from .._hubs.source import SubscriptionSource
from .._hubs.subscription import Subscription
from .._reasons import CloseReason
from ..stores._holds import Claim, Held
from ..stores._items import RESERVED
from ..stores._protocol import EventId
from ..stores._topics import TopicFilter, check_topic
from .control import Control, Watchers
from .ending import OnEnd, is_end
from .keeper import Keeper
from .log import RunLog
from .options import RunOptions, RunsOptions
from .record import RunRecord, RunStatus
from .response import RunResponse, RunResponseOptions
from .task import RunTask

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")  # the arguments of a producer after its channel

__all__ = ("Run", "Runs", "RunsStatistics", "open_runs")

LONGEST_TTL = 1e9
"""Seconds, 30 years: what a store can count."""

_QUOTED = str.maketrans({"%": "%25", "*": "%2A"})


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run that ``Runs.start()`` has started or found."""

    key: str
    started_here: bool
    """Whether this very call has started it; ``False`` if it was there."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RunsStatistics:
    """What the runs of this process are doing, and have done."""

    running: int
    """Runs of this process now."""
    watchers: int
    """Responses of this process that watch a run, here or elsewhere."""
    started: int
    """Runs that this process has started."""
    completed: int
    """Runs of this process that have completed."""
    failed: int
    """Runs of this process that have failed."""
    stopped: int
    """Runs of this process that were stopped."""
    interrupted: int
    """Runs of this process that were interrupted."""


@final
class Runs:
    """Producers that run once, whoever watches. Made by :func:`open_runs`."""

    def __init__(self, hub: Hub, nursery: TaskGroup, options: RunsOptions, prefix: str) -> None:
        self._hub = hub
        self._state = state_of_hub(hub)
        self._store = holding_store(self._state.store)
        self._publisher = publisher_of_hub(hub)
        self._nursery = nursery
        self._options = options
        self._limits = (options.max_events, options.max_bytes)
        self._prefix = f"{prefix}/"
        self._owner = secrets.token_hex(8)
        self._tasks: dict[str, RunTask] = {}
        self._watched: Counter[str] = Counter()
        self._counts: Counter[str] = Counter()
        self._is_closed = False
        self._control = Control(hub, prefix, self._owner)
        self._watchers = Watchers(self._control)
        self._keeper = Keeper(
            self._publisher,
            self._store,
            self._prefix,
            self._key_of,
            options.lease,
            options.on_end,
            self._owner,
            self._tasks,
        )

    def __repr__(self) -> str:
        return f"<Runs in the hub {self._hub.name!r}: {len(self._tasks)} running here>"

    # --- what users do

    async def start(
        self,
        key: str,
        produce: Callable[[EventSendChannel, Unpack[Ts]], Awaitable[object]],
        /,
        *args: Unpack[Ts],
        replace: bool = False,
        labels: Mapping[str, str] | None = None,
        max_duration: float | None = None,
        stop_when_unwatched: float | None = None,
    ) -> Run:
        """Start ``produce(send_channel, *args)`` under a key, unless it runs already, in whichever process.

        The producer runs in the nursery of :func:`open_runs`, in the context of this call. What it sends is kept by the
        hub's store, event by event, before anybody is sent it. When it returns, the run has completed.

        Args:
            key: one line of text; two runs with one key are one run.
            produce: a coroutine function, as for :class:`EventSourceResponse`. Its events must not have ids.
            args: its arguments after the channel.
            replace: whether a run with this key that has ended gives way to a new one. Otherwise that is an error.
            labels: for ``on_end``, ``status()`` and operators.
            max_duration: seconds after which it is stopped. By default as given to ``open_runs()``.
            stop_when_unwatched: seconds without a single watcher, in any process, after which it is stopped. The same.

        Returns when the run is known to the store. Checkpoint: always. Cancellation: the run may have started.

        Raises:
            RunExistsError: a run with this key has ended and is still kept.
            StoreUnavailableError: the store is down. Nothing was started.
            ClosedResourceError: the ``open_runs()`` was left, or is being left.
            TypeError, ValueError: an argument that makes no sense.
        """
        topic = self._topic_of(key)
        check_coroutine_function("produce", produce, "a coroutine function, called as produce(send_channel, *args)")
        check_flag("replace", replace)
        options = RunOptions(
            max_duration=self._options.max_duration if max_duration is None else max_duration,
            stop_when_unwatched=(
                self._options.stop_when_unwatched if stop_when_unwatched is None else stop_when_unwatched
            ),
            labels={} if labels is None else labels,
        )
        self._check_open()
        if key in self._tasks and not self._tasks[key].is_ending:
            return Run(key=key, started_here=False)
        record = self._new_record(options)
        log = RunLog(self._publisher, self._state.store, topic, self._options.lease)
        if not await self._claim(key, log, record, replace=replace):
            return Run(key=key, started_here=False)
        task = RunTask(key, log, record, options, self._limits, self._options.on_end)
        self._run(task, cast("Callable[..., Awaitable[object]]", produce), args)
        return Run(key=key, started_here=True)

    async def stop(self, key: str) -> RunStatus | None:
        """Stop a run, in whichever process it runs, and return when it has ended and cleaned up.

        Returns its status then; that of a run that had ended before; or ``None`` for a key that is not known.
        Checkpoint: always. Cancellation: the run may have been told. Raises what ``status()`` and ``publish()`` raise.
        """
        self._topic_of(key)
        task = self._tasks.get(key)
        if task is not None:
            task.end("stopped", "stop", CloseReason.KICKED)
            await task.ended.wait()
            return task.status()
        status = await self.status(key)
        if status is not None and status.state == "running":
            await self._stop_elsewhere(key)
            status = await self.status(key)
        return status

    async def status(self, key: str) -> RunStatus | None:
        """Return a snapshot of a run, in whichever process it runs; ``None`` for a key that never was, or has expired.

        Checkpoint: always. Raises StoreUnavailableError.
        """
        found = await self._find(key)
        if found is None:
            return None
        is_here = found[0].is_running and key in self._tasks
        return found[0].status(key, is_here=is_here, watchers=self._watched[key])

    async def delete(self, key: str) -> None:
        """Stop a run if it runs, and delete all that is kept of it. The key is then as one that never was.

        Checkpoint: always. Raises what ``stop()`` raises.
        """
        await self.stop(key)
        held = await self._store.held(self._topic_of(key))
        if held is not None:
            try:
                await self._publisher.publish_held([], Claim(held.topic, held.token, None, clear=True))
            except HoldLostError:
                pass  # another process has deleted it, or has begun a new one

    def response(self, key: str, *, after: str | None = None, **options: Unpack[RunResponseOptions]) -> RunResponse:
        """Return the run as a response: all of it from its beginning, then live, then its end.

        Args:
            key: of the run.
            after: the client's last event id, from ``last_event_id(request)``: it is sent what it has not seen.
            options: as for :class:`EventSourceResponse`.

        The stream completes after the run's end. A client that has seen the end is answered 204, which ends an
        ``EventSource`` for good; an unknown or expired key 404. Serving it raises StoreUnavailableError before anything
        is sent, if the store is down.
        """
        return RunResponse(self.watch(key, after=after), partial(self._admit, key, after), options)

    def watch(self, key: str, *, after: str | None = None) -> Subscription:
        """Return a subscription to the events of a run, which ends after the run's end. For your own tasks.

        For an unknown key it waits for the run to begin.
        """
        if after is not None and not isinstance(cast("object", after), str):
            raise wrong(TypeError, "after", "the text of an id: last_event_id(request)", after)
        topics = TopicFilter(self._topic_of(key))
        return Subscription(SubscriptionSource(self._state, topics, after or None, "resume", None, until=is_end))

    def statistics(self) -> RunsStatistics:
        """Return a snapshot of this process. Not a checkpoint."""
        counts = self._counts
        return RunsStatistics(
            running=len(self._tasks),
            watchers=self._watched.total(),
            started=counts["started"],
            completed=counts["completed"],
            failed=counts["failed"],
            stopped=counts["stopped"],
            interrupted=counts["interrupted"],
        )

    def running(self) -> list[RunStatus]:
        """Return a snapshot of each run of this process, the oldest first. Not a checkpoint."""
        return [task.status() for task in self._tasks.values()]

    # --- behind it

    def _check_open(self) -> None:
        self._state.check_here()
        if self._is_closed:
            raise ClosedResourceError("open_runs() was left, so no run can start")

    def _topic_of(self, key: str) -> str:
        check_text("key", key, "a str that is not empty")
        if not key:
            raise wrong(ValueError, "key", "a str that is not empty", key)
        return check_topic(self._prefix + key.translate(_QUOTED))

    def _key_of(self, topic: str) -> str:
        return topic[len(self._prefix) :].replace("%2A", "*").replace("%25", "%")

    def _new_record(self, options: RunOptions) -> RunRecord:
        return RunRecord(
            owner=self._owner,
            lease=self._options.lease,
            ttl=min(self._options.ttl, LONGEST_TTL),
            unwatched=options.stop_when_unwatched,
            labels=dict(options.labels),
        )

    async def _claim(self, key: str, log: RunLog, record: RunRecord, *, replace: bool) -> bool:
        # Return whether the run is ours now, and not one that runs already.
        expected: str | None = None
        while True:
            try:
                await log.begin(record, expected)
            except HoldLostError:
                held = await self._store.held(log.topic)
            else:
                return True
            expected = None if held is None else held.token
            if held is None:
                continue
            there = RunRecord.load(held)
            if there.is_running and held.due_in > 0:
                return False
            if there.is_running:
                await self._keeper.settle(held)
            elif not replace and held.due_in > 0:
                raise RunExistsError(key, there.state)

    def _run(self, task: RunTask, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        self._tasks[task.key] = task
        self._counts["started"] += 1
        self._nursery.start_soon(self._serve, task, produce, args)
        if self._is_closed:  # it was left meanwhile
            task.end("interrupted", "shutdown", CloseReason.SHUTDOWN)

    async def _serve(self, task: RunTask, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        try:
            await task.serve(produce, args)
        finally:
            self._counts[task.record.state] += 1
            if self._tasks.get(task.key) is task:
                del self._tasks[task.key]

    async def _find(self, key: str) -> tuple[RunRecord, Held | None] | None:
        topic = self._topic_of(key)
        task = self._tasks.get(key)
        if task is not None and not task.is_ending:
            return task.record, None
        held = await self._store.held(topic)
        if held is None:
            return None
        record = RunRecord.load(held)
        return None if not record.is_running and held.due_in <= 0 else (record, held)

    async def _admit(self, key: str, after: str | None) -> int | AbstractContextManager[None]:
        found = await self._find(key)
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
        elif record.is_running and record.unwatched is not None:
            tell = self._watchers.watching(key, record.owner, record.unwatched)
        self._watched[key] += 1
        try:
            with tell:
                yield
        finally:
            self._watched[key] -= 1
            if not self._watched[key]:
                del self._watched[key]
            if task is not None:
                task.watched(-1)

    async def _stop_elsewhere(self, key: str) -> None:
        topics = TopicFilter(self._topic_of(key))
        source = SubscriptionSource(self._state, topics, 0, "resume", None, until=is_end)
        async with Subscription(source) as subscription:
            found = await self._find(key)  # now that its end can't be missed
            if found is None or not found[0].is_running:
                return
            await self._control.send(found[0].owner, stop=[key])
            async for _ in subscription:
                pass

    def _on_message(self, message: dict[str, list[str]]) -> None:
        for key in message.get("stop", ()):
            if key in self._tasks:
                self._tasks[key].end("stopped", "stop", CloseReason.KICKED)
        for key in message.get("watched", ()):
            if key in self._tasks:
                self._tasks[key].watched(0)

    async def serve(self) -> None:
        """Start the tasks that all runs share."""
        await self._nursery.start(self._control.receive, self._on_message)
        self._nursery.start_soon(self._keeper.renew)
        self._nursery.start_soon(self._keeper.keep)
        self._nursery.start_soon(self._watchers.tell)

    async def close(self) -> None:
        """Tell every run, give it its grace, and wait for its end."""
        self._is_closed = True
        for task in [*self._tasks.values()]:
            task.end("interrupted", "shutdown", CloseReason.SHUTDOWN, self._options.grace)
        for task in [*self._tasks.values()]:
            await task.ended.wait()


def _has_seen(after: str | None, end: EventId) -> bool:
    if not after:
        return False
    last = EventId.parse(after)
    return last.epoch == end.epoch and last.sequence >= end.sequence


@asynccontextmanager
async def open_runs(
    hub: Hub,
    *,
    ttl: float = 3600.0,
    lease: float = 10.0,
    grace: float = 0.0,
    on_end: OnEnd | None = None,
    max_events: int | None = 100_000,
    max_bytes: int | None = 64 * 1024 * 1024,
    max_duration: float | None = None,
    stop_when_unwatched: float | None = None,
    prefix: str = "runs",
) -> AsyncGenerator[Runs]:
    """Open a place for runs, as an async context manager, in the lifespan of the application, inside ``open_hub()``.

    Args:
        hub: its store keeps the runs; processes that share the store share the runs.
        ttl: seconds for which a run is kept after its end.
        lease: seconds after which a process that has not been heard of counts as gone. Its runs are ``interrupted``
            then, for every watcher.
        grace: seconds that producers have to finish when this is left, before they are cancelled. What has not finished
            is ``interrupted``.
        on_end: what clients are sent as the last event of a run: takes the :class:`RunEnd` and returns the event, or
            ``None`` for none. Default: ``event: end`` with ``{"state": "completed"}``, or another state, as its data.
        max_events: the most events that one run may keep. One that sends more has failed.
        max_bytes: the most bytes of them.
        max_duration: seconds after which a run is stopped, unless ``start()`` says otherwise.
        stop_when_unwatched: seconds without a watcher after which a run is stopped, unless ``start()`` says otherwise.
        prefix: runs of different prefixes don't know of each other. The events of a run have the topic ``prefix/key``.

    Raises:
        TypeError: the store of the hub can't keep runs.
        ValueError, TypeError: an argument that makes no sense.
    """
    options = RunsOptions(
        ttl=ttl,
        lease=lease,
        grace=grace,
        on_end=on_end,
        max_events=max_events,
        max_bytes=max_bytes,
        max_duration=max_duration,
        stop_when_unwatched=stop_when_unwatched,
    )
    if f"{check_topic(prefix)}/".startswith(RESERVED):
        raise wrong(ValueError, "prefix", f"a str that does not begin with {RESERVED}", prefix)
    if not isinstance(cast("object", hub), Hub):
        raise wrong(TypeError, "hub", "a Hub, from open_hub()", hub)
    try:
        async with create_task_group() as nursery:
            runs = Runs(hub, nursery, options, prefix)
            await runs.serve()
            try:
                yield runs
            finally:
                with CancelScope(shield=True):
                    await runs.close()
                nursery.cancel_scope.cancel()
    except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's own layer
        raise_again(collapse(exc))
