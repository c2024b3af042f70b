# One run: its producer, the task that keeps what it sends, and its one end.
#
# Rule 1: the producer runs in the nursery of open_runs(), in its own scope, with the contracts of a stream: it is told
#         first (wait_closing), has its grace, is cancelled, cleans up, and has returned before the run has ended. Sends
#         of a producer that shields itself are refused a second later.
# Rule 2: nothing accepted is lost: what the producer has sent is kept before the mark of the end. If it could not be in
#         the time that there was (rule 4), the run is interrupted, whatever it was about to be.
# Rule 3: the first cause of the end counts. What a producer raises later is logged.
# Rule 4: if this task is cancelled from outside, the last writes have a bounded time. What could not be written then,
#         another process ends when the lease is over.
#
# RunTask has some twenty attributes: what the producer does, what is kept, and how it ends are read by each other.

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, final

from anyio import (
    CancelScope,
    ClosedResourceError,
    Event,
    create_task_group,
    current_time,
    sleep,
    sleep_forever,
)
from anyio.abc import TaskGroup

from .._channels.ends import state_of
from .._channels.opening import open_event_channel
from .._channels.send_channel import EventSendChannel
from .._errors import HoldLostError
from .._failures import is_failure, lone, without_own
from .._loops.cancellation import guarded, is_cancellation
from .._reasons import CloseReason
from .._streams.hints import add_hints
from .ending import OnEnd, RunEnd, RunReason, RunState, end_mark
from .limits import Attendance, RunSize, RunTooLargeError
from .log import RunLog
from .options import RunOptions
from .record import RunRecord, RunStatus
from .recorder import BATCH, Recorder

__all__ = ("FINAL_SECONDS", "RunTask")

FINAL_SECONDS = 1.0
"""How long a cancelled producer may go on sending in a shielded scope, and how long the last writes may take when the
task is cancelled from outside."""

_logger = logging.getLogger("sse_trio")


