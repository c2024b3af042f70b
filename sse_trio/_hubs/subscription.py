# A subscription: one subscriber's place in a hub, as something that a stream is made from, or that is received from.
#
# Rule 1: register live first, then read history, then drop what was seen: an event is never missed and never doubled,
#         because the ring holds everything since the subscription was entered (_hubs/feed.py, rule 2).
# Rule 2: it holds a cursor, and at most one page of history. Who falls so far behind that the ring has let go of its
#         place goes on from the store by id, as at the start ("resume"), or pays for it in another way that it chose.
# Rule 3: a gap is what the store says it is, when it says it, once.

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, final, get_args

from anyio import BusyResourceError, CancelScope, ClosedResourceError, EndOfStream

from .._channels.source import Backlog, LiveSource
from .._channels.waiters import WaitingReceive
from .._loops.current import current_loop
from .._loops.loop import Loop
from .._wire.batch import Batch
from .._wire.event import ServerSentEvent
from ..stores._protocol import EventId, Gap, Page, StoredEvent
from ..stores._topics import TopicFilter
from .feed import Feed
from .filtering import EventFilter, Filter

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.types import Message
    from typing_extensions import Self

    from .._channels.waiters import Receiver
    from .._reasons import CloseReason

__all__ = (
    "HUB_OVERFLOWS",
    "MAX_REPLAY",
    "Filter",
    "HubOverflow",
    "SubscribedHub",
    "Subscription",
    "SubscriptionStatistics",
)

HubOverflow: TypeAlias = Literal["resume", "drop_oldest", "close"]
HUB_OVERFLOWS: tuple[HubOverflow, ...] = get_args(HubOverflow)

MAX_REPLAY = 1000
"""Events that a subscriber without an id may be sent first, and that its filter may look at for that: they are read,
and held, at once."""
GAP_HEADER = b"event-stream-gap"


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionStatistics:
    """A snapshot of a subscription."""

    topics: tuple[str, ...]
    """Its topics and patterns, sorted, without those that another pattern covers."""
    overflow: HubOverflow
    """What happens to it when it falls behind the ring."""
    lag: int | None
    """Events of its topics that it has yet to take, before its filter; None while it reads history from the store,
    which alone knows how many there are, and before and after it is in the hub."""


class SubscribedHub(Protocol):
    """What a subscription asks of its hub."""

    dropped: int
    resumes: int
    gaps: int

    def check_here(self) -> None:
        """Raise RuntimeError where this is called from outside of the hub's event loop."""
        ...

    def enter(self, subscription: Subscription, topics: TopicFilter) -> Feed:
        """Return the feed of these topics, which from now on holds every event."""
        ...

    def leave(self, subscription: Subscription, topics: TopicFilter, feed: Feed) -> None:
        """Undo one enter()."""

    async def read(self, topics: TopicFilter, after: EventId | Page) -> Page:
        """Read the store. What it raises, this raises."""
        ...

    async def read_patiently(self, topics: TopicFilter, after: EventId | Page) -> Page:
        """Read the store, again and again while it is down."""
        ...

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """Read the newest events of the store."""
        ...

    def start_reading(self, subscription: Subscription, after: EventId | Page) -> None:
        """Have `subscription.read_on(after)` run in the hub's nursery."""


