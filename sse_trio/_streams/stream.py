# Stream: the life of one stream, from its opening to its end, in the order in which things happen.
#
#   producers.py     runs the user's code
#   writer.py        writes what it sends
#   deadlines.py     what is due when: pings, time-outs, the wait for the disconnect
#   teardown.py      the only way for it to end
#   drain.py         the last writes
#
# Rule 1: user code runs inside the cancel scope of serve() and nowhere else, and has ended when serve() returns (C1).
#         The writer runs outside of it (writer.py, rule 1), so serve() waits for it only while it makes progress, or
#         for a bounded time. The task that waits for the disconnect is outside, too.
# Rule 2: what only a stream needs that waits is done in the next pass of the loop (_stay): its deadlines, the watch for
#         signals and a shutdown, the writer's task. Most of what is left of a short stream is making its objects.
# Rule 3: nothing of a stream refers to another in a circle once it has ended.

from __future__ import annotations

import logging
from time import time
from typing import TYPE_CHECKING

from .._channels.source import LiveSource, StreamSource
from .._channels.state import ChannelState
from .._failures import is_failure
from .._groups.group import current_run
from .._reasons import ENDINGS, CloseReason
from .deadlines import Deadlines
from .disconnect import watch_disconnect
from .drain import drain
from .head import opening_notices
from .pending import Pending
from .producers import Producing, run_all, run_producer
from .server_send import Outlet
from .snapshot import snapshot
from .teardown import Teardown
from .writer import Writer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import Message, Receive, Scope, Send

    from .._channels.receive_channel import EventReceiveChannel
    from .._compression.coder import Coder
    from .._groups.statistics import StreamStatistics, StreamTotals
    from .options import StreamOptions
    from .producers import Producers

__all__ = ("Stream",)

logger = logging.getLogger("sse_trio")


