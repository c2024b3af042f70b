# Writer: what one stream writes, in which order: the head, batches, pings, the last writes. It is the only user of the
# stream's outlet (outlet.py).
#
# Rule 1: the writer runs detached (_loops/loop.py, rule 3), because a server may hold it in a write that can't be
#         cancelled. So no task waits for it without a bound, no user code runs in it, and it raises nothing: `outcome`
#         says how it ended, and it calls its owner once. An abandoned writer sends nothing more, because the response
#         may have returned. If a write was in progress, that is its last.
# Rule 2: it takes everything that is buffered and writes it as one message, with no scope, timer or object per event.
# Rule 3: it is in one phase at a time; the table is at `Phase`. While it is idle, nothing is buffered and no `send` is
#         in progress. The ticker and the stream call the methods of the section "from outside".
# Rule 4: the loop decides what an idle writer is. On trio it is a parked task, because a new task costs five times a
#         wake-up. On asyncio its task has ended and a new one is started, which costs as much as a wake-up and saves a
#         tenth of an idle stream's memory. In both cases callers only need unpark().
# Rule 5: an event that finds its writer idle is written in the send() that brought it (Outlet.write_event): directly,
#         by a step of the server's own `send`, or by an eager task, whichever is the first that can be had. The task is
#         for what has to wait. An event that comes within a millisecond of the last write waits, too, so that a flood
#         is joined.
# Rule 6: whatever else wakes an idle writer (a publish, a ping) has it write directly, or starts its task. It never
#         runs the server's code: whoever is the caller of unpark(), it is not a producer's own send().
# Rule 7: if the stream is compressed (_compression/coder.py), a batch is encoded when it is taken from the source. So
#         the counters, direct writes and `_untaken` have the bytes as they are sent.

from __future__ import annotations

from contextvars import Context, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from anyio import BrokenResourceError, ClosedResourceError

from .._loops.cancellation import is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask, Loop
from .._wire.batch import Batch
from .last_writes import FINAL_FRAME, LastWrites
from .outlet import Outlet, OutletShutError

if TYPE_CHECKING:
    from starlette.types import Message

    from .._channels.source import StreamSource
    from .._compression.coder import Coder

__all__ = ("CLIENT_GONE", "Outcome", "Writer")

CLIENT_GONE = (OSError, BrokenResourceError, ClosedResourceError)
"""What a server's `send` raises when the client has disconnected: OSError by ASGI 2.4; hypercorn on trio differs."""


class Phase(Enum):
    """What the writer is doing.

    ======== ============================================ ==============================
    phase    it is                                        it goes to
    ======== ============================================ ==============================
    NEW      made, not started                            IDLE: start()
    IDLE     waiting for something to write               STARTING: unpark(); ENDED
    STARTING woken: its task runs in the next pass        RUNNING
    RUNNING  writing                                      IDLE, ENDED
    ENDED    done; `outcome` says how
    ======== ============================================ ==============================
    """

    NEW = "new"
    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    ENDED = "ended"


NEW, IDLE, STARTING, RUNNING, ENDED = Phase  # a member of an Enum costs a look-up in the class


class Outcome(Enum):
    """How the writer ended."""

    FINISHED = "finished"
    """Everything was written."""
    GONE = "gone"
    """`send` raised because the client has disconnected."""
    FAILED = "failed"
    """`send` raised another exception: `error`."""
    ABANDONED = "abandoned"
    """The stream called abandon()."""


class WriterOwner(Protocol):
    """The stream of a writer."""

    def writer_done(self) -> None:
        """Handle the end of the writer. Called once, when `outcome` is known."""


