# What a stream of a subscription is made from: the subscriber's state, behind the handle that users have.
#
# Rule 1: register first, then read history, then skip what was seen. The rings hold every event since the subscriber
#         was registered (ring.py, rule 2), so no event is missed and none is sent twice.
# Rule 2: a subscriber holds a cursor, and at most one page of history. What it takes next is decided in reading.py.
#
# SubscriptionSource is large because it implements all of StreamSource (_channels/source.py); each method is short.

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, final

from anyio import BusyResourceError

from .._channels.source import Backlog, LiveSource
from .._channels.waiters import WaitingReceive
from .._loops.current import current_loop
from .._loops.loop import Loop
from .._wire.batch import Batch
from .._wire.event import ServerSentEvent
from ..stores._protocol import EventId, Page, StoredEvent
from ..stores._topics import TopicFilter
from .feed import Feed
from .filtering import EventFilter, Filter
from .history import EndsWith, read_latest
from .position_line import Entry, PositionLine
from .reading import HUB_OVERFLOWS, HubOverflow, Reading
from .state import HubState
from .until import Rewrite, UntilEvent

if TYPE_CHECKING:
    from starlette.types import Message

    from .._channels.waiters import Receiver
    from .._reasons import CloseReason

__all__ = ("HUB_OVERFLOWS", "HubOverflow", "SubscriptionSource")

GAP_HEADER = b"event-stream-gap"


