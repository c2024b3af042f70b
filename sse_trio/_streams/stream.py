# Stream: runs the producers of one stream, waits for its disconnect, and is the only way for it to end.
#
# Rule 1: a stream ends only through end() (C2). It is synchronous, and may be called from anywhere in the loop. The
#         first reason counts.
# Rule 2: user code runs inside the cancel scope of serve() and nowhere else, and has ended when serve() returns (C1). A
#         single producer runs in the task that serves the stream, in the context of its request. Several run in a
#         nursery. (A nursery for one would double the cost of a short stream and the memory of an idle one.) The writer
#         runs outside the scope (writer.py, rule 2), so serve() waits for it only while it makes progress, or for a
#         bounded time. The task that waits for the disconnect in the server's `receive` is outside, too.
# Rule 3: the final frame says that the stream is complete, so it is written only after every producer has returned
#         (C6). A producer that closes its channel and then fails has failed.
# Rule 4: a client that disconnects is not an error. serve() raises the exceptions of producers and of the server's
#         `send`, and SendTimeoutError if only that makes the server drop the connection (C11).

from __future__ import annotations

import logging
import math
from random import uniform
from time import time
from typing import TYPE_CHECKING, TypeAlias

from anyio import CancelScope, create_task_group, move_on_after

from .._channels.ends import EventReceiveChannel, EventSendChannel
from .._channels.source import LiveSource, StreamSource
from .._errors import SendTimeoutError
from .._failures import (
    cancellation_behind,
    collapse,
    is_client_disconnect,
    is_failure,
    joined,
    lone,
    raise_again,
    without_own,
)
from .._groups.group import current_run
from .._groups.statistics import StreamStatistics, StreamTotals
from .._loops.cancellation import CancelRequests, is_asked_for, is_cancellation, stray_cancellation
from .._loops.loop import DetachedTask
from .._loops.ticker import Entry
from .._reasons import ENDINGS, CloseReason
from .._servers.discovery import find_connection
from .._servers.middleware import count_base_middlewares
from .notices import closing_notices, opening_notices, ping
from .options import StreamOptions
from .outlet import Outlet, may_write_directly
from .sources import Producer
from .writer import Outcome, Writer

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from .._compression.coder import Coder

__all__ = ("Producers", "Stream")

Producers: TypeAlias = list[tuple[Producer, EventSendChannel | None]]

logger = logging.getLogger("sse_trio")

WATCH_SECONDS = 0.05
"""Age at which a stream starts the task that waits for the disconnect. For a short stream it would be a tenth of the
cost."""
FINAL_SECONDS = 1.0
"""How long the last writes may take when the stream is ended from outside, and how long its cancelled producers may go
on sending in a shielded scope. The server is waiting."""
UNTAKEN_SECONDS = 0.1
"""How long one of these writes may take when the stream is cancelled from outside and the server can't say whether the
client is connected. The code that cancels it may have stopped taking messages, as Starlette's TestClient does."""
ABANDON_SECONDS = 0.1
"""How long a stream waits for an abandoned writer to end. A server that shields its write takes longer."""

DROPPED = (
    "event stream %r: %d bytes of the request's body arrived while it waited for the disconnect, and were dropped; "
    "read the body before you return the response, or wrap the application in ServerBridge"
)


