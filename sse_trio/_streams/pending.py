# Pending: what a stream's writer has to write, in order: the opening, batches of events, pings, the last writes.
#
# Rule 1: everything that is buffered is taken at once and written as one message, with no scope, timer or object per
#         event. A ping is written only if there is nothing else to write.
# Rule 2: if the stream is compressed (_compression/coder.py), a batch is encoded when it is taken from the source. So
#         the counters, direct writes and `untaken` have the bytes as they are sent.
# Rule 3: the head is held back until there is something to write, the user says so, or the stream ends.

from __future__ import annotations

from typing import TYPE_CHECKING

from .._wire.batch import Batch
from .last_writes import FINAL_FRAME, LastWrites
from .server_send import MOST_JOINED, OutletShutError

if TYPE_CHECKING:
    from starlette.types import Message

    from .._channels.source import StreamSource
    from .._compression.coder import Coder
    from .server_send import Outlet

__all__ = ("Pending",)


class Pending:
    """What is still to be written of one stream."""

    __slots__ = ("_coder", "_notices", "_ping", "head", "last_writes", "may_write_directly", "source", "untaken")

    def __init__(
        self,
        source: StreamSource,
        head: Message,
        *,
        opening: bytes = b"",
        coder: Coder | None = None,
        may_write_directly: bool = False,
    ) -> None:
        self.source = source
        self.head: Message | None = head
        """The head, until it is sent."""
        self._notices = opening
        self._coder = coder
        self.may_write_directly = may_write_directly
        self.untaken: Batch | None = None
        """A batch that was taken, but not written directly."""
        self._ping = b""
        self.last_writes: LastWrites | None = None
        """What to write when everything else is written, once the stream is ending."""

    @property
    def is_plain(self) -> bool:
        """Whether events may be written one by one, as they come: the head is sent, nothing is compressed or ends."""
        return self.head is None and self._coder is None and self.last_writes is None

    def is_whole(self) -> bool:
        """Return whether all of it is still to be written, the head included, and is little."""
        return self.head is not None and self.source.backlog().bytes <= MOST_JOINED

    def take_head(self) -> Message | None:
        """Return the head, if it wasn't sent and nothing is compressed, and what is written with it is next."""
        head = self.head
        if head is None or self._coder is not None:
            return None
        self.head = None
        if self._notices:
            self.untaken = Batch(self._notices)
        return head

    def take_last(self) -> bytes | None:
        """Take everything that is left, if one message may have it and the final frame; if not, write() is next."""
        noticed, taken = self.untaken, self.source.take_batch()
        body = b"" if taken is None else taken.body
        if noticed is not None:
            body = noticed.body + body
        if self.last_writes is FINAL_FRAME and len(body) <= MOST_JOINED and self.source.at_end():
            self.untaken = None
            return body
        self.untaken = Batch(body) if body else None
        return None

    def add_ping(self, chunk: bytes) -> None:
        """Write this if there is nothing else to write by then."""
        self._ping = chunk

    def end_with(self, notices: bytes, cut_after: int | None) -> None:
        """Write these notices last, and then the final frame, unless the connection is to be cut (last_writes.py)."""
        self.last_writes = LastWrites(notices, cut_after) if notices or cut_after is not None else FINAL_FRAME

    def next_batch(self) -> Batch | None:
        """Return what to write next; None if there is nothing."""
        batch, self.untaken = self.untaken, None
        if batch is not None:
            return batch  # it was encoded when it was taken
        batch = self.source.take_batch()
        ping, self._ping = self._ping, b""
        if batch is None and ping:
            batch = Batch(ping)
        return batch if batch is None or self._coder is None else self._coder.encode(batch)

    def write_nowait(self, outlet: Outlet) -> bool:
        """Write what is there directly, or return False: then write() has to, and begins with what was taken here."""
        source, now = self.source, outlet.current_time()
        if self.head is not None or outlet.idle_since is None or now - outlet.idle_since < source.coalesce_after:
            return False
        batch = self.next_batch()
        is_last = self.last_writes is not None and source.at_end()
        if batch is None or is_last or not outlet.write_nowait(batch, now):
            self.untaken = batch
            return False
        outlet.written_bytes += len(batch.body)
        return True

    async def write(self, outlet: Outlet) -> bool:
        """Write everything that can be written now; return whether that was the last. Not if the outlet is shut."""
        source = self.source
        if outlet.is_shut:  # in the pass of the loop in which the writer was woken
            raise OutletShutError
        if outlet.unfinished is not None:
            await outlet.send_unfinished(outlet.unfinished)
        if outlet.final_began:
            return True
        if self.head is not None:
            if not (source.started or source.is_ready() or self.last_writes is not None):
                return False
            await self._write_head(outlet, self.head)
        while (batch := self.next_batch()) is not None:
            await outlet.write(batch)
        if self.last_writes is None or not source.at_end():
            return False
        await self.last_writes.write(outlet, self._coder)
        return True

    async def _write_head(self, outlet: Outlet, head: Message) -> None:
        self.head = None  # not kept for the life of the stream
        await outlet.send(head)
        taken = self.source.take_batch()
        batch = Batch(self._notices if taken is None else self._notices + taken.body)
        outlet.head_is_sent(goes_on=not self.source.at_end(), direct_writes=self.may_write_directly)
        if self._coder is not None:
            batch = self._coder.encode(batch)
        # An empty message is sent only if the server keeps the head back until the first message. A middleware or a
        # test's in-memory server would take it for the first event.
        if batch.body or outlet.head_needs_body:
            await outlet.write(batch)
