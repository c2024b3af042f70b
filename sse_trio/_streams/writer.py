# The single writer to a stream's ASGI `send`: head, batches, pings, the last event, the final frame.
#
# Rule 1: it is the only one that calls `send`, and calls it once at a time (C4).
# Rule 2: it runs detached (_loops/loop.py, rule 3), because a server may hold it in a write that can't be cancelled. So
#         nobody waits for it without a bound, no code of the user's runs in it, and it raises nothing: how it ended
#         is in `outcome`, and its owner is told once. Once it is abandoned it sends nothing more: the response may have
#         returned, and a write that came through after all is its last.
# Rule 3: it takes all that is buffered and writes it as one message. No scope, no timer, no object per event.
# Rule 4: it is idle exactly while it rests with its head sent, nothing buffered and no `send` in flight;
#         `idle_since` says since when. The ticker, which looks after time for all streams, only reads
#         `write_began` and `idle_since`, and calls what is in the section "from outside".
# Rule 5: how it rests is the loop's choice. trio parks the task, for a new one costs five times a wake-up. asyncio
#         ends it and starts another, which costs as much as a wake-up does and spares an idle stream a tenth of all
#         its memory. Either way unpark() is all that a receiver's caller has to know.
# Rule 6: where the connection has an express lane (_servers/express.py), unpark() itself writes for a writer that is
#         idle, if that can be done without waiting; the task goes on resting. It is the task's turn in every other
#         case.
# Rule 7: where the stream is compressed (_compression/coder.py), a body is encoded when it is taken, before anybody is
#         offered it. So what is counted, what takes the lane and what waits in `_untaken` are bytes as they are sent.

from __future__ import annotations

from contextvars import Context, copy_context
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from anyio import BrokenResourceError, ClosedResourceError

from .._groups.statistics import STALL_SECONDS
from .._loops.cancellation import is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask, Loop
from .._servers.send_wrappers import send_past_head
from .._wire.batch import Batch

if TYPE_CHECKING:
    from starlette.types import Message, Send

    from .._channels.source import StreamSource
    from .._compression.coder import Coder
    from .._servers.connection import ServerConnection

__all__ = ("CLIENT_GONE", "Outcome", "Writer")

CLIENT_GONE = (OSError, BrokenResourceError, ClosedResourceError)
"""What a server's `send` raises for a client that went away: ASGI 2.4 says OSError, hypercorn's trio says its own."""


COMMENT = b":\n\n"
"""A message that no client sees (WHATWG HTML 9.2.6)."""


class Outcome(Enum):
    """How the writer ended."""

    FINISHED = "finished"
    """Everything was written that should be."""
    GONE = "gone"
    """`send` said that the client is gone."""
    FAILED = "failed"
    """`send` raised something else: `error`."""
    ABANDONED = "abandoned"
    """It was told to stop."""


class _AbandonedError(Exception):
    # It was told to stop before this write.
    pass


class WriterOwner(Protocol):
    """Whom a writer tells."""

    def writer_done(self) -> None:
        """Called once, when `outcome` is known."""