@final
class Subscription(LiveSource):
    """Events of some topics of a hub. Made by ``Hub.subscribe()``.

    The source of a response: ``EventSourceResponse(hub.subscribe("prices"))``. Or by itself::

        async with hub.subscribe("prices") as subscription:
            async for event in subscription:
                ...

    It is used once. Entering it reads history, and raises what the store raises.
    """

    __slots__ = (
        "_after",
        "_closed",
        "_feed",
        "_filter",
        "_hub",
        "_is_plain",
        "_last",
        "_live",
        "_loop",
        "_on_overflow",
        "_overflow",
        "_pending",
        "_reader_waits",
        "_reading",
        "_replay",
        "_sep",
        "_skip_to",
        "_topics",
        "_unread",
        "cursor",
        "receiver",
    )

    def __init__(
        self,
        hub: SubscribedHub,
        topics: TopicFilter,
        *,
        after: str | None,
        replay: int,
        overflow: HubOverflow,
        keep: Filter | None,
    ) -> None:
        self._hub = hub
        self._topics = topics
        self._after = after
        self._replay = replay
        self._overflow: HubOverflow = overflow
        self._filter: EventFilter | None = None if keep is None else EventFilter(keep)
        self._feed: Feed | None = None
        self.cursor: int = 0
        self._skip_to = -1
        self._last = EventId("", -1)
        self._live = self._closed = False
        self._pending: Sequence[StoredEvent | ServerSentEvent] = ()  # mostly, and that one is at hand
        self._unread: deque[ServerSentEvent] | None = None
        self.receiver: Receiver | None = None
        self._reader_waits: Callable[[], None] | None = None
        self._reading: CancelScope | None = None
        self._loop: Loop | None = None
        self._sep = "\n"
        self._is_plain = False
        self._on_overflow: Callable[[], None] | None = None
        self.coalesce_after: float = 0.0 if keep is None else math.inf  # the hub gathers: _hubs/hub.py, rule 3
        self.started: bool = False
        self.refusing: bool = False
        self.received: int = 0
        self.dropped: int = 0
        self.close_reason: CloseReason | None = None

    # --- getting into position, and back into it

    def check_unused(self) -> None:
        """Raise RuntimeError where it was entered before: it stays with whoever did."""
        if self._feed is not None or self._closed:
            msg = "a subscription is used once; call hub.subscribe() for each stream"
            raise RuntimeError(msg)

    async def join(self, head: Message) -> None:
        """Register, and read the first page of history: what it has to say of a gap is a header too."""
        self.check_unused()
        self._feed = feed = self._hub.enter(self, self._topics)
        self._topics = feed.topics  # one for all who have the same
        if self.receiver is not None:
            feed.waiting[self] = None
        if self._after is not None:
            page = await self._hub.read(self._topics, EventId.parse(self._after))
        elif self._replay:
            page = await self._read_latest(self._replay)
        else:
            self._tell_place(feed.last)
            self._go_live(feed.last)
            return
        if page.gap is not None:
            head["headers"].append((GAP_HEADER, _latin1(page.gap.after)))
        elif not page.events and self._after is None:
            self._tell_place(page.next)
        if not self._take_page(page) and not self.refusing:
            self._hub.start_reading(self, page)
        elif self._filter is not None and page.events and self._after is None:
            self._tell_place(page.next)  # what the filter left out after the last of them is behind the client too

    async def _read_latest(self, wanted: int) -> Page:
        # The latest that the filter lets through, if they are among the latest that may be read at once.
        count = wanted
        while True:
            page = await self._hub.read_last(self._topics, count)
            if self._filter is None:
                return page
            events = await self._filter.select_in_slices(page.events)
            if len(events) >= wanted or len(page.events) < count or count == MAX_REPLAY:
                return page._replace(events=tuple(events[-wanted:]))
            count = min(4 * count, MAX_REPLAY)

    def _tell_place(self, last: EventId) -> None:
        # A client that is cut off before its first event has to come back with an id, or it misses what was published
        # meanwhile and nobody knows. A block without data is an id, and no event: WHATWG HTML 9.2.6, "dispatch".
        if self._loop is not None:
            self._pending = [*self._pending, ServerSentEvent(id=str(last))]

    async def read_on(self, after: EventId | Page) -> None:
        """Read page by page until the ring goes on from there. Runs in the hub's nursery."""
        feed = self._feed
        if feed is None or self.refusing:
            return  # left before this began
        with CancelScope() as self._reading:
            while True:
                while self._pending:
                    await self._wait_taken()
                epoch = feed.floor.epoch
                page = await self._hub.read_patiently(self._topics, after)
                if self._take_page(page):
                    return
                after = page
                if page.next == page.tip and page.next.epoch != epoch == feed.floor.epoch:
                    await feed.wait_called()  # the store has begun a new history, of which the hub will learn

    def _take_page(self, page: Page) -> bool:
        # Whether that was all that is not in the ring.
        if page.gap is not None:
            self._hub.gaps += 1
            self._pending = [*self._pending, _gap_event(page.gap, page)]
        if page.events:
            self._pending = [*self._pending, *page.events]
        feed = self._feed
        complete = feed is not None and feed.goes_on_from(page.next)
        if complete:
            self._go_live(page.next)
        self._call()
        return complete

    def _go_live(self, last: EventId) -> None:
        assert self._feed is not None
        self._last = last
        self._skip_to = last.sequence
        self.cursor = self._feed.cursor_after(last.sequence)
        self._live = True

    async def _wait_taken(self) -> None:
        parking = current_loop().new_parking()
        self._reader_waits = parking.unpark
        try:
            await parking.park()
        finally:
            self._reader_waits = None

    def _fell_behind(self, feed: Feed) -> bool:
        # Whether it can go on at the oldest event of the ring.
        overflow = "resume" if feed.was_reset(self.cursor) else self._overflow
        if overflow == "drop_oldest":
            lost = feed.oldest_cursor() - self.cursor
            self._hub.dropped += lost
            self.dropped += lost
            self.cursor += lost
            self._skip_to = -1
            return True
        self._live = False
        if self.refusing:
            pass  # it ends here
        elif overflow == "resume":
            self._hub.resumes += 1
            self._hub.start_reading(self, self._last)
        elif self._on_overflow is not None:
            self._on_overflow()  # it ends the stream, and that has last words of its own
        else:
            self.refuse_sends()
        return False

    def statistics(self) -> SubscriptionStatistics:
        """Return a snapshot of the subscription. Not a checkpoint."""
        return SubscriptionStatistics(topics=self._topics.patterns, overflow=self._overflow, lag=self.lag())

    @property
    def feed(self) -> Feed | None:
        """The feed that it reads along in, between its entering and its closing. Internal."""
        return self._feed

    def is_shared(self, sep: str) -> bool:
        """Whether it takes the feed's own bytes. Internal."""
        return sep == "\n" and self._filter is None

    def lag(self) -> int | None:
        """Return the events that it has yet to take. Internal: ``statistics()`` says it."""
        feed = self._feed
        if feed is None or not self._live or feed.was_reset(self.cursor):
            return None
        cursor = self.cursor
        seen_to = feed.cursor_after(self._skip_to)
        if seen_to > feed.oldest_cursor():  # else nothing that it has seen is in the ring
            cursor = max(cursor, seen_to)
        history = sum([isinstance(event, StoredEvent) for event in self._pending])
        return len(self._unread or ()) + history + feed.end - cursor

    def backlog(self) -> Backlog:
        """Return what there is to take: the page of history that it holds, and its lag."""
        pending = sum([len(event.encode(self._sep)) for event in self._pending])
        return Backlog(len(self._pending), pending, self.lag(), self._topics.patterns)

    # --- as a source

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream."""
        self._loop = loop
        self._sep = sep
        self._is_plain = self.is_shared(sep)
        self._on_overflow = on_overflow if self._overflow == "close" else None

    def unbind(self) -> None:
        """Belong to no stream any more."""
        self._on_overflow = None

    def is_ready(self) -> bool:
        """Whether there is an event to write."""
        return bool(self._pending) or (self._live and self._feed is not None and self.cursor < self._feed.end)

    def take_batch(self) -> Batch | None:
        """Remove all that there is now and return it joined."""
        feed = self._feed
        cursor = self.cursor
        if feed is not None and self._live and not self._pending:
            # Where nearly every subscriber is nearly always: nothing new, or the batch that the others took too.
            if cursor == feed.end:
                return None
            batch = feed.batch
            if batch is not None and cursor == batch.start and self._is_plain and self._skip_to < 0:
                self.cursor = feed.end
                self._last = feed.last
                self.received += feed.end - cursor
                return batch
        return self._take_own(feed)

    def _take_own(self, feed: Feed | None) -> Batch | None:
        if feed is None or self._pending or not self._is_plain:
            body = b"".join([event.encode(self._sep) for event in self._take_events()])
            return Batch(body) if body else None
        if not self._place(feed):
            return None
        cursor, self.cursor = self.cursor, feed.end
        self._last = feed.last
        self.received += self.cursor - cursor
        return feed.join(cursor)

    def _take_events(self) -> Sequence[StoredEvent | ServerSentEvent]:
        taken = self._take_wanted()
        while not taken and self.is_ready():  # nobody else would look for what is behind what nobody wanted
            taken = self._take_wanted()
        self.received += sum([isinstance(event, StoredEvent) for event in taken])
        return taken

    def _take_wanted(self) -> Sequence[StoredEvent | ServerSentEvent]:
        taken = self._take_unfiltered()
        return taken if self._filter is None else self._select(self._filter, taken)

    def _select(
        self, event_filter: EventFilter, taken: Sequence[StoredEvent | ServerSentEvent]
    ) -> Sequence[StoredEvent | ServerSentEvent]:
        try:
            selected = event_filter.select(taken)
        except BaseException:
            self._pending = [*taken, *self._pending]  # nothing was taken; and a stream that fails takes nothing more
            raise
        if self._loop is not None:
            position = event_filter.position_to_tell(self._loop.current_time())
            if position is not None:
                selected.append(ServerSentEvent(id=str(position)))
        return selected

    def _take_unfiltered(self) -> Sequence[StoredEvent | ServerSentEvent]:
        if self._pending:
            taken, self._pending = self._pending, ()
            if self._reader_waits is not None:
                self._reader_waits()
            return taken
        feed = self._feed
        if feed is None or not self._place(feed):
            return []
        cursor, self.cursor = self.cursor, feed.end
        self._last = feed.last
        return [*feed.events(cursor)]

    def _place(self, feed: Feed) -> bool:
        # Put the cursor where there is an event to take; False when there is none, or not here.
        if not self._live or self.cursor == feed.end:
            return False
        if feed.has_lost(self.cursor) and not self._fell_behind(feed):
            return False
        if self._skip_to >= 0 and self.cursor < feed.end:
            if feed.sequence_at(self.cursor) <= self._skip_to:
                self.cursor = feed.cursor_after(self._skip_to)  # it was read from the store already
            else:
                self._skip_to = -1
        return self.cursor < feed.end

    def at_end(self) -> bool:
        """Whether everything was taken and nothing can come."""
        return self.refusing and not self.is_ready()

    def begin_waiting(self, waiting: Receiver) -> None:
        """Call this receiver when there is an event, or the end."""
        if self.receiver is waiting:
            return
        self.receiver = waiting
        if self._feed is not None:
            self._feed.waiting[self] = None

    def end_waiting(self, waiting: Receiver) -> None:
        """Call it no more."""
        del waiting  # there is one at most
        self.receiver = None
        if self._feed is not None:
            self._feed.waiting.pop(self, None)

    def keep_waiting(self, waiting: Receiver) -> None:
        """It waits still: who has been called leaves the feed by himself."""

    def _call(self) -> None:
        if self.receiver is not None:
            self.receiver.unpark()

    def begin_ending(self, reason: CloseReason) -> None:
        """The stream is about to end."""
        self.close_reason = reason

    def refuse_sends(self) -> None:
        """Take in nothing more: the hub is closing, or the stream."""
        self.refusing = True
        if self._live and self._feed is not None and self._place(self._feed):
            self._pending = [*self._pending, *self._feed.events(self.cursor)]
        self._live = False
        if self._reading is not None:
            self._reading.cancel()
        self._call()

    def close(self) -> None:
        """Let go of everything. Not a checkpoint. Closing twice does nothing."""
        if self._closed:
            return
        if self.receiver is not None or self._reading is not None:
            self._hub.check_here()  # somebody is to be woken
        self._closed = True
        self.refusing = True
        self._live = False
        self._pending = ()
        self.refuse_sends()
        feed, self._feed = self._feed, None
        if feed is not None:
            if self.receiver is not None:
                feed.waiting.pop(self, None)
            self._hub.leave(self, self._topics, feed)

    # --- by itself

    async def __aenter__(self) -> Self:
        self.check_unused()
        try:
            await self.join({"headers": []})
        except BaseException:
            self.close()
            raise
        self._unread = deque()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    async def receive(self) -> ServerSentEvent:
        """Return the next event, with its id, waiting while there is none.

        A checkpoint only when it waits. Cancellation: atomic. When it raises, no event was taken.

        Raises:
            EndOfStream: the hub was closed, or the subscription fell behind with ``overflow="close"``. (``async for``
                just ends.)
            BusyResourceError: another task receives already. The caller's fault.
            ClosedResourceError: the subscription is not entered, or was left. The caller's fault.
        """
        if self._unread is None or self._closed:
            msg = "a subscription is received from inside of `async with hub.subscribe(...) as subscription`"
            raise ClosedResourceError(msg)
        while not self._unread:
            self._unread.extend(_event_of(event) for event in self._take_events())
            if self._unread:
                break
            if self.at_end():
                raise EndOfStream
            await self._wait_readable()
        return self._unread.popleft()

    async def _wait_readable(self) -> None:
        if self.receiver is not None:
            raise BusyResourceError("receiving from")  # anyio ends the sentence: "another task is already ..."
        self._hub.check_here()
        parking = current_loop().new_parking()
        waiting = WaitingReceive(self, parking)
        self.begin_waiting(waiting)
        try:
            await parking.park()
        finally:
            self.end_waiting(waiting)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        try:
            return await self.receive()
        except EndOfStream:
            raise StopAsyncIteration from None


def _event_of(event: StoredEvent | ServerSentEvent) -> ServerSentEvent:
    return event if isinstance(event, ServerSentEvent) else event.event


def _gap_event(gap: Gap, page: Page) -> ServerSentEvent:
    # With an id, so that a client that gets no further is not told of this gap again: of what was trimmed last; but
    # of nothing newer than what follows, which it would miss (each topic loses its own oldest).
    oldest, told = gap.oldest, page.trimmed_to
    if oldest is not None and oldest.sequence <= told.sequence:
        told = EventId(oldest.epoch, oldest.sequence - 1)
    data = {"after": str(gap.after), "oldest": None if oldest is None else str(oldest)}
    return ServerSentEvent.json(data, event="gap", id=str(told))


def _latin1(after: EventId) -> bytes:
    # A client may have sent anything as its id; in a header of ours goes only what can stand there. Of blanks around it
    # h11 makes an error (RFC 9112, 5.1: they are no part of the value).
    text = str(after)
    return text.encode() if text.isascii() and text.isprintable() and text == text.strip() else b"?"
