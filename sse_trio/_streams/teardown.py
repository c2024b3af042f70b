# Teardown: the one way for a stream to end.
#
# Rule 1: a stream ends only through end() (C2). It is synchronous, and may be called from anywhere in the loop: by the
#         group, the ticker, the writer, the disconnect, a failing producer. The first reason counts.
# Rule 2: the row of the reason in `ENDINGS` says what follows: grace, a lost client, bounds. Ending cancels the scope
#         of the producers once, level-triggered (C3, producers.py); drain.py writes what is left.
# Rule 3: a client that disconnects is not an error. What is raised is what producers and the server's `send` raised,
#         and SendTimeoutError if only that makes the server drop the connection (C11).
# Rule 4: the stream, its producers, its deadlines and its writer share this object, and it keeps none of their work.

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple, Protocol

from .._errors import SendTimeoutError
from .._failures import joined, lone
from .._reasons import ENDINGS, CloseReason
from .phases import FAILED, FINISHED, GONE
from .writer import Writer

if TYPE_CHECKING:
    from anyio import CancelScope

    from .._channels.receive_channel import EventReceiveChannel
    from .._channels.source import LiveSource, StreamSource
    from .._channels.state import ChannelState
    from .._groups.run import GroupRun
    from .._loops.loop import Parking
    from .options import StreamOptions

__all__ = ("ABANDON_SECONDS", "FINAL_SECONDS", "NO_TIMER", "UNTAKEN_SECONDS", "ProducerScope", "Teardown", "Timer")

FINAL_SECONDS = 1.0
"""How long the last writes may take when the stream is ended from outside, and how long its cancelled producers may go
on sending in a shielded scope. The server is waiting."""
UNTAKEN_SECONDS = 0.1
"""How long one of these writes may take when the stream is cancelled from outside and the server can't say whether the
client is connected. The code that cancels it may have stopped taking messages, as Starlette's TestClient does."""
ABANDON_SECONDS = 0.1
"""How long a stream waits for an abandoned writer to end. A server that shields its write takes longer."""


class Timer(Protocol):
    """The deadlines of the stream."""

    def cancel_at(self, at: float, /) -> None:
        """Cancel the producers then: their grace is over."""

    def refuse_at(self, at: float, /) -> None:
        """Refuse what the producers send from then on."""

    def gone_at(self, at: float, /) -> None:
        """End the stream then: its client is gone."""

    def look_at(self, at: float, /) -> None:
        """Look at everything then."""


class ProducerScope(Protocol):
    """The scope of the user's code, while that runs."""

    has_producers: bool

    def cancel(self) -> None:
        """Cancel it."""


class LostClient(NamedTuple):
    """A client to which nothing more can be written."""

    stalled_for: float | None
    """How long it had taken nothing, in seconds; None for a client that has disconnected."""
    is_dropped: bool
    """Whether its connection was dropped."""


NOT_LOST = LostClient(None, is_dropped=False)


class NoTimer:
    """In place of the deadlines of a stream that has none any more."""

    def cancel_at(self, at: float, /) -> None:
        """Do nothing."""

    def refuse_at(self, at: float, /) -> None:
        """Do nothing."""

    def gone_at(self, at: float, /) -> None:
        """Do nothing."""

    def look_at(self, at: float, /) -> None:
        """Do nothing."""


NO_TIMER = NoTimer()