class Stream:
    """One open stream. A response makes it and serves it once; its group and the ticker call it."""

    __slots__ = (
        "_aborted",
        "_cancel_at",
        "_cancel_requests",
        "_client_lost",
        "_commit_at",
        "_connection",
        "_drain_scope",
        "_failure",
        "_gone_at",
        "_head",
        "_in_scope",
        "_lifetime_at",
        "_opened_at",
        "_options",
        "_outlet",
        "_parking",
        "_path",
        "_producing",
        "_receive",
        "_receive_end",
        "_refuse_at",
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
        self._outlet = Outlet(send, head, source, self._connection, run.loop)
        self._writer = Writer(
            source,
            self._outlet,
            head,
            opening=opening_notices(options, run.state),
            coder=coder,
            direct_writes=may_write_directly(scope),
            loop=run.loop,
            owner=self,
        )
        self._parking = run.loop.new_parking()
        self._scope = CancelScope()
        self._cancel_requests = CancelRequests(run.loop)
        self._drain_scope: CancelScope | None = None
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
        """Run the producers and write what they send, until the stream has ended.

        Empties ``producers``: the stream keeps no reference to a producer that runs, so that Python notices a channel
        that the producer forgets to close.
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
            except BaseException as exc:  # noqa: BLE001 -- raised by _raise_own(), after the last writes
                error = exc
            error = await self._cancel_requests.settle(error)
            self._producers_ended(error)
            await self._drain(error)
            self._raise_own(error)
        finally:
            error = None  # its traceback holds this frame
            reason = self._close()
            try:
                await self._options.call_on_close(reason)
            finally:
                self._run.discard(self, reason)  # after on_close, so that wait_empty() waits for it

    def _begin(self, now: float, *, has_producers: bool) -> None:
        options = self._options
        self._opened_at = now
        self._producing = has_producers
        if options.commit_within is not None:
            self._commit_at = now + options.commit_within
        if options.max_lifetime is not None:
            self._lifetime_at = now + uniform(0.8, 1.0) * options.max_lifetime  # noqa: S311 -- a spread, not a secret
        if options.expires_at is not None:
            self._lifetime_at = min(self._lifetime_at, now + max(0.0, options.expires_at - time()))
        if has_producers:
            self._watch_at = now + WATCH_SECONDS
        # The same as calling tick(), but cheaper. Most short streams end before the first tick.
        silence = min(options.ping or math.inf, options.send_timeout or math.inf)
        first = min(self._watch_at, self._commit_at, self._lifetime_at, now + silence)
        self._run.ticker.schedule(self, first)
        self._writer.start()

    async def _serve_live(self) -> None:
        # There are no producers to run, so this task waits for the disconnect.
        head, self._head = self._head, None  # not kept for the life of the stream
        if isinstance(self._receive_end, LiveSource) and head is not None:
            await self._receive_end.join(head)
        del head
        self._writer.finish()  # when the source has ended
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
        except BaseException as exc:  # noqa: BLE001 -- raised again, without the nursery's group
            raise_again(collapse(exc))

    async def _run_producer(
        self, producer: Producer, send_channel: EventSendChannel | None, requests: CancelRequests | None = None
    ) -> None:
        running = producer()
        del producer  # with everything that only its arguments refer to
        try:
            await running
        except BaseException as exc:
            if is_cancellation(exc) and not await self._is_asked_for(requests):
                raise stray_cancellation("a producer", exc) from exc
            if is_client_disconnect(exc):
                self.end(CloseReason.DISCONNECTED)
            others = without_own(exc, self._source)
            if others is None and (self.reason is not None or self._source.refusing):
                cancellation = cancellation_behind(exc)
                if cancellation is None:
                    return  # a send on a stream that has ended is not a failure
                raise cancellation from None
            if others is None or others is exc:
                raise
            raise others from others.__cause__
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
        # Runs in a detached task if there are producers. Only the server's code runs in it, and _close() cancels it.
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
        if not self._outlet.final_began:
            self.end(CloseReason.DISCONNECTED)
        elif self._writer.outcome is None and self._connection.is_lost is None:
            # Servers also send http.disconnect after a complete response, some before the last `send` has returned. So
            # it counts only if `send` is still stuck a little later, and only on an unknown server: on a known server
            # `send` returns when the client is gone, and a client that only reads nothing must be dropped (C11).
            self._gone_at = self._run.loop.current_time() + ABANDON_SECONDS
            self._run.ticker.schedule(self, self._gone_at)

    async def _drain(self, error: BaseException | None) -> None:
        # The producers have ended. Write the buffered events, the closing notices and the final frame.
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
                with CancelScope(deadline=self._drain_deadline(self.reason)) as self._drain_scope:
                    self._drain_scope.shield = ending.shielded
                    await self._wait_writer()
        except BaseException:
            self.end(CloseReason.CANCELLED)
            if not writer.has_begun:
                writer.abandon()
            with move_on_after(FINAL_SECONDS, shield=True):
                await self._wait_writer()
            if joined(error, self._failure) is None:
                raise  # otherwise _raise_own() raises the error, which must not be lost
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

    # --- what others ask it

    @property
    def in_worker(self) -> bool:
        """Whether the server of this process leaves SIGTERM to its default action."""
        return self._connection.in_worker

    def has_answered(self) -> bool:
        """Whether it has begun to send its head."""
        return self._writer.has_begun

    def statistics(self, now: float) -> StreamStatistics:
        """Return a snapshot. `now` is the time of the loop's clock."""
        outlet, source = self._outlet, self._source
        backlog = source.backlog()
        began, first = outlet.write_began, outlet.first_event_at
        return StreamStatistics(
            number=self.number,
            path=self._path,
            labels=self.labels,
            topics=backlog.topics,
            age=now - self._opened_at,
            first_event_after=None if first is None else first - self._opened_at,
            written_events=source.received,
            written_bytes=outlet.written_bytes,
            buffered_events=backlog.events,
            buffered_bytes=backlog.bytes,
            lag=backlog.lag,
            dropped=source.dropped,
            writing_for=None if began is None else now - began,
            stalls=outlet.stalls + outlet.is_stalled(),
            close_reason=self.reason,
        )

    def add_to(self, totals: StreamTotals) -> None:
        """Add what it has counted to these totals. You may call it from any thread."""
        stalled = self._outlet.is_stalled()
        totals.written_events += self._source.received
        totals.written_bytes += self._outlet.written_bytes
        totals.dropped += self._source.dropped
        totals.stalls += self._outlet.stalls + stalled
        totals.stalled += stalled

    # --- the end

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end for this reason. A second reason does not replace the first, but may shorten the ending."""
        first = self.reason is None
        if first:
            self.reason = reason
            self._source.begin_ending(reason)
        if reason is CloseReason.CANCELLED and self._connection.is_lost is None:
            self._run.ticker.schedule(self, self._run.loop.current_time() + UNTAKEN_SECONDS)
        if ENDINGS[reason].client_lost:
            self._lose_client(stalled=reason is CloseReason.SEND_TIMEOUT)
        if self._drain_scope is not None:
            self._drain_scope.deadline = min(self._drain_scope.deadline, self._drain_deadline(reason))
        grace = self._grace(reason)
        if not grace:
            self._cancel()
        elif first:
            self._cancel_at = self._run.loop.current_time() + grace
            self._run.ticker.schedule(self, self._cancel_at)

    def _grace(self, reason: CloseReason) -> float:
        if not ENDINGS[reason].grace or not self._producing:
            return 0.0
        of_group = self._run.state.shutdown_grace if reason is CloseReason.SHUTDOWN else 0.0
        return max(self._options.grace, of_group)

    def _cancel(self) -> None:
        if not self._in_scope:
            self._parking.unpark()
            return
        self._cancel_requests.note_own()
        self._scope.cancel()
        if self._producing and self._refuse_at == math.inf:
            # A producer that sends in a shielded scope does not notice the cancellation. Its sends are refused later.
            self._refuse_at = self._run.loop.current_time() + FINAL_SECONDS
            self._run.ticker.schedule(self, self._refuse_at)

    def _lose_client(self, *, stalled: bool) -> None:
        # Nothing more can be written. Senders get an error, and the stream stops waiting for the writer.
        self._client_lost = True
        if stalled and self._stalled_for is None:
            now, began = self._run.loop.current_time(), self._outlet.write_began
            self._stalled_for = now - (now if began is None else began)
        self._receive_end.close()
        self._writer.abandon()
        if self._stalled_for is not None and not self._aborted:
            self._aborted = self._connection.abort()
        if self._drain_scope is not None:
            self._drain_scope.cancel()

    def writer_done(self) -> None:
        """Handle the end of the writer. The writer calls this once."""
        outcome = self._writer.outcome
        if outcome is Outcome.GONE:
            self.end(CloseReason.DISCONNECTED)
        elif outcome is Outcome.FAILED:
            self.end(CloseReason.FAILED)
        elif outcome is Outcome.FINISHED:
            self.reason = self.reason or CloseReason.COMPLETED
            self._cancel()  # the task may be waiting in the server's `receive`, which may not return
        elif self.reason is None:
            self.end(CloseReason.CANCELLED)  # the writer's task was cancelled, but not by the stream
        self._parking.unpark()

    def _overflow(self) -> None:
        self.end(CloseReason.KICKED)

    # --- the last writes

    def _last(self, error: BaseException | None) -> bytes:
        try:
            return closing_notices(self._options, self._run.state, self.reason, error)
        except Exception as exc:  # noqa: BLE001 -- raised by serve() when the stream has ended
            self._failure = exc
            return b""

    def _cut_after(self) -> int | None:
        # None: write a final frame. Otherwise the stream has failed, and its connection is cut after this many more
        # messages if the server does not cut it; 0: the server cuts it.
        if ENDINGS[self.reason or CloseReason.COMPLETED].final_frame:
            return None
        return count_base_middlewares(self._receive) or (0 if self._connection.tells_failure else 1)

    def _sends_nothing(self) -> bool:
        # True if no head was sent and none should be, so that the caller can answer with the exception's status (C7).
        # A cancelled stream does not send a head even for events that it has accepted (C13).
        if self._writer.has_begun or self.reason is CloseReason.CANCELLED:
            return not self._writer.has_begun
        return self.reason is CloseReason.FAILED and not (self._source.started or self._source.is_ready())

    def _drain_deadline(self, reason: CloseReason | None) -> float:
        if reason is None or not ENDINGS[reason].bounded:
            return math.inf  # limited by send_timeout only
        return self._run.loop.current_time() + FINAL_SECONDS

    # --- time

    def tick(self, now: float) -> float:
        """Do what is due now; return the earliest time at which something else can be due."""
        if self._cancel_at <= now:
            self._cancel_at = math.inf
            self._cancel()
        if self._watch_at <= now:
            self._watch_at = math.inf
            # Runs in the context of the request, like every call of the server's functions.
            self._watcher = self._run.loop.spawn_detached(self._watch_beside, context=self._writer.context)
        if self._refuse_at <= now:
            self._refuse_at = math.inf
            self._source.refuse_sends()
        if self._gone_at <= now:
            self._gone_at = math.inf
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
        seconds, began = self._send_timeout(), self._outlet.write_began
        if self._client_lost or seconds == math.inf:
            return math.inf
        if began is None:
            return now + seconds  # a write that begins later is due later
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
        seconds, idle_since = self._options.ping, self._outlet.idle_since
        if not seconds or seconds == math.inf or self.reason is not None:
            return math.inf
        if idle_since is None or idle_since + seconds > now:
            return _on_grid((now if idle_since is None else idle_since) + seconds, seconds)
        if self._connection.is_lost:  # uvicorn reports a disconnect to its newest request only
            self.end(CloseReason.DISCONNECTED)
            return math.inf
        try:
            self._writer.ping(ping(self._options))
        except Exception as exc:  # noqa: BLE001 -- of the user's factory; raised by serve()
            self._failure = exc
            self.end(CloseReason.FAILED)
        return _on_grid(now + seconds, seconds)


def _on_grid(at: float, seconds: float) -> float:
    # Pings need not be punctual. Those that are due within a fiftieth of their period are sent together: waking the
    # ticker costs more than a ping, and it wakes once for all of them. A power of two rounds no time down.
    grid = 2.0 ** math.floor(math.log2(seconds / 50))
    return math.ceil(at / grid) * grid
