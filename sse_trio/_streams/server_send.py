# Outlet: what writes to the server: the only caller of its `send` for the messages of an open stream. It times each
# write, counts what was written, and knows whether a body may go to the connection directly (_servers/direct_write.py)
# instead of through `send`. (An answer without a stream, to HEAD for example, is sent by response.py.)
#
# Rule 1: one write at a time (C4); `write_began` is the time of the one in progress, `idle_since` of the end of the
#         last one. The ticker, which watches the time for all streams, reads both.
# Rule 2: an outlet that is shut writes nothing more: the response may have returned.
# Rule 3: while its writer is idle, the channel offers each event here first, and send() costs as little as it does
#         because this is one object that has all it needs.
# Rule 4: bodies are written directly by default where nobody would be bypassed (_servers/nobody_between.py). Behind
#         ServerBridge(express=True) they are wherever the connection allows it.

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .._channels.pacer import SLICE_SECONDS
from .._groups.statistics import STALL_SECONDS
from .._loops.by_hand import Remainder
from .._wire.batch import Batch

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import Message, Send

    from .._channels.buffer import Queued
    from .._channels.source import StreamSource
    from .._channels.waiters import Answer
    from .._groups.run import GroupRun
    from .._servers.connection import Connection

__all__ = ("Outlet", "OutletShutError")

_DENIAL_BODY = "websocket.http.response.body"

MOST_JOINED = 16_384
"""Bytes. A larger body is a message of its own, so that a client that takes none of it still holds the stream, not a
server that has been given everything."""


class OutletShutError(Exception):
    """The outlet was shut before this write."""


class EventWriter(Protocol):
    """The writer of an outlet."""

    def write_at_once(self, body: bytes, /) -> None:
        """Write an event that was taken from the source, at once or in a task."""