class Teardown:
    """How far a stream is from its end. The stream makes it, and everything that can end the stream has it."""

    __slots__ = (
        "drain_scope",
        "failure",
        "lost",
        "options",
        "parking",
        "reason",
        "receive_end",
        "run",
        "scope",
        "source",
        "timer",
        "writer",
    )

    def __init__(
        self,
        options: StreamOptions,
        run: GroupRun,
        source: StreamSource,
        receive_end: EventReceiveChannel | ChannelState | LiveSource,
        writer: Writer,
    ) -> None:
        self.options = options
        self.run = run
        self.source = source
        self.receive_end = receive_end
        self.writer = writer
        self.reason: CloseReason | None = None
        self.scope: ProducerScope | None = None
        """There while the user's code may run."""
        self.drain_scope: CancelScope | None = None
        """There since the last writes have begun to wait."""
        self.parking: Parking | None = None
        """There while the stream waits for its writer."""
        self.timer: Timer = NO_TIMER
        """The deadlines, until the stream is closed."""
        self.lost: LostClient | None = None
        self.failure: Exception | None = None

    def end(self, reason: CloseReason, /) -> None:
        """Begin to end for this reason. A second reason does not replace the first, but may shorten the ending."""
        first = self.reason is None
        if first:
            self.reason = reason
            self.source.begin_ending(reason)
        if reason is CloseReason.CANCELLED and self.writer.outlet.connection.is_lost is None:
            self.timer.look_at(self._now() + UNTAKEN_SECONDS)
        if ENDINGS[reason].client_lost:
            self.lose_client(stalled=reason is CloseReason.SEND_TIMEOUT)
        if self.drain_scope is not None:
            self.drain_scope.deadline = min(self.drain_scope.deadline, self.drain_deadline(reason))
        grace = self._grace(reason)
        if not grace:
            self.cancel()
        elif first:
            self.timer.cancel_at(self._now() + grace)

    def fail(self, error: Exception) -> None:
        """End the stream because of this error, which it raises when it has ended."""
        self.failure = error
        self.end(CloseReason.FAILED)

    def kick(self) -> None:
        """End the stream: its client is too far behind."""
        self.end(CloseReason.KICKED)

    def expect_gone(self) -> None:
        """End the stream a little later if its writer is still stuck: the client is gone."""
        self.timer.gone_at(self._now() + ABANDON_SECONDS)

    def cancel(self) -> None:
        """Cancel the producers; if none run any more, wake the stream."""
        scope = self.scope
        if scope is None:
            self.wake()
            return
        scope.cancel()
        if scope.has_producers:
            # A producer that sends in a shielded scope does not notice the cancellation. Its sends are refused later.
            self.timer.refuse_at(self._now() + FINAL_SECONDS)

    def lose_client(self, *, stalled: bool) -> None:
        """Note that nothing more can be written: senders get an error, and nothing waits for the writer any more."""
        stalled_for, is_dropped = self.lost or NOT_LOST
        if stalled and stalled_for is None:
            now, began = self._now(), self.writer.outlet.write_began
            stalled_for = now - (now if began is None else began)
        self.lost = LostClient(stalled_for, is_dropped)
        self.receive_end.close()
        self.writer.abandon()
        if stalled_for is not None and not is_dropped:
            self.lost = LostClient(stalled_for, self.writer.outlet.connection.abort())
        if self.drain_scope is not None:
            self.drain_scope.cancel()

    def writer_done(self) -> None:
        """Handle the end of the writer. The writer calls this once."""
        outcome = self.writer.outcome
        if outcome is FINISHED:
            self.reason = self.reason or CloseReason.COMPLETED
            if self.scope is not None:
                self.cancel()  # the task may be waiting in the server's `receive`, which may not return
        elif outcome is GONE:
            self.end(CloseReason.DISCONNECTED)
        elif outcome is FAILED:
            self.end(CloseReason.FAILED)
        elif self.reason is None:
            self.end(CloseReason.CANCELLED)  # the writer's task was cancelled, but not by the stream
        self.wake()

    def wake(self) -> None:
        """Wake the stream if it waits for its writer."""
        if self.parking is not None:
            self.parking.unpark()

    async def wait_ended(self, *, by_writer: bool) -> None:
        """Wait until the stream has a reason to end, or until its writer has ended."""
        if self.parking is None:
            self.parking = self.run.loop.new_parking()
        while (self.writer.outcome if by_writer else self.reason) is None:
            await self.parking.park()

    def raise_own(self, error: BaseException | None) -> None:
        """Raise what the response has to raise of this error of its producers and of its own."""
        if error is not None or self.failure is not None or self.writer.error is not None:
            error = joined(error, self.failure, self.writer.error)
            assert error is not None
            raise error if self.writer.has_begun else lone(error)
        stalled_for, is_dropped = self.lost or NOT_LOST
        if stalled_for is not None and not is_dropped and self.options.send_timeout is not None:
            assert self.reason is not None
            raise SendTimeoutError(stalled_for, self.reason.value)

    def drain_deadline(self, reason: CloseReason | None) -> float:
        """Return until when the last writes may wait."""
        if reason is None or not ENDINGS[reason].bounded:
            return math.inf  # limited by send_timeout only
        return self._now() + FINAL_SECONDS

    def _grace(self, reason: CloseReason) -> float:
        if not ENDINGS[reason].grace or self.scope is None or not self.scope.has_producers:
            return 0.0
        of_group = self.run.state.shutdown_grace if reason is CloseReason.SHUTDOWN else 0.0
        return max(self.options.grace, of_group)

    def _now(self) -> float:
        return self.run.loop.current_time()