class Writer:
    """Writes one stream. The stream makes it and starts it once."""

    __slots__ = (
        "_coder",
        "_direct_writes",
        "_head",
        "_is_in_send",
        "_last_writes",
        "_loop",
        "_opening",
        "_owner",
        "_parking",
        "_pending_ping",
        "_phase",
        "_source",
        "_task",
        "_untaken",
        "context",
        "error",
        "outcome",
        "outlet",
        "woken",
    )

    def __init__(
        self,
        source: StreamSource,
        outlet: Outlet,
        head: Message,
        *,
        opening: bytes,
        coder: Coder | None = None,
        direct_writes: bool = False,
        loop: Loop,
        owner: WriterOwner,
    ) -> None:
        self.outlet = outlet
        self._source = source
        self._head: Message | None = head
        self._opening = opening
        self._coder = coder
        self._direct_writes = direct_writes
        self._loop = loop
        self._owner: WriterOwner | None = owner
        self._parking = loop.new_parking() if loop.keeps_idle_tasks else None
        # The server's `send` may read context variables: those of the request, whichever task wakes the writer.
        self.context: Context | None = copy_context()
        self._phase = NEW
        self.woken = False
        self._is_in_send = False
        self._task: DetachedTask | None = None
        self._untaken: Batch | None = None  # a batch that was taken, but not written directly
        self._pending_ping = b""
        self._last_writes: LastWrites | None = None
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    @property
    def has_begun(self) -> bool:
        """Whether it has begun to send its head."""
        return self._head is None

    @property
    def end(self) -> object:
        """None: it waits on no end of the channel (``Receiver``)."""
        return None

    # --- from outside

    def start(self) -> None:
        """Begin to write whenever there is something to write."""
        self._become_idle()
        if self._parking is not None or self._source.started or self._source.is_ready():
            self.unpark()

    def ping(self, chunk: bytes) -> None:
        """Write this when there is nothing else to write."""
        self._pending_ping = chunk
        self.unpark()

    def finish(self, last: bytes = b"", *, cut_after: int | None = None) -> None:
        """Write everything that is buffered, then `last`, then the final frame, and end.

        Args:
            last: the closing notices.
            cut_after: if given, write no final frame. Write this many comments and cut the connection; with 0, leave
                it to the server.
        """
        self._last_writes = LastWrites(last, cut_after) if last or cut_after is not None else FINAL_FRAME
        self.unpark()

    def abandon(self) -> None:
        """Stop, even during a write. The server decides how soon the write ends."""
        self.outlet.is_shut = True
        if self._phase is IDLE:
            if self._task is None:
                self._end(Outcome.ABANDONED)
            else:
                self._wake()
        elif self._phase is RUNNING and self._task is not None:
            # Not while it is starting: asyncio never starts a task that is cancelled first, and `outcome` would stay
            # None.
            self._loop.cancel_detached(self._task)

    def is_parked(self) -> bool:
        """Whether it is idle, so that unpark() wakes it."""
        return self._phase is IDLE

    def unpark(self) -> None:
        """Wake an idle writer. Does nothing if it is writing."""
        if self._phase is IDLE and not (self.outlet.direct_writer is not None and self._write_at_once()):
            self._wake()

    def write_at_once(self, body: bytes) -> None:
        """Write this event, which the outlet couldn't write directly, inside the producer's own send() if possible."""
        self._untaken = Batch(body)
        by_hand = self.outlet.is_own
        if self.outlet.connection.is_lost and self._task is None:
            self._end(Outcome.GONE)  # uvicorn reports a disconnect to its newest request only, and logs what is written
            return
        if self._task is not None or self.context is None or not self._loop.starts_at_once(by_hand=by_hand):
            self._wake()
            return
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

    def _write_at_once(self) -> bool:
        # Runs in the caller's task, without user code, and leaves the writer idle. False: the task has to write, and
        # begins with the batch that was taken here.
        source, outlet = self._source, self.outlet
        now = outlet.current_time()
        if self._head is not None or outlet.idle_since is None or now - outlet.idle_since < source.coalesce_after:
            return False
        batch = self._next_batch()
        if batch is None or (self._last_writes is not None and source.at_end()) or not outlet.write_nowait(batch, now):
            self._untaken = batch
            return False
        outlet.written_bytes += len(batch.body)
        if self.woken:
            source.keep_waiting(self)
        return True

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
        if self._head is None and self._coder is None and self._last_writes is None:
            outlet = self.outlet
            if outlet.direct_writer is not None or self._loop.starts_at_once(by_hand=outlet.is_own):
                outlet.writer = self
                source.offer_idle(outlet)

    # --- the task

    async def _run(self) -> None:
        outcome: Outcome | None = Outcome.ABANDONED
        self._begin_running()
        try:
            outcome = None if self.outlet.is_shut else await self._write_all()
        except OutletShutError:
            outcome = Outcome.ABANDONED
        except CLIENT_GONE:
            outcome = Outcome.GONE
        except Exception as exc:  # noqa: BLE001 -- the response raises it
            if self.outlet.connection.says_gone(exc):
                outcome = Outcome.GONE
            else:
                self.error = exc
                outcome = Outcome.FAILED
        except BaseException as exc:
            if self.outlet.is_shut or not is_cancellation(exc) or await is_asked_for(self._loop):
                raise
            self.error = stray_cancellation("the server's `send`", exc)
            outcome = Outcome.FAILED
        finally:
            if self.outlet.is_shut and outcome is None:
                outcome = Outcome.ABANDONED
            if outcome is None:
                self._task = None
                self._become_idle()
            else:
                self._end(outcome)

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

    async def _write_all(self) -> Outcome | None:
        # None: there is nothing more to write now, and on this loop the task of an idle writer ends.
        source, outlet = self._source, self.outlet
        while True:
            if self._head is not None and (source.started or source.is_ready() or self._last_writes is not None):
                await self._write_head(self._head)
            if self._head is None:
                while (batch := self._next_batch()) is not None:
                    await outlet.write(batch)
                if self._last_writes is not None and source.at_end():
                    await self._last_writes.write(outlet, self._coder)
                    return Outcome.FINISHED
            if self._parking is None:
                return None
            self._become_idle()
            await self._parking.park()
            self._begin_running()
            if outlet.is_shut:  # in the pass of the loop in which it was woken
                return Outcome.ABANDONED

    def _next_batch(self) -> Batch | None:
        batch, self._untaken = self._untaken, None
        if batch is not None:
            return batch  # it was encoded when it was taken
        batch = self._source.take_batch()
        # A ping is written only if there is nothing else to write; a batch makes it unnecessary.
        ping, self._pending_ping = self._pending_ping, b""
        if batch is None and ping:
            batch = Batch(ping)
        return batch if batch is None or self._coder is None else self._coder.encode(batch)

    async def _write_head(self, head: Message) -> None:
        self._head = None  # not kept for the life of the stream
        outlet = self.outlet
        await outlet.send(head)
        taken = self._source.take_batch()
        batch = Batch(self._opening if taken is None else self._opening + taken.body)
        if not self._source.at_end():  # for a short stream this would cost more than it saves
            outlet.look_past_starlette(direct_writes=self._direct_writes)
        if self._coder is not None:
            batch = self._coder.encode(batch)
        # An empty message is sent only if the server keeps the head back until the first message. A middleware or a
        # test's in-memory server would take it for the first event.
        if batch.body or outlet.head_needs_body:
            await outlet.write(batch)