class Stream:
    """One open stream. A response makes it and serves it once; its group calls it."""

    __slots__ = (
        "_connection",
        "_deadlines",
        "_has_stayed",
        "_head",
        "_opened_at",
        "_options",
        "_path",
        "_receive",
        "_run",
        "_source",
        "_teardown",
        "_writer",
        "number",
        "server_shutdown",
    )

    def __init__(
        self,
        options: StreamOptions,
        source: StreamSource,
        receive_end: EventReceiveChannel | ChannelState | LiveSource,
        scope: Scope,
        receive: Receive,
        send: Send,
        head: Message,
        coder: Coder | None,
    ) -> None:
        self._options = options
        self._run = run = current_run(options.group)
        self._path: str = scope.get("path", "")
        self._receive = receive
        self._connection = connection = run.servers.connection_of(scope, receive, send)
        self._source = source
        self._head: Message | None = None if type(source) is ChannelState else head  # isinstance() asks an ABC
        pending = Pending(
            source,
            head,
            opening=opening_notices(options, run.state),
            coder=coder,
            may_write_directly=scope["type"] == "http" and scope.get("http_version") == "1.1",
        )
        self._writer = Writer(pending, Outlet(send, head, source, connection, run), run.loop)
        self._teardown = teardown = Teardown(options, run, source, receive_end, self._writer)
        self._writer.own_by(teardown)
        self._deadlines = teardown.timer = Deadlines(teardown, receive, self._path)
        self._opened_at = 0.0
        self._has_stayed = False
        self.number = 0
        self.server_shutdown = run.servers.shutdown_of(connection)
        source.bind(run.loop, options.sep, teardown.kick)

    # --- its life

    async def serve(self, producers: Producers) -> CloseReason:
        """Run the producers and write what they send, until the stream has ended; return why it has.

        Empties ``producers``: the stream keeps no reference to a producer that runs, so that Python notices a channel
        that the producer forgets to close.
        """
        error: BaseException | None = None
        self._run.add(self)
        try:
            self._open(has_producers=bool(producers))
            error = await self._produce(producers)
            if self._writer.outcome is None:
                await drain(self._teardown, self._receive, error)
            self._teardown.raise_own(error)
        finally:
            error = None  # its traceback holds this frame
            reason = self._close()
            try:
                if self._options.on_close is not None:
                    self._run.watch_over(self)  # it may take a while
                    await self._options.call_on_close(reason)
            finally:
                self._run.discard(self, reason)  # after on_close, so that wait_empty() waits for it
        return reason

    def _open(self, *, has_producers: bool) -> None:
        self._opened_at = self._writer.outlet.current_time()
        if not self._source.needs_receiver and has_producers:
            self._run.loop.call_next(self._outlast)
        else:
            self._stay(has_producers=has_producers)

    def _outlast(self) -> None:
        # Called in the pass after that in which it began. One that has written everything goes on in _complete().
        if self._writer.outcome is None and not self._writer.is_flushing:
            self._stay()

    def _stay(self, *, has_producers: bool = True) -> None:
        if not self._has_stayed:
            self._has_stayed = True
            self._run.watch_over(self)
            self._deadlines.begin(self._opened_at, has_producers=has_producers)
            self._writer.start()

    async def _produce(self, producers: Producers) -> BaseException | None:
        # Returns the error with which the producers have ended.
        teardown, error = self._teardown, None
        producing = Producing(self._run.loop, has_producers=bool(producers))
        try:
            with producing.cancel_scope:
                if teardown.reason is None:
                    teardown.scope = producing
                    if not producers:
                        await self._serve_live()
                    elif producers[1:] or not self._run.loop.tells_cancellations:
                        await run_all(teardown, producers)
                    else:
                        await run_producer(teardown, *producers.pop(), producing)
            teardown.scope = None
            if teardown.reason is None:
                await self._complete()
        except BaseException as exc:  # noqa: BLE001 -- raised by Teardown.raise_own(), after the last writes
            error = exc
        teardown.scope = None
        if error is not None or not producing.are_none():
            error = await producing.settle(error)
        if error is not None:
            teardown.end(CloseReason.FAILED if is_failure(error) else CloseReason.CANCELLED)
        try:
            return error
        finally:
            del error  # its traceback holds this frame

    async def _serve_live(self) -> None:
        # There are no producers to run, so this task waits for the disconnect.
        head, self._head = self._head, None  # not kept for the life of the stream
        end = self._teardown.receive_end
        if isinstance(end, LiveSource) and head is not None:
            await end.join(head)
        del head
        self._writer.finish()  # when the source has ended
        await watch_disconnect(self._teardown, self._receive, self._path)

    async def _complete(self) -> None:
        if self._options.expires_at is not None and self._options.expires_at <= time():
            self._teardown.end(CloseReason.LIFETIME)  # before its deadlines have noticed it
            return
        writer = self._writer
        writer.finish_at_once()
        if writer.is_flushing:
            try:
                await self._run.loop.next_pass()
            finally:
                writer.flush_now()
                if writer.outcome is None:
                    self._stay()
        if self._teardown.reason is None:
            await self._teardown.wait_ended(by_writer=False)

    def _close(self) -> CloseReason:
        teardown = self._teardown
        reason = teardown.reason = teardown.reason or CloseReason.COMPLETED
        self._source.close_reason = reason
        self._source.unbind()
        teardown.receive_end.close()
        self._deadlines.close()
        self._connection.stream_closed(reason)
        level = ENDINGS[reason].log_level
        if logger.isEnabledFor(level):
            logger.log(level, "event stream %r ended: %s", self._path, reason.value)
        return reason

    # --- what others ask it

    @property
    def labels(self) -> Mapping[str, str]:
        """The ``labels`` of the response."""
        return self._options.labels

    @property
    def in_worker(self) -> bool:
        """Whether the server of this process leaves SIGTERM to its default action."""
        return self._connection.in_worker

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end for this reason (C2)."""
        self._teardown.end(reason)

    def has_answered(self) -> bool:
        """Whether it has begun to send its head."""
        return self._writer.has_begun

    def statistics(self, now: float) -> StreamStatistics:
        """Return a snapshot. `now` is the time of the loop's clock."""
        return snapshot(self._teardown, number=self.number, path=self._path, opened_at=self._opened_at, now=now)

    def add_to(self, totals: StreamTotals) -> None:
        """Add what it has counted to these totals. You may call it from any thread."""
        outlet = self._writer.outlet
        stalled = outlet.is_stalled()
        totals.written_events += self._source.received
        totals.written_bytes += outlet.written_bytes
        totals.dropped += self._source.dropped
        totals.stalls += outlet.stalls + stalled
        totals.stalled += stalled
