# Writer: decides when something is written: it is woken, has what is pending (pending.py) written by its outlet, and is
# idle again. The outlet (Outlet in server_send.py) is what writes to the server: it calls the server's `send`, or has a
# body written directly (_servers/direct_write.py).
#
# Rule 1: the writer runs detached (_loops/loop.py, rule 3), because a server may hold it in a write that can't be
#         cancelled. So no task waits for it without a bound, no user code runs in it, and it raises nothing: `outcome`
#         says how it ended, and it calls its owner once. An abandoned writer sends nothing more, because the response
#         may have returned. If a write was in progress, that is its last.
# Rule 2: it is in one phase at a time; the table is in phases.py. While it is idle, nothing is buffered and no `send`
#         is in progress. The ticker and the stream call the methods of the section "from outside".
# Rule 3: the loop decides what an idle writer is. On trio it is a parked task, because a new task costs five times a
#         wake-up. On asyncio its task has ended and a new one is started, which costs as much as a wake-up and saves a
#         tenth of an idle stream's memory. In both cases callers only need unpark().
# Rule 4: an event that finds its writer idle is written in the send() that brought it (Outlet.write_event): directly,
#         by a step of the server's own `send`, or by an eager task, whichever is the first that can be had. The task is
#         for what has to wait. An event that comes within a millisecond of the last write waits, too, so that a flood
#         is joined. A stream that completes writes the remainder in its own task in the same ways (finish_at_once());
#         if it has written nothing yet, in two steps of the server's own `send`, without a coroutine of ours. Where
#         each write is a packet, all of them leave as one (Outlet.hold_back()).
# Rule 5: whatever else wakes an idle writer (a publish, a ping) has it write directly, or starts its task. It never
#         runs the server's code: whoever is the caller of unpark(), it is not a producer's own send().
#
# Writer is over 200 lines, because each way in which it is woken ends in the same phases, with the same attributes.

from __future__ import annotations

from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Protocol

from anyio import BrokenResourceError, ClosedResourceError

from .._loops.cancellation import is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask, Loop, Parking
from .._wire.batch import Batch
from .phases import (
    ABANDONED,
    ENDED,
    FAILED,
    FINISHED,
    FLUSHING,
    GONE,
    IDLE,
    NEW,
    RUNNING,
    STARTING,
    Outcome,
    Phase,
)
from .server_send import Outlet, OutletShutError

if TYPE_CHECKING:
    from starlette.types import Message

    from .pending import Pending

__all__ = ("CLIENT_GONE", "Writer")

UNSTARTED = (IDLE, NEW, FLUSHING)
CLIENT_GONE = (OSError, BrokenResourceError, ClosedResourceError)
"""What a server's `send` raises when the client has disconnected: OSError by ASGI 2.4; hypercorn on trio differs."""


class WriterOwner(Protocol):
    """The stream of a writer."""

    def writer_done(self) -> None:
        """Handle the end of the writer. Called once, when `outcome` is known."""


