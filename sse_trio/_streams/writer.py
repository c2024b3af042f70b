# Writer: the only caller of a stream's ASGI `send`. It writes the head, batches, pings, the closing notices, the final
# frame.
#
# Rule 1: only the writer calls `send`, and it makes one call at a time (C4).
# Rule 2: the writer runs detached (_loops/loop.py, rule 3), because a server may hold it in a write that can't be
#         cancelled. So no task waits for it without a bound, no user code runs in it, and it raises nothing: `outcome`
#         says how it ended, and it calls its owner once. An abandoned writer sends nothing more, because the response
#         may have returned. If a write was in progress, that is its last.
# Rule 3: it takes everything that is buffered and writes it as one message, with no scope, timer or object per event.
# Rule 4: it is idle when its head is sent, nothing is buffered and no `send` is in progress; `idle_since` is the time
#         since then. The ticker, which watches the time for all streams, reads `write_began` and `idle_since`, and
#         calls the methods of the section "from outside".
# Rule 5: the loop decides what an idle writer is. On trio it is a parked task, because a new task costs five times a
#         wake-up. On asyncio its task has ended and a new one is started, which costs as much as a wake-up and saves a
#         tenth of an idle stream's memory. In both cases callers only need unpark().
# Rule 6: if the connection takes direct writes (_servers/direct_write.py), unpark() writes for an idle writer whenever
#         that needs no waiting, and the writer stays idle. In every other case the task writes.
# Rule 7: if the stream is compressed (_compression/coder.py), a batch is encoded when it is taken from the source. So
#         the counters, direct writes and `_untaken` have the bytes as they are sent.

from __future__ import annotations

from contextvars import Context, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from anyio import BrokenResourceError, ClosedResourceError

from .._groups.statistics import STALL_SECONDS
from .._loops.cancellation import is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask, Loop
from .._servers.head_only import skip_head_only_wrappers
from .._wire.batch import Batch

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from .._channels.source import StreamSource
    from .._compression.coder import Coder
    from .._servers.connection import Connection

__all__ = ("CLIENT_GONE", "Outcome", "Writer")

CLIENT_GONE = (OSError, BrokenResourceError, ClosedResourceError)
"""What a server's `send` raises when the client has disconnected: OSError by ASGI 2.4; hypercorn on trio differs."""

COMMENT = b":\n\n"
"""A comment, which clients ignore (WHATWG HTML 9.2.6)."""


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


class _AbandonedError(Exception):
    # The stream called abandon() before this write.
    pass


class WriterOwner(Protocol):
    """The stream of a writer."""

    def writer_done(self) -> None:
        """Handle the end of the writer. Called once, when `outcome` is known."""


