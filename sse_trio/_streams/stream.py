# One stream: where source, writer and disconnect meet, and the one way out of it.
#
# Rule 1: end() is the only way to end (C2). It is synchronous, may be called from anywhere in the loop, and the
#         first reason counts.
# Rule 2: user code runs inside the cancel scope of serve() and nowhere else, and is gone when serve() is left (C1). A
#         single producer runs in the very task that serves the stream, in the context of its request; several run in
#         a nursery. (A nursery for one cost as much as all the rest of a short stream, and half the memory of an idle
#         one.) The writer is not in there (_streams/writer.py, rule 2), so serve() waits for it only as long as it
#         makes progress, or for a bounded moment; nor is the task that waits for the disconnect, in the server's
#         `receive`.
# Rule 3: the final frame says that all went well, so it is written only when every producer has returned (C6): one
#         that closes its channel and fails after that has failed.
# Rule 4: a client that is gone is no error of anybody's. Only producers, and a server's `send`, make serve() raise,
#         and SendTimeoutError does, where only that makes a server drop the connection (C11).

from __future__ import annotations

import logging
import math
from random import uniform
from typing import TYPE_CHECKING, TypeAlias

from anyio import CancelScope, create_task_group, move_on_after

from .._channels.ends import EventReceiveChannel, EventSendChannel
from .._channels.source import LiveSource, StreamSource
from .._errors import SendTimeoutError
from .._failures import cancellation_behind, collapse, is_failure, joined, lone, raise_again, without_own
from .._groups.group import current_run
from .._groups.statistics import StreamStatistics, StreamTotals
from .._loops.cancellation import CancelRequests, is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask
from .._loops.ticker import Entry
from .._reasons import ENDINGS, CloseReason
from .._servers.discovery import find_connection
from .._servers.middleware import count_base_middlewares
from .notices import first_words, last_words, ping
from .options import StreamOptions
from .sources import Producer
from .writer import Outcome, Writer

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from .._compression.coder import Coder

__all__ = ("Producers", "Stream")

Producers: TypeAlias = list[tuple[Producer, EventSendChannel | None]]

logger = logging.getLogger("sse_trio")

WATCH_SECONDS = 0.05
"""How old a stream is when it begins to look out for its client's going. A task for each costs a short one a tenth."""
FINAL_SECONDS = 1.0
"""How long the last writes of a stream may take that is ended from outside, and how long its cancelled producers may
go on sending in a shielded scope: the server is waiting."""
UNTAKEN_SECONDS = 0.1
"""How long one of those writes may take in a stream that is cancelled from outside, where the server can't be asked
whether the client is there: whoever cancels it, as Starlette's TestClient does, may have stopped taking them."""
ABANDON_SECONDS = 0.1
"""How long a stream waits for a writer that it has abandoned; a server that shields its write takes longer."""

DROPPED = (
    "event stream %r: %d bytes of the request's body came while it waited for the disconnect, and were dropped; "
    "read the body before you return the response, or wrap the application in ServerBridge"
)


