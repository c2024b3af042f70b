# Runs: what a user may do, and how it is documented. The work is done by its neighbours: see __init__.py.

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, cast, final

from anyio import ClosedResourceError
from anyio.abc import TaskGroup

from .._arguments.checks import check_flag, check_function, wrong
from .._channels.send_channel import EventSendChannel
from .._errors import HoldLostError
from .._hubs.history import EndsWith
from .._hubs.hub import Hub, publisher_of_hub, state_of_hub
from .._hubs.publisher import holding_store
from .._hubs.source import SubscriptionSource
from .._hubs.subscription import Subscription
from .._streams.wrong_source import check_producer, check_takes_channel
from ..stores._holds import Claim
from ..stores._protocol import Page
from ..stores._topics import TopicFilter
from .control import Control
from .ending import is_end
from .keeper import Keeper
from .keys import RunKeys
from .local import LocalRuns
from .log import RunLog
from .options import RunOptions, RunsOptions
from .record import RunRecord, RunStatus
from .response import RunResponse, RunResponseOptions
from .statistics import Run, RunObserver, RunsStatistics
from .stopping import Stopping
from .task import RunTask
from .watchers import Watchers
from .watching import RunLookup, Watching

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    Ts = TypeVarTuple("Ts")  # the arguments of a producer after its channel

__all__ = ("Runs",)