@final
class SubscriptionSource(LiveSource):
    """One subscriber of a hub.

    Args:
        hub: the hub's state.
        topics: whose events.
        start: where it begins: after the event with this id (str), or with this number of the latest events (int), or
            with all that are kept (None).
        overflow, filter, id_blocks, rewrite: as in ``Hub.subscribe()``.
        until: the same, of a stored event.
        ends_at_mark: whether that is no user's function, and finds the end at a mark. It may run wherever a batch is
            taken.
        ends_with: asked whether nothing can follow a page with a gap, or an empty beginning.

    Its class is over 200 lines, and half of them are the methods that a stream asks of any source.
    """

    __slots__ = ("_hub", "_is_plain", "_position", "_reading", "_sep", "_start", "is_closed", "topics", "unread")
    is_closed: bool

    def __init__(
        self,
        hub: HubState,
        topics: TopicFilter,
        start: str | int | None,
        overflow: HubOverflow,
        filter: Filter | None = None,  # noqa: A002 -- its name everywhere
        *,
        until: UntilEvent | None = None,
        ends_at_mark: bool = False,
        ends_with: EndsWith | None = None,
        rewrite: Rewrite | None = None,
        id_blocks: bool = False,
    ) -> None:
        self._hub = hub
        self.topics: TopicFilter = topics
        self._start = start
        event_filter = None if filter is None else EventFilter(filter)
        self._reading = Reading(hub, overflow, event_filter, until, rewrite, id_blocks=id_blocks)
        self._reading.ends_at_mark = ends_at_mark
        self._reading.history.ends_with = ends_with
        self._position = self._reading.position
        self.is_closed = False
        self._sep = "\n"
        self._is_plain = False
        self.unread: deque[ServerSentEvent] | None = None
        """Events that were taken for a receive() and wait for the next one; None unless it is received from."""
        # Otherwise the fan-out combines events: fanout.py, rule 2. No user's function is called inside of it.
        self.coalesce_after: float = 0.0 if self._takes_batches() else math.inf
        self.started: bool = False
        self.refusing: bool = False
        self.received: int = 0
        self.dropped: int = 0
        self.close_reason: CloseReason | None = None

    # --- joining the hub, and leaving it

    def check_unused(self) -> None:
        """Raise RuntimeError if it was entered or closed before."""
        if self._position.feed is not None or self.is_closed:
            msg = "a subscription is used once; call hub.subscribe() for each stream"
            raise RuntimeError(msg)

    async def join(self, head: Message) -> None:
        """Register, and read the first page of history. A gap adds a header to the head."""
        self.check_unused()
        feed = self._hub.enter(self, self.topics)
        self._position.enter(feed)
        self.topics = feed.topics  # one object for all subscribers
        if self._start == 0:
            newest = feed.timeline.position
            self._tell_position(newest)
            self._position.go_live(newest)
            return
        page = await self._read_first_page()
        if page.gap is not None:
            head["headers"].append((GAP_HEADER, _header_value(page.gap.after)))
        ends_with = self._reading.history.ends_with
        may_end = page.gap is not None or not page.events
        is_last = may_end and ends_with is not None and await ends_with(page)
        self._go_on_from(page)
        if is_last:
            self.refuse_sends()

    async def _read_first_page(self) -> Page:
        if self._start is None:
            return await self._hub.read(self.topics, None)
        if isinstance(self._start, str):
            return await self._hub.read(self.topics, EventId.parse(self._start))
        return await read_latest(self._hub, self.topics, self._start, self._reading.filter)

    def _go_on_from(self, page: Page) -> None:
        is_replay = type(self._start) is int
        if is_replay and not page.events:
            self._tell_position(page.next)
        if not self._reading.history.add_page(page):
            self._reading.history.start(page)
        elif is_replay and page.events and self._reading.filter is not None:
            self._tell_position(page.next)  # the client is past what the filter left out after the last event

    def _tell_position(self, last: EventId) -> None:
        # A client that loses its connection before its first event should come back with an id, or it misses what was
        # published meanwhile.
        if self._reading.loop is not None:
            self._reading.history.add(PositionLine(last, is_block=self._reading.id_blocks))

    def close(self) -> None:
        """Let go of everything. Not a checkpoint. Closing twice does nothing."""
        if self.is_closed:
            return
        if self._position.receiver is not None or self._reading.history.is_reading:
            self._hub.check_here()  # a task is to be woken
        self.is_closed = True
        feed = self._position.feed
        self._position.is_live = False  # so that refusing keeps nothing
        self._reading.history.pending = ()
        self.refuse_sends()
        self._position.leave()
        if feed is not None:
            self._hub.leave(self, feed)

    # --- as the hub and its handle see it

    @property
    def overflow(self) -> HubOverflow:
        """What happens when it falls behind."""
        return self._reading.overflow

    @property
    def feed(self) -> Feed | None:
        """The feed that it reads, from its entering to its closing."""
        return self._position.feed

    def lag(self) -> int | None:
        """Return the events that it has yet to take, as ``SubscriptionStatistics`` says."""
        lag = self._position.lag()
        if lag is None:
            return None
        history = sum([isinstance(event, StoredEvent) for event in self._reading.history.pending])
        return len(self.unread or ()) + history + lag

    # --- as its stream sees it

    def is_shared(self, sep: str) -> bool:
        """Whether it takes the rings' own bytes."""
        return sep == "\n" and self._reading.is_plain

    def _takes_batches(self) -> bool:
        # Whether it is sent what others are, up to some event, and no user's function decides that.
        return self._reading.is_plain and (self._reading.until is None or self._reading.ends_at_mark)

    def backlog(self) -> Backlog:
        """Return what there is to take: the page of history that it holds, and its lag."""
        pending = self._reading.history.pending
        size = sum([len(event.encode(self._sep)) for event in pending])
        return Backlog(len(pending), size, self.lag(), self.topics.patterns)

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream."""
        self._sep = sep
        self._is_plain = sep == "\n" and self._takes_batches()
        self._reading.loop = loop
        self._reading.on_overflow = on_overflow if self.overflow == "close" else None

    def unbind(self) -> None:
        """Belong to no stream any more."""
        self._reading.on_overflow = None

    def is_ready(self) -> bool:
        """Whether there is an event to write."""
        return self._reading.is_ready()

    def at_end(self) -> bool:
        """Whether everything was taken and nothing can come."""
        return self.refusing and not self._reading.is_ready()

    def begin_waiting(self, waiting: Receiver) -> None:
        """Wake this receiver when there is an event, or the end."""
        self._position.receiver = waiting

    def end_waiting(self, waiting: Receiver) -> None:
        """Wake it no more."""
        del waiting  # there is one at most
        self._position.receiver = None

    def keep_waiting(self, waiting: Receiver) -> None:
        """Do nothing: a receiver that was woken is woken again, until end_waiting()."""

    def begin_ending(self, reason: CloseReason) -> None:
        """Note why the stream is about to end."""
        self.close_reason = reason

    def refuse_sends(self) -> None:
        """Take in nothing more: the hub is closing, or the stream."""
        self._reading.refuse()
        self._note_what_happened(0)

    # --- taking events

    def take_batch(self) -> Batch | None:
        """Remove all that there is now and return it joined."""
        position = self._position
        feed = position.feed
        if feed is None or not self._is_plain or self._reading.history.pending:
            return self._take_own()
        cursor = position.cursor
        if not position.is_live:
            return None
        # Where nearly every subscriber is nearly always: nothing new, or the batch that the others took too.
        ring = feed.ring or feed.ring_to_share(cursor)
        if ring is None:
            batch = feed.latest_batch(cursor)
        elif cursor >= ring.end:
            return None
        else:
            batch = ring.batch
        if batch is None or not batch.start <= cursor < batch.first:
            return self._join()
        if batch.has_mark and self._reading.until is not None:
            return self._join()
        position.cursor = batch.end
        position.counted += batch.count
        self.received += batch.count
        return batch

    def _join(self) -> Batch | None:
        batch, count = self._reading.join()
        self._note_what_happened(count)
        return batch

    def _take_own(self) -> Batch | None:
        if self._reading.until is None or self._reading.history.pending or not self.is_shared(self._sep):
            body = b"".join([event.encode(self._sep) for event in self.take_events()])
            return Batch(body) if body else None
        return self._join()

    def take_events(self) -> Sequence[Entry]:
        """Remove all that there is now, and return what the filter lets through."""
        taken, count = self._reading.take()
        self._note_what_happened(count)
        return taken

    def _note_what_happened(self, taken: int) -> None:
        self.received += taken
        self.dropped = self._reading.dropped
        self.refusing = self._reading.is_refusing

    # --- received from, without a stream

    async def wait_readable(self) -> None:
        """Wait until there is an event, or the end."""
        if self._position.receiver is not None:
            raise BusyResourceError("receiving from")  # anyio ends the sentence: "another task is already ..."
        self._hub.check_here()
        parking = current_loop().new_parking()
        self._position.receiver = WaitingReceive(self, parking)
        try:
            await parking.park()
        finally:
            self._position.receiver = None


def _header_value(after: EventId) -> bytes:
    # A client may have sent anything as its id, and a header can't carry everything. h11 refuses blanks at the ends
    # (RFC 9112, 5.1: they are not part of the value).
    text = str(after)
    return text.encode() if text.isascii() and text.isprintable() and text == text.strip() else b"?"