class Stream:
    """One open stream. Made and served once by a response; its group and its ticker call it."""

    __slots__ = (
        "_aborted",
        "_cancel_at",
        "_cancel_requests",
        "_client_lost",
        "_commit_at",
        "_connection",
        "_failure",
        "_gone_at",
        "_head",
        "_in_scope",
        "_lifetime_at",
        "_opened_at",
        "_options",
        "_parking",
        "_path",
        "_producing",
        "_receive",
        "_receive_end",
        "_refuse_at",
        "_rest_scope",
        "_run",
        "_scope",
        "_source",
        "_stalled_for",
        "_watch_at",
        "_watcher",
        "_writer",
        "labels",
        "number",
        "reason",
        "server_shutdown",
        "tick_entry",
    )

    def __init__(
        self,
        options: StreamOptions,
        source: StreamSource,
        receive_end: EventReceiveChannel | LiveSource,
        scope: Scope,
        receive: Receive,
        send: Send,
        head: Message,
        coder: Coder | None,
    ) -> None:
        self._options = options
        self._run = run = current_run(options.group)
        self._path = scope.get("path", "")
        self._connection = find_connection(scope, receive, send)
        self._receive = receive
        self._head: Message | None = None if isinstance(receive_end, EventReceiveChannel) else head
        self._receive_end = receive_end
        self._source = source
        self._writer = Writer(
            source,
            send,
            head,
            opening=first_words(options, run.group),
            coder=coder,
            connection=self._connection,
            loop=run.loop,
            owner=self,
        )
        self._parking = run.loop.new_parking()
        self._scope = CancelScope()
        self._cancel_requests = CancelRequests(run.loop)
        self._rest_scope: CancelScope | None = None
        self._watcher: DetachedTask | None = None
        self._producing = self._in_scope = False
        self._client_lost = False
        self._stalled_for: float | None = None
        self._aborted = False
        self._failure: Exception | None = None
        self._watch_at = self._commit_at = self._lifetime_at = math.inf
        self._cancel_at = self._refuse_at = self._gone_at = math.inf
        self._opened_at = 0.0
        self.number = 0
        self.labels = options.labels
        self.server_shutdown = self._connection.shutdown_event()
        self.reason: CloseReason | None = None
        self.tick_entry: Entry | None = None
        source.bind(run.loop, options.sep, self._overflow)

    # --- the life of a stream

    async def serve(self, producers: Producers) -> None:
        """Run the producers and write what they send, until the stream has ended in one way or another.

        ``producers`` is emptied: each is let go of when it has begun, so that a channel that it forgets to close is
        noticed.
        """
        error: BaseException | None = None
        self._run.add(self)
        try:
            self._begin(self._run.loop.current_time(), has_producers=bool(producers))
            try:
                with self._scope:
                    self._in_scope = self.reason is None
                    if self._producing and self._in_scope:
                        if producers[1:] or not self._run.loop.tells_cancellations:
                            await self._run_all(producers)
                        else:
                            await self._run_producer(*producers.pop(), self._cancel_requests)
                    elif self._in_scope:
                        await self._serve_live()
                    self._producing = self._in_scope = False
                    if self.reason is None:
                        self._writer.finish()
                    while self.reason is None:
                        await self._parking.park()
            except BaseException as exc:  # noqa: BLE001 -- raised when what it leaves to be written is written
                error = exc
            error = await self._cancel_requests.settle(error)
            self._producers_ended(error)
            await self._write_rest(error)
            self._raise_own(error)
        finally:
            error = None  # its traceback holds this frame
            reason = self._close()
            try:
                await self._options.call_on_close(reason)
            finally:
                self._run.discard(self, reason)  # the group is empty when that is over, too

    def _begin(self, now: float, *, has_producers: bool) -> None:
        options = self._options
        self._opened_at = now
        self._producing = has_producers
        if options.commit_within is not None:
            self._commit_at = now + options.commit_within
        if options.max_lifetime is not None:
            self._lifetime_at = now + uniform(0.8, 1.0) * options.max_lifetime  # noqa: S311 -- spread, no secret
        if has_producers:
            self._watch_at = now + WATCH_SECONDS
        # What tick() would say, without asking: most streams of a short life have ended before it matters.
        silence = min(options.ping or math.inf, options.send_timeout or math.inf)
        first = min(self._watch_at, self._commit_at, self._lifetime_at, now + silence)
        self._run.ticker.schedule(self, first)
        self._writer.start()

    async def _serve_live(self) -> None:
        # There is nothing to run, so this task itself waits for the disconnect.
        head, self._head = self._head, None  # streams live long
        if isinstance(self._receive_end, LiveSource) and head is not None:
            await self._receive_end.join(head)
        del head
        self._writer.finish()  # as soon as the source is at its end
        await self._watch_disconnect()

    def _producers_ended(self, error: BaseException | None) -> None:
        self._producing = self._in_scope = False
        if error is not None:
            self.end(CloseReason.FAILED if is_failure(error) else CloseReason.CANCELLED)

    async def _run_all(self, producers: Producers) -> None:
        try:
            async with create_task_group() as nursery:
                while producers:
                    nursery.start_soon(self._run_producer, *producers.pop(0))
        except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's own layer
            raise_again(collapse(exc))

    async def _run_producer(
        self, producer: Producer, send_channel: EventSendChannel | None, requests: CancelRequests | None = None
    ) -> None:
        running = producer()
        del producer  # and with it what only its arguments held
        try:
            await running
        except BaseException as exc:
            if is_cancellation(exc) and not await self._is_asked_for(requests):
                raise stray_cancellation("a producer", exc) from exc
            rest = without_own(exc, self._source)
            if rest is None and (self.reason is not None or self._source.refusing):
                cancellation = cancellation_behind(exc)
                if cancellation is None:
                    return  # a send that found its stream ended has not failed
                raise cancellation from None
            if rest is None or rest is exc:
                raise
            raise rest from rest.__cause__
        finally:
            if send_channel is not None:
                send_channel.close()

    async def _is_asked_for(self, requests: CancelRequests | None) -> bool:
        return await is_asked_for(self._run.loop) if requests is None else requests.are_there()

    async def _watch_beside(self) -> None:
        try:
            await self._watch_disconnect()
        except BaseException as exc:
            if not is_cancellation(exc) or await is_asked_for(self._run.loop) or self.reason is not None:
                raise
            self._failure = stray_cancellation("the server's `receive`", exc)
            self.end(CloseReason.FAILED)

    async def _watch_disconnect(self) -> None:
        # Detached where producers have the task: in the server's code only, cancelled when the stream closes.
        dropped = 0
        self._connection.watch_hangup()
        try:
            if self._connection.has_inbox:
                await self._connection.wait_disconnect()
            else:
                while not (message := await self._receive())["type"].endswith("disconnect"):
                    dropped += len(message.get("body", b""))
            self._hear_disconnect()
        except Exception as exc:  # noqa: BLE001 -- raised by serve()
            self._failure = exc
            self.end(CloseReason.FAILED)
        finally:
            if dropped:
                logger.warning(DROPPED, self._path, dropped)

    def _hear_disconnect(self) -> None:
        if not self._writer.final_began:
            self.end(CloseReason.DISCONNECTED)
        elif self._writer.outcome is None and not self._writer.final_sent and self._connection.is_lost is None:
            # Servers also say this of every response that is complete, some of them before the `send` that completes it
            # returns. So it counts only where `send` is still stuck a little later, and only on a server that is not
            # known: the `send` of others ends with its client, and a client that merely takes nothing has to be dropped
            # (C11), not forgotten.
            self._gone_at = self._run.loop.current_time() + ABANDON_SECONDS
            self._run.ticker.schedule(self, self._gone_at)

    async def _write_rest(self, error: BaseException | None) -> None:
        # The producers are gone; what is in the buffer and what comes last is still to be written.
        writer = self._writer
        if writer.outcome is not None:
            return
        ending = ENDINGS[self.reason or CloseReason.COMPLETED]
        try:
            if not self._client_lost:
                self._source.refuse_sends()
                if self._sends_nothing():
                    writer.abandon()
                else:
                    writer.finish(self._last(error), cut_after=self._cut_after())
                with CancelScope(deadline=self._rest_deadline(self.reason)) as self._rest_scope:
                    self._rest_scope.shield = ending.shielded
                    await self._wait_writer()
        except BaseException:
            self.end(CloseReason.CANCELLED)
            if not writer.has_begun:
                writer.abandon()
            with move_on_after(FINAL_SECONDS, shield=True):
                await self._wait_writer()
            if joined(error, self._failure) is None:
                raise  # else that is what is raised, and not lost for this cancellation
        finally:
            if writer.outcome is None:
                self._lose_client(stalled=not self._client_lost)
                with move_on_after(ABANDON_SECONDS, shield=True):
                    await self._wait_writer()

    async def _wait_writer(self) -> None:
        while self._writer.outcome is None:
            await self._parking.park()

    def _raise_own(self, error: BaseException | None) -> None:
        error = joined(error, self._failure, self._writer.error)
        if error is not None:
            raise error if self._writer.has_begun else lone(error)
        if self._stalled_for is not None and not self._aborted and self._options.send_timeout is not None:
            assert self.reason is not None
            raise SendTimeoutError(self._stalled_for, self.reason.value)

    def _close(self) -> CloseReason:
        reason = self.reason = self.reason or CloseReason.COMPLETED
        self._source.close_reason = reason
        self._source.unbind()
        self._receive_end.close()
        self._run.ticker.discard(self)
        if self._watcher is not None:
            self._run.loop.cancel_detached(self._watcher)
            self._watcher = None
        self._connection.stream_closed(reason)
        logger.log(ENDINGS[reason].log_level, "event stream %r ended: %s", self._path, reason.value)
        return reason

    # --- what it says of itself

    @property
    def in_worker(self) -> bool:
        """Whether this process's server leaves SIGTERM to its default action."""
        return self._connection.in_worker

    def has_answered(self) -> bool:
        """Whether its head was sent, if only in part."""
        return self._writer.has_begun

    def statistics(self, now: float) -> StreamStatistics:
        """Return a snapshot, as of `now` of the loop's clock."""
        writer, source = self._writer, self._source
        backlog = source.backlog()
        began, first = writer.write_began, writer.first_event_at
        return StreamStatistics(
            number=self.number,
            path=self._path,
            labels=self.labels,
            topics=backlog.topics,
            age=now - self._opened_at,
            first_event_after=None if first is None else first - self._opened_at,
            written_events=source.received,
            written_bytes=writer.written_bytes,
            buffered_events=backlog.events,
            buffered_bytes=backlog.bytes,
            lag=backlog.lag,
            dropped=source.dropped,
            writing_for=None if began is None else now - began,
            stalls=writer.stalls + writer.is_stalled(),
            close_reason=self.reason,
        )

    def add_to(self, totals: StreamTotals) -> None:
        """Add what it has counted. From any thread."""
        stalled = self._writer.is_stalled()
        totals.written_events += self._source.received
        totals.written_bytes += self._writer.written_bytes
        totals.dropped += self._source.dropped
        totals.stalls += self._writer.stalls + stalled
        totals.stalled += stalled

    # --- the way out

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end for this reason, unless that has begun; a worse one still hastens it."""
        first = self.reason is None
        if first:
            self.reason = reason
            self._source.begin_ending(reason)
        if reason is CloseReason.CANCELLED and self._connection.is_lost is None:
            self._run.ticker.schedule(self, self._run.loop.current_time() + UNTAKEN_SECONDS)
        if ENDINGS[reason].client_lost:
            self._lose_client(stalled=reason is CloseReason.SEND_TIMEOUT)
        if self._rest_scope is not None:
            self._rest_scope.deadline = min(self._rest_scope.deadline, self._rest_deadline(reason))
        grace = self._grace(reason)
        if not grace:
            self._cancel()
        elif first:
            self._cancel_at = self._run.loop.current_time() + grace
            self._run.ticker.schedule(self, self._cancel_at)

    def _grace(self, reason: CloseReason) -> float:
        if not ENDINGS[reason].grace or not self._producing:
            return 0.0
        of_group = self._run.group.shutdown_grace if reason is CloseReason.SHUTDOWN else 0.0
        return max(self._options.grace, of_group)

    def _cancel(self) -> None:
        if not self._in_scope:
            self._parking.unpark()
            return
        self._cancel_requests.note_own()
        self._scope.cancel()
        if self._producing and self._refuse_at == math.inf:
            # One that sends in a shielded scope sees nothing of that, and may go on as long as the client takes it.
            self._refuse_at = self._run.loop.current_time() + FINAL_SECONDS
            self._run.ticker.schedule(self, self._refuse_at)

    def _lose_client(self, *, stalled: bool) -> None:
        # Nothing more can be written: senders get an error, and nobody waits for the writer.
        self._client_lost = True
        if stalled and self._stalled_for is None:
            now, began = self._run.loop.current_time(), self._writer.write_began
            self._stalled_for = now - (now if began is None else began)
        self._receive_end.close()
        self._writer.abandon()
        if self._stalled_for is not None and not self._aborted:
            self._aborted = self._connection.abort()
        if self._rest_scope is not None:
            self._rest_scope.cancel()

    def writer_done(self) -> None:
        """Take note of how the writer has ended."""
        outcome = self._writer.outcome
        if outcome is Outcome.GONE:
            self.end(CloseReason.DISCONNECTED)
        elif outcome is Outcome.FAILED:
            self.end(CloseReason.FAILED)
        elif outcome is Outcome.FINISHED:
            self.reason = self.reason or CloseReason.COMPLETED
            self._cancel()  # the task may be in the server's `receive`, which may have nothing to say about that
        elif self.reason is None:
            self.end(CloseReason.CANCELLED)  # the writer's task was cancelled, and not by the stream
        self._parking.unpark()

    def _overflow(self) -> None:
        self.end(CloseReason.KICKED)

    # --- what is written last

    def _last(self, error: BaseException | None) -> bytes:
        try:
            return last_words(self._options, self._run.group, self.reason, error)
        except Exception as exc:  # noqa: BLE001 -- raised by serve(), when the stream has ended
            self._failure = exc
            return b""

    def _cut_after(self) -> int | None:
        # How many messages have to follow what a failed stream has sent before its connection is cut, where no server
        # does that; None for a final frame, 0 for neither.
        if ENDINGS[self.reason or CloseReason.COMPLETED].final_frame:
            return None
        return count_base_middlewares(self._receive) or (0 if self._connection.tells_failure else 1)

    def _sends_nothing(self) -> bool:
        # Nothing was sent, and whoever waits for this response is to say something else: what its exception stands for,
        # or that the time was up, and then not even what was accepted is worth a head (C13).
        if self._writer.has_begun or self.reason is CloseReason.CANCELLED:
            return not self._writer.has_begun
        return self.reason is CloseReason.FAILED and not (self._source.started or self._source.is_ready())

    def _rest_deadline(self, reason: CloseReason | None) -> float:
        if reason is None or not ENDINGS[reason].bounded:
            return math.inf  # as long as the client takes something within send_timeout
        return self._run.loop.current_time() + FINAL_SECONDS

    # --- time

    def tick(self, now: float) -> float:
        """Do what is due; return when the next thing can be due at the earliest."""
        if self._cancel_at <= now:
            self._cancel_at = math.inf
            self._cancel()
        if self._watch_at <= now:
            self._watch_at = math.inf
            # In the context of the request, as all that calls what the server gave it.
            self._watcher = self._run.loop.spawn_detached(self._watch_beside, context=self._writer.context)
        if self._refuse_at <= now:
            self._refuse_at = math.inf
            self._source.refuse_sends()
        if self._gone_at <= now:
            self._gone_at = math.inf
            if not self._writer.final_sent:
                self.end(CloseReason.DISCONNECTED)
        if self._lifetime_at <= now:
            self._lifetime_at = math.inf
            self.end(CloseReason.LIFETIME)
        if self._commit_at <= now:
            self._commit_at = math.inf
            self._source.started = True
            self._writer.unpark()
        own = min(self._watch_at, self._commit_at, self._lifetime_at, self._cancel_at, self._refuse_at, self._gone_at)
        return min(own, self._tick_write(now), self._tick_ping(now))

    def _tick_write(self, now: float) -> float:
        seconds, began = self._send_timeout(), self._writer.write_began
        if self._client_lost or seconds == math.inf:
            return math.inf
        if began is None:
            return now + seconds  # a write that begins after this can't be late before that
        if began + seconds <= now:
            self.end(CloseReason.SEND_TIMEOUT)
            return math.inf
        return began + seconds

    def _send_timeout(self) -> float:
        seconds = self._options.send_timeout or math.inf
        if self.reason is CloseReason.CANCELLED and self._connection.is_lost is None:
            return min(seconds, UNTAKEN_SECONDS)
        return seconds

    def _tick_ping(self, now: float) -> float:
        seconds, idle_since = self._options.ping, self._writer.idle_since
        if not seconds or seconds == math.inf or self.reason is not None:
            return math.inf
        if idle_since is None or idle_since + seconds > now:
            return _on_grid((now if idle_since is None else idle_since) + seconds, seconds)
        if self._connection.is_lost:  # the server knows, and has told nobody: uvicorn, of all but its newest request
            self.end(CloseReason.DISCONNECTED)
            return math.inf
        try:
            self._writer.ping(ping(self._options))
        except Exception as exc:  # noqa: BLE001 -- the user's factory; raised by serve()
            self._failure = exc
            self.end(CloseReason.FAILED)
        return _on_grid(now + seconds, seconds)


def _on_grid(at: float, seconds: float) -> float:
    # Pings need not be punctual. Those that are due within a fiftieth of their period go out together, and the ticker,
    # whose waking costs more than a ping does, wakes once for all of them.
    grid = 2.0 ** math.floor(math.log2(seconds / 50))
    return math.ceil(at / grid) * grid