class Writer:
    """Writes one stream. Made by the stream, started once."""

    __slots__ = (
        "_abandoned",
        "_coder",
        "_connection",
        "_current_time",
        "_cut_after",
        "_head",
        "_head_needs_body",
        "_last",
        "_loop",
        "_may_finish",
        "_opening",
        "_owner",
        "_parking",
        "_pending_ping",
        "_prefix",
        "_rests",
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
        "final_sent",
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
        connection: ServerConnection,
        loop: Loop,
        owner: WriterOwner,
    ) -> None:
        self._connection = connection
        self._source = source
        self._send = send
        self._head: Message | None = head
        denies_websocket = head["type"].startswith("websocket")  # and there both uvicorn and hypercorn keep it back
        self._prefix = "websocket.http.response.body" if denies_websocket else "http.response.body"
        self._head_needs_body = denies_websocket or connection.head_needs_body
        self._opening = opening
        self._coder = coder
        self._loop = loop
        self._current_time = loop.current_time
        self._owner: WriterOwner | None = owner
        self._parking = loop.new_parking() if loop.keeps_idle_tasks else None
        # The server's `send` may read context variables. They are those of the request, whoever wakes the writer.
        self.context: Context | None = copy_context()
        self._rests = False
        self.woken = False
        self.end: object = None
        self._task: DetachedTask | None = None
        self._task_runs = False
        self._abandoned = False
        self._try_write = connection.try_write
        self._send_is_unbounded = connection.send_is_unbounded
        self._untaken: Batch | None = None  # what could not be written at once
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
        self.final_sent = False
        self.outcome: Outcome | None = None
        self.error: Exception | None = None

    # --- from outside

    def start(self) -> None:
        """Write whenever there is something to write."""
        self._rest()
        if self._parking is not None or self._source.started or self._source.is_ready():
            self.unpark()

    def ping(self, chunk: bytes) -> None:
        """Write this when there is nothing else to write."""
        self._pending_ping = chunk
        self.unpark()

    def finish(self, last: bytes = b"", *, cut_after: int | None = None) -> None:
        """Write what is buffered to its end, then `last`, then the final frame; and be done.

        With `cut_after` there is no final frame: the connection is ended after so many more messages, or left for 0.
        """
        self._last = last
        self._cut_after = cut_after
        self._may_finish = True
        self.unpark()

    def abandon(self) -> None:
        """Stop, in the middle of a write if need be; the server decides how soon that is."""
        self._abandoned = True
        rested, self._rests = self._rests, False
        if rested and self._task is None:
            self._end(Outcome.ABANDONED)
        elif self._task_runs and self._task is not None:
            # Only then: asyncio would never start a task that is cancelled before, and `outcome` would stay None.
            self._loop.cancel_detached(self._task)

    def is_parked(self) -> bool:
        """Whether it rests."""
        return self._rests

    def is_stalled(self) -> bool:
        """Whether the write under way counts as a stall by now. From any thread."""
        began = self.write_began
        return began is not None and self._current_time() - began >= STALL_SECONDS

    def unpark(self) -> None:
        """Have a writer that rests look again at what there is to do."""
        if not self._rests or (self._try_write is not None and self._write_at_once()):
            return
        self._rests = False
        if self._task is None:
            self._task = self._loop.spawn_detached(self._run, context=self.context)
        else:
            assert self._parking is not None  # else a task that rests has ended
            self._parking.unpark()

    def _write_at_once(self) -> bool:
        # In the midst of whoever has called: no code of the user's runs in here, and the writer goes on resting. False:
        # the task has to look, and begins with what was taken here.
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
        self._leave_list()
        try:
            outcome = None if self._abandoned else await self._write_until_rest()
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
                self._rest()
            else:
                self._end(outcome)

    def _leave_list(self) -> None:
        # Whoever was not called is on it still, and is passed over while it doesn't rest.
        self._rests = False
        if self.woken:
            self._source.end_waiting(self)

    def _rest(self) -> None:
        self._rests = True
        self._source.begin_waiting(self)

    def _end(self, outcome: Outcome) -> None:
        self.stalls += self.is_stalled()
        self.write_began = None
        self._rests = False
        self._source.end_waiting(self)
        self.outcome = outcome
        self._task = self.context = None  # no circle is left for the collector
        owner, self._owner = self._owner, None
        assert owner is not None  # it ends once
        owner.writer_done()

    async def _write_until_rest(self) -> Outcome | None:
        # None: there is nothing to write now, and the loop lets go of a task that rests.
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
            self._rest()
            await self._parking.park()
            self._leave_list()
            if self._abandoned:  # in the pass in which it was called
                return Outcome.ABANDONED

    def _next_batch(self) -> Batch | None:
        batch, self._untaken = self._untaken, None
        if batch is not None:
            return batch  # encoded when it was taken
        batch = self._source.take_batch()
        # A ping is for when there is nothing else to write; what is written in its stead makes it needless.
        ping, self._pending_ping = self._pending_ping, b""
        if batch is None and ping:
            batch = Batch(ping)
        return batch if batch is None or self._coder is None else self._coder.encode(batch)

    async def _write_head(self, head: Message) -> None:
        self._head = None  # streams live long
        self.has_begun = True
        await self._send_timed(head)
        taken = self._source.take_batch()
        batch = Batch(self._opening if taken is None else self._opening + taken.body)
        if not self._source.at_end():
            self._send = send_past_head(self._send)  # else to look would cost more than it saves
        if self._coder is not None:
            batch = self._coder.encode(batch)
        # An empty message only where the server keeps the head back until there is one: in a program that reads the
        # messages (a middleware, the in-memory server of a test suite) it would pass for the first event.
        if batch.body or self._head_needs_body:
            self.written_bytes += len(batch.body)
            self._is_written(batch)  # it is not: nothing was sent before it, and the lane is closed
            await self._send_timed(self._body(batch.body))

    async def _write_last(self) -> None:
        # The final frame is a message of its own and empty (C6), though one with the last events would be cheaper.
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
            self.final_sent = True
            # An asyncio server's send has returned with bytes still in the transport, and closing that waits for
            # them for ever: a client that takes none would hold the connection, and the server's own shutdown.
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
        # Offered in any case: the express lane opens when what it has refused was sent.
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
        # A server that shields its write from cancellation comes back from it as if nothing had happened.
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