class Outlet:
    """The server's `send` for one stream, with direct writes where they are possible.

    It has more than 15 attributes because every write of every stream passes through this one object: divided in two,
    an event that is written directly would cost a tenth more.
    """

    __slots__ = (
        "_holds_back",
        "_known",
        "_loop",
        "_past",
        "_prefix",
        "_send",
        "_source",
        "connection",
        "current_time",
        "direct_writer",
        "final_began",
        "first_event_at",
        "idle_since",
        "is_own",
        "is_shut",
        "stalls",
        "unfinished",
        "write_began",
        "writer",
        "written_bytes",
    )

    def __init__(self, send: Send, head: Message, source: StreamSource, connection: Connection, run: GroupRun) -> None:
        self._loop = loop = run.loop
        self._known = run.servers
        self._send = send
        self._past: Send | None = None  # the `send` for what comes after the head, once it was looked for
        self._source = source
        self._holds_back = False
        self.unfinished: Remainder | None = None
        self._prefix = _DENIAL_BODY if head["type"].startswith("websocket") else "http.response.body"
        self.direct_writer = connection.direct_writer
        self.connection = connection
        self.current_time: Callable[[], float] = loop.current_time
        self.is_own = False
        """Whether bodies go to the server's own `send`, with nobody in between."""
        self.is_shut = False
        self.writer: EventWriter | None = None
        """What writes an event that can't be written directly; None before the first one."""
        self.final_began = False
        self.write_began: float | None = None
        self.idle_since: float | None = None
        self.first_event_at: float | None = None
        self.written_bytes: int = 0
        self.stalls: int = 0

    @property
    def head_needs_body(self) -> bool:
        """Whether the server keeps the head back until a body follows. uvicorn and hypercorn do for a WebSocket's."""
        return self.connection.head_needs_body or self._prefix is _DENIAL_BODY

    def is_stalled(self) -> bool:
        """Whether the write in progress is a stall by now. You may call it from any thread."""
        began = self.write_began
        return began is not None and self.current_time() - began >= STALL_SECONDS

    def end(self) -> None:
        """Note that the writer has ended: what it was writing is no longer in progress."""
        if self.write_began is not None:
            self.stalls += self.is_stalled()
            self.write_began = None
        if self.unfinished is not None:  # its task was not to go on with it
            self.unfinished.close()
            self.unfinished = None
        if self._holds_back:
            self._let_go()
        self.writer = None  # leave no reference cycle

    def leads_to_server(self) -> bool:
        """Find out whether nobody who looks at a body, or at the task that sends it, is between this and the server."""
        if self._past is None:
            self._past = self._known.past_starlette(self._send)
            self.is_own = self.connection.is_own_send(self._past)
        return self.is_own

    def leads_to_joining(self) -> bool:
        """Whether the last body and the final frame may be one message, which saves a system call.

        Only where the server's own `send` takes it: anybody else may tell the end by its empty message.
        """
        return self.connection.joins_final and self.leads_to_server()

    def hold_back(self) -> None:
        """Have what is written until the end leave as one packet, where nobody is between this and the server.

        Two packets less are half of what a short stream costs beyond the server's own work. Anybody in between may wait
        between two messages, and so may a stream that goes on: there the head leaves at once.
        """
        if self.leads_to_server():
            self._holds_back = True
            self.connection.hold_back()

    def _let_go(self) -> None:
        self._holds_back = False
        self.connection.let_go()

    def head_is_sent(self, *, goes_on: bool, direct_writes: bool) -> None:
        """Take the shortest way for what comes after the head; where nobody would be bypassed, write directly.

        Args:
            goes_on: whether more may follow than what there is. If not, looking for the way costs more than it saves,
                unless the server's `send` yields.
            direct_writes: whether the response may be made of chunks.
        """
        if goes_on and self._holds_back:
            self._let_go()
        pays = goes_on or self.connection.send_yields
        if not pays and self._past is None:
            return
        is_own, connection = self.leads_to_server(), self.connection
        assert self._past is not None  # leads_to_server() has found it
        self._send = self._past
        if is_own and pays and direct_writes and connection.direct_writer is None:
            connection.direct_writer = self.direct_writer = writer = connection.new_direct_writer(self._send)
            if writer is not None:
                self._send = writer.send
                writer.begin()

    # --- writing

    def write_event(self, event: Queued, sep: str) -> Answer:
        """Write the event in the send() that brings it, if that needs no waiting (``IdleWriter``)."""
        now, idle_since = self.current_time(), self.idle_since
        if idle_since is None or now - idle_since < SLICE_SECONDS or (turn := self._loop.turn(now)) == "elsewhere":
            return "queue"
        if turn == "over":
            return "yield"
        body = f"data: {event}{sep}{sep}".encode() if type(event) is str else event.encode(sep)
        self._source.received += 1
        direct_writer = self.direct_writer
        if direct_writer is not None and direct_writer.try_event(body):
            self.idle_since = now
            self.written_bytes += len(body)
            if self.first_event_at is None:
                self.first_event_at = now
        else:
            assert self.writer is not None  # its writer offered it to the channel
            self.writer.write_at_once(body)
        return "written"

    async def send(self, message: Message) -> None:
        """Give one message to the server."""
        if self.is_shut:  # a server that shields its write from cancellation returns as if nothing had happened
            raise OutletShutError
        self.idle_since = None
        self.write_began = began = self.current_time()
        if self.first_event_at is None and self._source.received:
            self.first_event_at = began
        await self._send(message)
        if self.connection.send_is_unbounded:
            await self.connection.wait_flushed()
        self.write_began = None
        self.idle_since = now = self.current_time()
        if now - began >= STALL_SECONDS:
            self.stalls += 1

    def send_now(self, message: Message) -> bool:
        """Give one message to the server, and return whether that needed no waiting. If not, send_unfinished() is next.

        Only where leads_to_server(): its `send` is stepped by hand (``_loops/by_hand.py``).
        """
        self.idle_since = None
        self.write_began = now = self.current_time()
        coroutine: Any = self._send(message)  # of an `async def`
        try:
            waits_for: object = coroutine.send(None)
        except StopIteration:
            self.write_began = None
            self.idle_since = now
            return True
        self.unfinished = Remainder(coroutine, waits_for)
        return False

    async def send_unfinished(self, unfinished: Remainder) -> None:
        """Finish what send_now() could not."""
        self.unfinished = None
        await unfinished
        self.stalls += self.is_stalled()
        self.write_began = None
        self.idle_since = self.current_time()

    async def write(self, batch: Batch) -> None:
        """Write a batch: directly, or as a message. It must not be one that write_nowait() has written."""
        self.written_bytes += len(batch.body)
        if self.is_shut:
            raise OutletShutError
        if self.direct_writer is None or not self.write_nowait(batch, self.current_time()):
            await self.send({"type": self._prefix, "body": batch.body, "more_body": True})

    async def send_body(self, body: bytes) -> None:
        """Give one body to the server."""
        await self.send({"type": self._prefix, "body": body, "more_body": True})

    def write_nowait(self, batch: Batch, now: float) -> bool:
        """Write the batch directly, or return False: then exactly this batch must be written next. Never raises."""
        # Offered even where nothing can be written: direct writes begin when a batch that was refused was sent.
        if self.direct_writer is None or not self.direct_writer.try_write(batch):
            return False
        self.idle_since = now
        if self.first_event_at is None and self._source.received:
            self.first_event_at = now
        return True

    async def write_final(self) -> None:
        """Write the final frame. Then everything has to be flushed."""
        self.final_began = True
        self.idle_since = None
        self.write_began = self.current_time()
        await self.connection.before_final()
        await self.send({"type": self._prefix, "body": b"", "more_body": False})

    def final_now(self, last: bytes) -> bool:
        """Write the last body and the final frame without waiting, where leads_to_joining(); as send_now()."""
        assert self._past is not None  # leads_to_server() has found it
        self.final_began = True
        self.written_bytes += len(last)
        self._send = self._past
        self.first_event_at = self.current_time() if self._source.received else None
        return self.send_now({"type": self._prefix, "body": last, "more_body": False})

    async def flush(self) -> None:
        """Wait until the connection has taken everything, if it hasn't by now; it counts as a write."""
        # On asyncio the server's `send` returns with bytes left in the transport, and closing the transport waits for
        # them without a bound. A client that reads nothing would hold the connection and the server's shutdown.
        if not self.connection.is_flushed:
            self.write_began = self.current_time()
            await self.connection.wait_flushed()