LONGEST_TTL = 1e9
"""Seconds, 30 years: what a store can count."""


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
        self._keys = RunKeys(prefix)
        self._owner = secrets.token_hex(8)
        self._local = LocalRuns(nursery)
        self._tasks = self._local.tasks
        self._control = Control(hub, prefix, self._owner)
        self._watchers = Watchers(self._control)
        self._lookup = RunLookup(self._keys, self._store, self._tasks)
        self._stopping = Stopping(self._lookup, self._tasks, self._control, self._live)
        self._watching = Watching(self._lookup, self._tasks, self._watchers)
        self._keeper = Keeper(
            self._publisher, self._store, self._keys, options.lease, options.on_end, self._owner, self._tasks
        )
        self.name: str = prefix
        """The prefix, as given to ``open_runs()``."""

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

        Returns when the run is known to the store. Checkpoint: always. Cancellation: nothing runs. As after an error of
        the store, its record may have been kept: the next start() here takes that over; for other processes it is a run
        that is interrupted when its lease is over.

        Raises:
            RunExistsError: a run with this key has ended and is still kept.
            StoreUnavailableError: the store is down. Nothing runs.
            ClosedResourceError: the ``open_runs()`` was left, or is being left. Nothing runs.
            TypeError, ValueError: an argument that makes no sense.
        """
        topic = self._keys.topic_of(key)
        check_producer("produce", produce, "a coroutine function, called as produce(send_channel, *args)")
        if isinstance(produce, FunctionType):
            check_takes_channel(produce)
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
        with self._local.starting():
            if not await self._keeper.claim(key, log, record, replace=replace):
                return Run(key=key, started_here=False)
            self._local.check_begins()
            limits = (self._options.max_events, self._options.max_bytes)
            task = RunTask(key, log, record, options, limits, self._options.on_end)
            task.watched(self._watching.count(key))
            self._local.begin(task, cast("Callable[..., Awaitable[object]]", produce), args)
        return Run(key=key, started_here=True)

    async def stop(self, key: str) -> RunStatus | None:
        """Stop the run that has the key now, in whichever process, and return when it has ended and cleaned up.

        Returns its status then; that of a run that had ended before, or that has replaced it meanwhile; or ``None`` for
        a key that is not known.
        Checkpoint: always. Cancellation: the run may have been told. Raises what ``status()`` and ``publish()`` raise.
        """
        stopped = await self._stopping.stop(key)
        return stopped.status() if isinstance(stopped, RunTask) else await self.status(key)

    async def status(self, key: str) -> RunStatus | None:
        """Return a snapshot of a run, in whichever process it runs; ``None`` for a key that never was, or has expired.

        Checkpoint: always. Raises StoreUnavailableError.
        """
        found = await self._lookup.find(key)
        if found is None:
            return None
        task = self._tasks.get(key)
        is_here = task is not None and found[0].is_running and task.run == found[0].run
        events = task.events if task is not None and is_here else None
        return found[0].status(key, is_here=is_here, watchers=self._watching.count(key), events=events)

    async def delete(self, key: str) -> None:
        """Stop a run if it runs, and delete all that is kept of it. The key is then as one that never was.

        A run that replaces it meanwhile is left alone. Checkpoint: always. Raises what ``stop()`` raises.
        """
        stopped = await self._stopping.stop(key)
        held = await self._store.held(self._keys.topic_of(key))
        if held is not None and _may_go(RunRecord.load(held), stopped):
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

        The stream completes after the run's end; or after a ``gap``, if the run is removed before all of it was sent. A
        client that has seen the end is answered 204, which ends an ``EventSource`` for good; an unknown or expired key
        404. Serving it raises StoreUnavailableError before anything is sent, if the store is down.
        """
        subscription = self._watch(key, after, self._lookup.is_gone_since)
        return RunResponse(subscription, partial(self._watching.admit, key, after), options)

    def watch(self, key: str, *, after: str | None = None) -> Subscription:
        """Return a subscription to the events of a run, which ends after the run's end. For your own tasks.

        For an unknown key it waits for the run to begin. If the run is deleted, or expires, before all of it was read,
        the last event is a ``gap``.
        """
        return self._watch(key, after, self._lookup.is_gone)

    def _watch(self, key: str, after: str | None, is_gone: Callable[[str, Page], Awaitable[bool]]) -> Subscription:
        if after is not None and not isinstance(cast("object", after), str):
            raise wrong(TypeError, "after", "the text of an id: last_event_id(request)", after)
        topics = TopicFilter(self._keys.topic_of(key))
        return Subscription(self._source(topics, after or None, partial(is_gone, key)))

    def statistics(self) -> RunsStatistics:
        """Return a snapshot of this process. Not a checkpoint. From any thread."""
        return self._local.statistics(self.name, self._watching.total())

    def running(self) -> list[RunStatus]:
        """Return a snapshot of each run of this process, the oldest first. Not a checkpoint."""
        return [task.status() for task in self._tasks.values()]

    def add_observer(self, observer: RunObserver) -> None:
        """Call ``observer.run_ended(status)`` for each run of this process that ends from now on.

        It is called when the end is stored and the producer has returned, in the context of the call that started the
        run. It must not block. What it raises is logged.

        Raises:
            TypeError: it has no such method.
        """
        if isinstance(observer, type) or not callable(getattr(observer, "run_ended", None)):
            raise wrong(TypeError, "observer", "an object with a method run_ended(status)", observer)
        check_function("observer.run_ended", observer.run_ended, "a method")
        self._local.add_observer(observer)

    # --- behind it

    def _check_open(self) -> None:
        self._state.check_here()
        if self._local.is_closed:
            raise ClosedResourceError("open_runs() was left, so no run can start")

    def _new_record(self, options: RunOptions) -> RunRecord:
        return RunRecord(
            owner=self._owner,
            run=secrets.token_hex(8),
            lease=self._options.lease,
            ttl=min(self._options.ttl, LONGEST_TTL),
            unwatched=options.stop_when_unwatched,
            labels=dict(options.labels),
        )

    def _source(
        self, topics: TopicFilter, start: str | int | None, ends_with: EndsWith | None = None
    ) -> SubscriptionSource:
        return SubscriptionSource(
            self._state, topics, start, "resume", until=is_end, ends_at_mark=True, ends_with=ends_with
        )

    def _live(self, key: str) -> Subscription:
        return Subscription(self._source(TopicFilter(self._keys.topic_of(key)), 0))

    async def serve(self) -> None:
        """Start the tasks that all runs share."""
        await self._nursery.start(self._control.listen_for_messages, self._local.on_message)
        self._nursery.start_soon(self._keeper.renew)
        self._nursery.start_soon(self._keeper.keep)
        self._nursery.start_soon(self._watchers.tell)

    async def close(self) -> None:
        """Tell every run, give it its grace, and wait for its end."""
        await self._local.close(self._options.grace)


def _may_go(there: RunRecord, stopped: RunTask | RunRecord | None) -> bool:
    # Whether what is kept is of the run that was to be deleted, or of one whose time is over.
    if stopped is None:
        return not there.is_running
    return there.run == stopped.run and (bool(there.run) or not there.is_running)