class Writer:
    """Writes one stream. The stream makes it and starts it once.

    It has more than 200 lines because every method moves it from one phase to the next: the phases are one table.
    """

    __slots__ = (
        "_is_in_send",
        "_leaves_flush",
        "_loop",
        "_owner",
        "_parking",
        "_phase",
        "_source",
        "_task",
        "context",
        "error",
        "outcome",
        "outlet",
        "pending",
        "woken",
    )

    def __init__(self, pending: Pending, outlet: Outlet, loop: Loop) -> None:
        self.outlet = outlet
        self.pending = pending
        self._source = pending.source
        self._loop = loop
        self._owner: WriterOwner | None = None
        self._parking = loop.new_parking() if loop.keeps_idle_tasks else None
        # The server's `send` may read context variables: those of the request, whichever task wakes the writer.
        self.context: Context | None = copy_context()
        self._phase: Phase = NEW
        self.woken = False
        self._is_in_send = False
        self._leaves_flush = False
        self._task: DetachedTask | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it has begun to send its head."""
        return self.pending.head is None

    @property
    def end(self) -> object:
        """None: it waits on no end of the channel (``Receiver``)."""
        return None

    # --- from outside

    def own_by(self, owner: WriterOwner) -> None:
        """Tell this owner when it has ended. Call it once, before start()."""
        self._owner = owner

    def start(self) -> None:
        """Begin to write whenever there is something to write. Does nothing if it has begun already."""
        if self._phase is not NEW:
            return
        self._become_idle()
        # A trio task can't be started from another one in its context, such as the one that waits for the disconnect.
        if self._parking is not None or self._source.started or self._source.is_ready():
            self._begin()

    def ping(self, chunk: bytes) -> None:
        """Write this when there is nothing else to write."""
        self.pending.add_ping(chunk)
        self.unpark()

    def finish(self, last: bytes = b"", *, cut_after: int | None = None) -> None:
        """Write everything that is buffered, then `last`, then the final frame, and end.

        Args:
            last: the closing notices.
            cut_after: if given, write no final frame. Write this many comments and cut the connection; with 0, leave
                it to the server.
        """
        self.pending.end_with(last, cut_after)
        self.start()
        self.unpark()

    def finish_at_once(self) -> None:
        """Do as finish(), inside this call as far as it needs no waiting. Only the stream's own task may call it.

        If ``is_flushing`` after it, wait for a pass of the loop, and then call flush_now(), whatever happens.
        """
        self.pending.end_with(b"", None)
        if self._phase is NEW and self._parking is None and self.outlet.leads_to_joining():
            head = self.pending.take_head()
            if head is not None:
                self._finish_now(head)
                return
        if self.outlet.connection.can_hold_back and self.pending.is_whole():
            self.outlet.hold_back()
        if self._task is None and (self._phase is NEW or self._phase is IDLE):
            self._leaves_flush = True
            try:
                self._begin()
            finally:
                self._leaves_flush = False
        else:
            self.unpark()

    def _finish_now(self, head: Message) -> None:
        # Nearly every short stream, in two steps of the server's own `send`, without a coroutine of ours. What a step
        # leaves, or can't do, is for the task, or for another coroutine.
        outlet = self.outlet
        self._phase = RUNNING
        try:
            is_sent = outlet.send_now(head)
            last = self.pending.take_last() if is_sent else None
            if last is not None:
                is_sent = outlet.final_now(last)
        except Exception as exc:  # noqa: BLE001 -- as in _run()
            self._end(self._outcome_of(exc))
            return
        except BaseException:
            self._end(ABANDONED)
            raise
        is_flushed = None if last is None else outlet.connection.is_flushed
        if not is_sent:
            self._wake()
        elif is_flushed is None:
            self._run_at_once(by_hand=True)
        elif is_flushed:
            self._end(FINISHED)
        else:
            self._phase = FLUSHING

    @property
    def is_flushing(self) -> bool:
        """Whether everything is written but not flushed, and no task waits for that."""
        return self._phase is FLUSHING

    def flush_now(self) -> None:
        """End if everything is flushed by now, as it nearly always is; have a task wait for it if not."""
        if self._phase is FLUSHING:
            if self.outlet.connection.is_flushed:
                self._end(FINISHED)
            else:
                self._wake()

    def abandon(self) -> None:
        """Stop, even during a write. The server decides how soon the write ends."""
        self.outlet.is_shut = True
        if self._phase in UNSTARTED:
            if self._task is None:
                self._end(ABANDONED)
            else:
                self._wake()
        elif self._phase is RUNNING and self._task is not None:
            # Not while it is starting: asyncio never starts a task that is cancelled first, and `outcome` would stay
            # None.
            self._loop.cancel_detached(self._task)

    def is_parked(self) -> bool:
        """Whether it is idle, so that unpark() wakes it."""
        return self._phase is IDLE

    def is_able(self) -> bool:
        """Whether it takes an event that is sent now: it is idle, or it was woken, has not run, and holds none yet."""
        return self._phase is IDLE or (self._phase is STARTING and self.pending.untaken is None)

    def unpark(self) -> None:
        """Wake an idle writer. Does nothing if it is writing."""
        if self._phase is not IDLE:
            return
        # A direct write runs no user code, and leaves the writer idle.
        if self.outlet.direct_writer is None or not self.pending.write_nowait(self.outlet):
            if self._phase is IDLE:  # otherwise the source has ended when it was asked, and has woken this itself
                self._wake()
        elif self.woken:
            self._source.keep_waiting(self)

    def write_at_once(self, body: bytes) -> None:
        """Write this event, which the outlet couldn't write directly, inside the producer's own send() if possible."""
        self.pending.untaken = Batch(body)
        by_hand = self.outlet.is_own
        if self.outlet.connection.is_lost and self._task is None:
            self._end(GONE)  # uvicorn reports a disconnect to its newest request only, and logs what is written
        elif self._task is not None or not self._loop.starts_at_once(by_hand=by_hand):
            self._wake()
        else:
            self._run_at_once(by_hand=by_hand)

    def _run_at_once(self, *, by_hand: bool) -> None:
        assert self.context is not None  # it has not ended
        self._begin_starting()
        self._is_in_send = True
        try:
            task = self._loop.start_at_once(self._run, context=self.context, by_hand=by_hand)
        finally:
            self._is_in_send = False
        if self.outcome is not None:
            self._tell_owner()
        elif task is not None and self._phase is RUNNING:
            self._task = task
            if self.outlet.is_shut:
                self._loop.cancel_detached(task)

    # --- waking

    def _begin(self) -> None:
        # In the task of the stream, or in no task at all.
        if self._parking is None and self._loop.starts_at_once(by_hand=self.outlet.leads_to_server()):
            self._run_at_once(by_hand=self.outlet.is_own)
        else:
            self._wake()

    def _wake(self) -> None:
        self._begin_starting()
        if self._task is None:
            self._task = self._loop.spawn_detached(self._run, context=self.context)
        else:
            assert self._parking is not None  # otherwise an idle task has ended
            self._parking.unpark()

    def _begin_starting(self) -> None:
        self._phase = STARTING
        self._source.idle_writer = None

    def _become_idle(self) -> None:
        self._phase = IDLE
        source = self._source
        source.begin_waiting(self)
        if self.pending.is_plain:
            outlet = self.outlet
            if outlet.direct_writer is not None or self._loop.starts_at_once(by_hand=outlet.is_own):
                outlet.writer = self
                source.offer_idle(outlet)

    # --- the task

    async def _run(self) -> None:
        outcome: Outcome | None = ABANDONED
        self._begin_running()
        try:
            if self._parking is not None:
                outcome = await self._write_all(self._parking)
            elif await self.pending.write(self.outlet):
                outcome = await self._flush()
            else:
                outcome = None  # there is nothing more to write now: the task of an idle writer ends
        except Exception as exc:  # noqa: BLE001 -- the response raises it
            outcome = self._outcome_of(exc)
        except BaseException as exc:
            if self.outlet.is_shut or not is_cancellation(exc) or await is_asked_for(self._loop):
                raise
            self.error = stray_cancellation("the server's `send`", exc)
            outcome = FAILED
        finally:
            if self.outlet.is_shut and outcome is None:
                outcome = ABANDONED
            if outcome is not None:
                self._end(outcome)
            else:
                self._task = None
                if self._phase is RUNNING:
                    self._become_idle()

    def _begin_running(self) -> None:
        # A writer that was not woken stays on the source's list, which skips it while it is not idle.
        self._phase = RUNNING
        if self.woken:
            self._source.end_waiting(self)

    def _end(self, outcome: Outcome) -> None:
        self.outlet.end()
        self._phase = ENDED
        self._source.end_waiting(self)
        self.outcome = outcome
        self._task = self.context = None  # leave no reference cycle
        # Inside of a send() the owner is told when that goes on. It cancels the producer, and an eager task runs in the
        # producer's place: what is asked of a task that isn't the current one may come after its end (Python 3.12).
        if not self._is_in_send:
            self._tell_owner()

    def _tell_owner(self) -> None:
        owner, self._owner = self._owner, None
        assert owner is not None  # it ends once
        owner.writer_done()

    async def _write_all(self, parking: Parking) -> Outcome | None:
        while not await self.pending.write(self.outlet):
            self._become_idle()
            await parking.park()
            self._begin_running()
        return await self._flush()

    def _outcome_of(self, exc: Exception) -> Outcome:
        if isinstance(exc, OutletShutError):
            return ABANDONED
        if isinstance(exc, CLIENT_GONE) or self.outlet.connection.says_gone(exc):
            return GONE
        self.error = exc
        return FAILED

    async def _flush(self) -> Outcome | None:
        # A loop may write at the end of its pass, as uvloop does. Waiting for that in a task would be a fifth of the
        # cost of a short stream.
        if self.outlet.final_began:
            if self._leaves_flush and self.outlet.connection.is_flushed is False:
                self._phase = FLUSHING
                return None
            await self.outlet.flush()
        return FINISHED