@final
class RunTask:
    """A run of this process.

    Args:
        key: of the run.
        log: its events in the store, claimed already.
        record: what is stored beside them.
        options: of this run.
        limits: the most events and bytes that it may keep.
        on_end: of the user.
    """

    def __init__(
        self,
        key: str,
        log: RunLog,
        record: RunRecord,
        options: RunOptions,
        limits: tuple[int | None, int | None],
        on_end: OnEnd | None,
    ) -> None:
        self.key = key
        self.log = log
        self.record = record
        self.ended = Event()
        """Set when it has ended and its producer has returned."""
        self._attendance = Attendance()
        self._size = RunSize(*limits)
        self._options = options
        self._on_end = on_end
        self._ending: tuple[RunState, RunReason | None] | None = None
        self._has_lost = False
        self._has_returned = False
        self._is_cut = False
        """Whether what it has sent could not be kept in time."""
        self._is_over = False
        self.is_ending = False
        """Whether its end may be in the store already, which then knows better."""
        self._exception: Exception | None = None
        self._told = Event()
        self._grace = 0.0
        self._scope = CancelScope()
        self._writes: CancelScope | None = None
        self._is_bounded = False
        self._send_channel, self._receive_channel = open_event_channel(BATCH)
        self._channel = state_of(self._receive_channel)
        self._recorder = Recorder(self._receive_channel, self._size, log)

    @property
    def run(self) -> str:
        """Which of the runs that have had the key it is."""
        return self.record.run

    @property
    def events(self) -> int:
        """The number of events that the producer has sent."""
        return self._size.events

    def status(self) -> RunStatus:
        """Return a snapshot."""
        is_here, watchers = not self.ended.is_set(), self._attendance.watchers
        return self.record.status(self.key, is_here=is_here, watchers=watchers, events=self.events)

    # --- what others tell it

    def end(self, state: RunState, reason: RunReason, close_reason: CloseReason, grace: float = 0.0) -> None:
        """Begin to end. A second cause changes nothing, but may shorten the grace."""
        if close_reason is CloseReason.SHUTDOWN:
            self._bound_writes(grace + FINAL_SECONDS)
        if self._ending is None:
            self._ending = (state, reason)
            self._channel.begin_ending(close_reason)
            self._grace = grace
            self._told.set()
        elif not grace:
            self._scope.cancel()

    def lose(self) -> None:
        """End without a mark: another process holds the topic, which has ended the run already."""
        self._has_lost = True
        _logger.warning("the run %r lost its lease, and was interrupted by another process", self.key)
        self.end("interrupted", "lease", CloseReason.CANCELLED)

    def watched(self, change: int) -> None:
        """Count a watcher of this process in (1) or out (-1), or note that another process has one (0)."""
        self._attendance.change(change)

    # --- its life

    async def serve(self, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        """Run the producer, keep what it sends, and write the end."""
        try:
            async with create_task_group() as helpers:
                self._start_helpers(helpers)
                try:
                    await self._serve(produce, args)
                finally:
                    self._is_over = True
                    helpers.cancel_scope.cancel()
        finally:
            self.ended.set()

    async def _serve(self, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...]) -> None:
        try:
            async with create_task_group() as nursery:
                nursery.start_soon(self._keep_events)
                await self._produce(produce, args, self._send_channel)
        finally:
            with CancelScope(shield=True) as self._writes:
                if self._is_bounded:
                    self._bound_writes(FINAL_SECONDS)
                await self._write_end()

    def _start_helpers(self, helpers: TaskGroup) -> None:
        helpers.start_soon(self._cancel_in_time)
        if self._options.max_duration is not None:
            helpers.start_soon(self._stop_late, self._options.max_duration)
        if self._options.stop_when_unwatched is not None:
            helpers.start_soon(self._stop_unwatched, self._options.stop_when_unwatched)

    async def _produce(
        self, produce: Callable[..., Awaitable[object]], args: tuple[Any, ...], send_channel: EventSendChannel
    ) -> None:
        try:
            with self._scope:
                await guarded(f"the producer of the run {self.key!r}", partial(produce, send_channel, *args))
                self._has_returned = True
        except BaseException as exc:
            if is_cancellation(exc) or not is_failure(exc):
                self._ending = self._ending or ("interrupted", "shutdown")
                raise
            self._note_failure(exc)
        finally:
            send_channel.close()
            self._channel.refuse_sends()  # clones too: the producer has returned

    def _bound_writes(self, seconds: float) -> None:
        # Who ends us waits: a store that is down must not hold it.
        self._is_bounded = True
        if self._writes is not None:
            self._writes.deadline = min(self._writes.deadline, current_time() + seconds)

    def _note_failure(self, exc: BaseException) -> None:
        others = without_own(exc, self._channel)
        if others is None and self._channel.refusing:
            return  # a send after the end of the run is not a failure
        error = lone(exc if others is None else others)
        add_hints(error, guarded.__module__)  # which calls the producer
        _logger.error("the producer of the run %r failed", self.key, exc_info=error)
        if self._ending is None:
            self._ending = ("failed", "exception")
            self._exception = error if isinstance(error, Exception) else None

    async def _cancel_in_time(self) -> None:
        try:
            await self._told.wait()
            await sleep(self._grace)
            self._scope.cancel()
            await sleep(FINAL_SECONDS)
            self._channel.refuse_sends()
            await sleep_forever()
        finally:
            if not self._is_over:  # cancelled from outside, wherever the run is
                self._bound_writes(FINAL_SECONDS)

    async def _stop_late(self, seconds: float) -> None:
        await sleep(seconds)
        self.end("stopped", "max_duration", CloseReason.LIFETIME)

    async def _stop_unwatched(self, seconds: float) -> None:
        await self._attendance.wait_unwatched(seconds)
        self.end("stopped", "unwatched", CloseReason.KICKED)

    # --- its events

    async def _keep_events(self) -> None:
        with CancelScope(shield=True) as self._writes:
            self._is_cut = True
            try:
                await self._recorder.run()
            except HoldLostError:
                self.lose()
            except RunTooLargeError as exc:
                _logger.error("the run %r failed: %s", self.key, exc)  # noqa: TRY400 -- its own limit, no traceback
                self.end("failed", exc.reason, CloseReason.FAILED)
            except (ValueError, TypeError) as exc:  # an event with an id
                self._note_failure(exc)
                self._scope.cancel()
            except ClosedResourceError:
                return  # the store was cancelled together with the run, so some of it is missing
            finally:
                self._receive_channel.close()
            self._is_cut = False

    # --- its end

    async def _write_end(self) -> None:
        self.is_ending = True
        ending = self._ending
        if self._has_lost:
            ending = ("interrupted", "lease")
        elif self._is_cut:
            ending = ("interrupted", "shutdown")  # whatever it was about to be: some of it is missing
        elif self._has_returned and ending == ("interrupted", "shutdown"):
            ending = None  # it has finished in its grace
        state, reason = ending or ("completed", None)
        self.record = self.record.ended_as(state, reason)
        if self._has_lost:
            return
        end = RunEnd(key=self.key, state=state, reason=reason, exception=self._exception, labels=self._options.labels)
        kept = await self.log.end(end_mark(end, self._on_end), self.record)
        self.record = kept or self.record
        if kept is None:
            _logger.warning("the end of the run %r (%s) could not be stored", self.key, state)