class Writer:
    """Writes one stream. The stream makes it and starts it once."""

    __slots__ = (
        "_abandoned",
        "_coder",
        "_connection",
        "_current_time",
        "_cut_after",
        "_head",
        "_head_needs_body",
        "_idle",
        "_last",
        "_loop",
        "_may_finish",
        "_opening",
        "_owner",
        "_parking",
        "_pending_ping",
        "_prefix",
        "_send",
        "_send_is_unbounded",
        "_source",
        "_task",
        "_task_runs",
        "_try_write",
        "_untaken",
        "context",
        "end",
        "error",
        "final_began",
        "first_event_at",
        "has_begun",
        "idle_since",
        "outcome",
        "stalls",
        "woken",
        "write_began",
        "written_bytes",
    )

    def __init__(
        self,
        source: StreamSource,
        send: Send,
        head: Message,
        *,
        opening: bytes,
        coder: Coder | None = None,
        connection: Connection,
        loop: Loop,
        owner: WriterOwner,
    ) -> None:
        self._connection = connection
        self._source = source
        self._send = send
        self._head: Message | None = head
        denies_websocket = head["type"].startswith("websocket")  # for which uvicorn and hypercorn keep back the head
        self._prefix = "websocket.http.response.body" if denies_websocket else "http.response.body"
        self._head_needs_body = denies_websocket or connection.head_needs_body
        self._opening = opening
        self._coder = coder
        self._loop = loop
        self._current_time = loop.current_time
        self._owner: WriterOwner | None = owner
        self._parking = loop.new_parking() if loop.keeps_idle_tasks else None
        # The server's `send` may read context variables: those of the request, whichever task wakes the writer.
        self.context: Context | None = copy_context()
        self._idle = False
        self.woken = False
        self.end: object = None
        self._task: DetachedTask | None = None
        self._task_runs = False
        self._abandoned = False
        self._try_write = None if connection.direct_writer is None else connection.direct_writer.try_write
        self._send_is_unbounded = connection.send_is_unbounded
        self._untaken: Batch | None = None  # a batch that was taken, but not written directly
        self._pending_ping = b""
        self._last = b""
        self._cut_after: int | None = None
        self._may_finish = False
        self.write_began: float | None = None
        self.idle_since: float | None = None
        self.first_event_at: float | None = None
        self.written_bytes: int = 0
        self.stalls: int = 0
        self.has_begun = False
        self.final_began = False
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

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
        self._last = last
        self._cut_after = cut_after
        self._may_finish = True
        self.unpark()

    def abandon(self) -> None:
        """Stop, even during a write. The server decides how soon the write ends."""
        self._abandoned = True
        was_idle, self._idle = self._idle, False
        if was_idle and self._task is None:
            self._end(Outcome.ABANDONED)
        elif self._task_runs and self._task is not None:
            # Not before it runs: asyncio never starts a task that is cancelled first, and `outcome` would stay None.
            self._loop.cancel_detached(self._task)

    def is_parked(self) -> bool:
        """Whether it is idle, so that unpark() wakes it."""
        return self._idle

    def is_stalled(self) -> bool:
        """Whether the write in progress is a stall by now. You may call it from any thread."""
        began = self.write_began
        return began is not None and self._current_time() - began >= STALL_SECONDS

    def unpark(self) -> None:
        """Wake an idle writer. Does nothing if it is writing."""
        if not self._idle or (self._try_write is not None and self._write_at_once()):
            return
        self._idle = False
        if self._task is None:
            self._task = self._loop.spawn_detached(self._run, context=self.context)
        else:
            assert self._parking is not None  # otherwise an idle task has ended
            self._parking.unpark()

    def _write_at_once(self) -> bool:
        # Runs in the caller's task, without user code, and leaves the writer idle. False: the task has to write, and
        # begins with the batch that was taken here.
        source, now = self._source, self._current_time()
        if self._head is not None or self.idle_since is None or now - self.idle_since < source.coalesce_after:
            return False
        batch = self._next_batch()
        assert self._try_write is not None
        if batch is None or (self._may_finish and source.at_end()) or not self._try_write(batch):
            self._untaken = batch
            return False
        self.idle_since = now
        self.written_bytes += len(batch.body)
        if self.first_event_at is None:
            self._note_first_event(now)
        if self.woken:
            source.keep_waiting(self)
        return True

    # --- the task

    async def _run(self) -> None:
        outcome: Outcome | None = Outcome.ABANDONED
        self._task_runs = True
        self._stop_waiting()
        try:
            outcome = None if self._abandoned else await self._write_all()
        except _AbandonedError:
            outcome = Outcome.ABANDONED
        except CLIENT_GONE:
            outcome = Outcome.GONE
        except Exception as exc:  # noqa: BLE001 -- the response raises it
            if self._connection.says_gone(exc):
                outcome = Outcome.GONE
            else:
                self.error = exc
                outcome = Outcome.FAILED
        except BaseException as exc:
            if self._abandoned or not is_cancellation(exc) or await is_asked_for(self._loop):
                raise
            self.error = stray_cancellation("the server's `send`", exc)
            outcome = Outcome.FAILED
        finally:
            self._task_runs = False
            if self._abandoned and outcome is None:
                outcome = Outcome.ABANDONED
            if outcome is None:
                self._task = None
                self._become_idle()
            else:
                self._end(outcome)

    def _stop_waiting(self) -> None:
        # A writer that was not woken stays on the source's list, which skips it while it is not idle.
        self._idle = False
        if self.woken:
            self._source.end_waiting(self)

    def _become_idle(self) -> None:
        self._idle = True
        self._source.begin_waiting(self)

    def _end(self, outcome: Outcome) -> None:
        self.stalls += self.is_stalled()
        self.write_began = None
        self._idle = False
        self._source.end_waiting(self)
        self.outcome = outcome
        self._task = self.context = None  # leave no reference cycle
        owner, self._owner = self._owner, None
        assert owner is not None  # it ends once
        owner.writer_done()

    async def _write_all(self) -> Outcome | None:
        # None: there is nothing more to write now, and on this loop the task of an idle writer ends.
        source = self._source
        while True:
            if self._head is not None and (source.started or source.is_ready() or self._may_finish):
                await self._write_head(self._head)
            if self._head is None:
                while (batch := self._next_batch()) is not None:
                    self.written_bytes += len(batch.body)
                    if self._try_write is None or not self._is_written(batch):
                        await self._send_timed(self._body(batch.body))
                if self._may_finish and source.at_end():
                    await self._write_last()
                    return Outcome.FINISHED
            if self._parking is None:
                return None
            self._become_idle()
            await self._parking.park()
            self._stop_waiting()
            if self._abandoned:  # in the pass of the loop in which it was woken
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
        self.has_begun = True
        await self._send_timed(head)
        taken = self._source.take_batch()
        batch = Batch(self._opening if taken is None else self._opening + taken.body)
        if not self._source.at_end():
            self._send = skip_head_only_wrappers(self._send)  # for a short stream this would cost more than it saves
        if self._coder is not None:
            batch = self._coder.encode(batch)
        # An empty message is sent only if the server keeps the head back until the first message. A middleware or a
        # test's in-memory server would take it for the first event.
        if batch.body or self._head_needs_body:
            self.written_bytes += len(batch.body)
            self._is_written(batch)  # never writes: direct writes begin after the first message was sent
            await self._send_timed(self._body(batch.body))

    async def _write_last(self) -> None:
        # The final frame is a separate, empty message (C6), although one message with the last events would be cheaper.
        last = self._last
        if self._coder is not None:
            last = self._coder.finish(last) if self._cut_after is None else self._coder.encode(Batch(last)).body
        self.written_bytes += len(last)
        if last and not self._is_written(Batch(last)):
            await self._send_timed(self._body(last))
        if self._cut_after is None:
            self.final_began = True
            self.idle_since = None
            self.write_began = self._current_time()
            await self._connection.before_final()
            await self._send_timed({"type": self._prefix, "body": b"", "more_body": False})
            # On asyncio the server's `send` returns with bytes left in the transport, and closing the transport waits
            # for them without a bound. A client that reads nothing would hold the connection and the server's shutdown.
            self.write_began = self._current_time()
            await self._connection.wait_flushed()
        elif self._cut_after:
            await self._cut_off(self._cut_after)

    async def _cut_off(self, after: int) -> None:
        for _ in range(after):
            batch = Batch(COMMENT)
            await self._send_timed(self._body((batch if self._coder is None else self._coder.encode(batch)).body))
        self.write_began = self._current_time()
        await self._connection.wait_flushed()
        self._connection.cut_off()

    def _body(self, body: bytes) -> Message:
        return {"type": self._prefix, "body": body, "more_body": True}

    def _is_written(self, batch: Batch) -> bool:
        # Always offer the batch: after a refused batch, direct writes begin again when that batch was sent.
        self._check_wanted()
        if self._try_write is None or not self._try_write(batch):
            return False
        self.idle_since = now = self._current_time()
        if self.first_event_at is None:
            self._note_first_event(now)
        return True

    def _note_first_event(self, at: float) -> None:
        if self._source.received:
            self.first_event_at = at

    def _check_wanted(self) -> None:
        # A server that shields its write from cancellation returns from it as if nothing had happened.
        if self._abandoned:
            raise _AbandonedError

    async def _send_timed(self, message: Message) -> None:
        self._check_wanted()
        self.idle_since = None
        self.write_began = began = self._current_time()
        if self.first_event_at is None:
            self._note_first_event(began)
        await self._send(message)
        if self._send_is_unbounded:
            await self._connection.wait_flushed()
        self.write_began = None
        self.idle_since = now = self._current_time()
        if now - began >= STALL_SECONDS:
            self.stalls += 1
