# What a stream of a subscription is made from: the subscriber's state, behind the handle that users have.
#
# Rule 1: register first, then read history, then skip what was seen. The feed holds every event since the subscriber
#         was registered (feed.py, rule 2), so no event is missed and none is sent twice.
# Rule 2: a subscriber holds a cursor, and at most one page of history. When it falls so far behind that the feed has
#         let go of its next event, it goes on from the store ("resume"), or drops events, or ends, as it has chosen.

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias, final, get_args

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
from .history import Entry, History, read_latest
from .position import Position
from .state import HubState
from .until import Rewrite, UntilEvent, cut_after, rewritten

if TYPE_CHECKING:
    from starlette.types import Message

    from .._channels.waiters import Receiver
    from .._reasons import CloseReason

__all__ = ("HUB_OVERFLOWS", "HubOverflow", "SubscriptionSource")

HubOverflow: TypeAlias = Literal["resume", "drop_oldest", "close"]
HUB_OVERFLOWS: tuple[HubOverflow, ...] = get_args(HubOverflow)

GAP_HEADER = b"event-stream-gap"


@final
class SubscriptionSource(LiveSource):
    """One subscriber of a hub.

    Args:
        hub: the hub's state.
        topics: whose events.
        start: where it begins: after the event with this id (str), or with this number of the latest events (int), or
            with all that are kept (None).
        overflow, filter: as in ``Hub.subscribe()``.
        until: the same, of a stored event.
        rewrite: as in ``Hub.subscribe()``.

    Its class is over 200 lines, and half of them are the methods that a stream asks of any source.
    """

    __slots__ = (
        "_filter",
        "_history",
        "_hub",
        "_is_plain",
        "_loop",
        "_on_overflow",
        "_position",
        "_rewrite",
        "_sep",
        "_start",
        "_until",
        "is_closed",
        "overflow",
        "topics",
        "unread",
    )
    is_closed: bool

    def __init__(
        self,
        hub: HubState,
        topics: TopicFilter,
        start: str | int | None,
        overflow: HubOverflow,
        filter: Filter | None,  # noqa: A002 -- its name everywhere
        until: UntilEvent | None = None,
        rewrite: Rewrite | None = None,
    ) -> None:
        self._hub = hub
        self.topics: TopicFilter = topics
        self._start = start
        self.overflow: HubOverflow = overflow
        self._filter: EventFilter | None = None if filter is None else EventFilter(filter)
        self._until = until
        self._rewrite = rewrite
        self._position = Position()
        self._history = History(hub, self._position)
        self.is_closed = False
        self._loop: Loop | None = None
        self._sep = "\n"
        self._is_plain = False
        self._on_overflow: Callable[[], None] | None = None
        self.unread: deque[ServerSentEvent] | None = None
        """Events that were taken for a receive() and wait for the next one; None unless it is received from."""
        self.coalesce_after: float = (
            0.0 if filter is None and until is None and rewrite is None else math.inf
        )  # the fan-out combines events: fanout.py, rule 2
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
            self._tell_position(feed.last)
            self._position.go_live(feed.last)
            return
        page = await self._read_first_page()
        if page.gap is not None:
            head["headers"].append((GAP_HEADER, _header_value(page.gap.after)))
        is_replay = type(self._start) is int
        if is_replay and not page.events:
            self._tell_position(page.next)
        if not self._history.add_page(page):
            self._history.start(page)
        elif is_replay and page.events and self._filter is not None:
            self._tell_position(page.next)  # the client is past what the filter left out after the last event

    async def _read_first_page(self) -> Page:
        if self._start is None:
            return await self._hub.read_all(self.topics)
        if isinstance(self._start, str):
            return await self._hub.read(self.topics, EventId.parse(self._start))
        return await read_latest(self._hub, self.topics, self._start, self._filter)

    def _tell_position(self, last: EventId) -> None:
        # A client that loses its connection before its first event has to come back with an id, or it misses what was
        # published meanwhile. A block without data sets the id and is not an event: WHATWG HTML 9.2.6, "dispatch".
        if self._loop is not None:
            self._history.add(ServerSentEvent(id=str(last)))

    def close(self) -> None:
        """Let go of everything. Not a checkpoint. Closing twice does nothing."""
        if self.is_closed:
            return
        if self._position.receiver is not None or self._history.is_reading:
            self._hub.check_here()  # a task is to be woken
        self.is_closed = True
        feed = self._position.feed
        self._position.is_live = False  # so that refusing keeps nothing
        self._history.pending = ()
        self.refuse_sends()
        self._position.leave()
        if feed is not None:
            self._hub.leave(self, feed)

    # --- as the hub sees it

    @property
    def feed(self) -> Feed | None:
        """The feed that it reads, from its entering to its closing."""
        return self._position.feed

    def lag(self) -> int | None:
        """Return the events that it has yet to take, as ``SubscriptionStatistics`` says."""
        lag = self._position.lag()
        if lag is None:
            return None
        history = sum([isinstance(event, StoredEvent) for event in self._history.pending])
        return len(self.unread or ()) + history + lag

    # --- as its stream sees it

    def is_shared(self, sep: str) -> bool:
        """Whether it takes the feed's own bytes."""
        return sep == "\n" and self._filter is None and self._rewrite is None

    def backlog(self) -> Backlog:
        """Return what there is to take: the page of history that it holds, and its lag."""
        pending = self._history.pending
        size = sum([len(event.encode(self._sep)) for event in pending])
        return Backlog(len(pending), size, self.lag(), self.topics.patterns)

    def bind(self, loop: Loop, sep: str, on_overflow: Callable[[], None]) -> None:
        """Belong to a stream."""
        self._loop = loop
        self._sep = sep
        self._is_plain = self.is_shared(sep)
        self._on_overflow = on_overflow if self.overflow == "close" else None

    def unbind(self) -> None:
        """Belong to no stream any more."""
        self._on_overflow = None

    def is_ready(self) -> bool:
        """Whether there is an event to write."""
        return bool(self._history.pending) or self._position.is_ready()

    def at_end(self) -> bool:
        """Whether everything was taken and nothing can come."""
        return self.refusing and not self.is_ready()

    def begin_waiting(self, waiting: Receiver) -> None:
        """Wake this receiver when there is an event, or the end."""
        self._position.begin_waiting(waiting)

    def end_waiting(self, waiting: Receiver) -> None:
        """Wake it no more."""
        del waiting  # there is one at most
        self._position.end_waiting()

    def keep_waiting(self, waiting: Receiver) -> None:
        """Do nothing: a receiver that was woken is still in the feed, until end_waiting()."""

    def begin_ending(self, reason: CloseReason) -> None:
        """Note why the stream is about to end."""
        self.close_reason = reason

    def refuse_sends(self) -> None:
        """Take in nothing more: the hub is closing, or the stream."""
        self.refusing = True
        if self._find_next():
            self._history.add(*self._position.events())
        self._position.is_live = False
        self._history.stop()
        self._position.wake()

    # --- taking events

    def take_batch(self) -> Batch | None:
        """Remove all that there is now and return it joined."""
        position = self._position
        feed = position.feed
        if feed is not None and position.is_live and not self._history.pending:
            # Where nearly every subscriber is nearly always: nothing new, or the batch that the others took too.
            cursor = position.cursor
            if cursor == feed.end:
                return None
            batch = feed.batch
            if (
                batch is not None
                and cursor == batch.start
                and self._is_plain
                and position.skip_to < 0
                and self._until is None
            ):
                position.cursor = feed.end
                position.last = feed.last
                self.received += feed.end - cursor
                return batch
        return self._take_own(feed)

    def _take_own(self, feed: Feed | None) -> Batch | None:
        if feed is None or self._history.pending or not self._is_plain:
            body = b"".join([event.encode(self._sep) for event in self.take_events()])
            return Batch(body) if body else None
        if not self._find_next():
            return None
        if self._until is not None:
            return self._take_to_last(feed, self._until)
        cursor = self._position.advance()
        self.received += feed.end - cursor
        return feed.join(cursor)

    def _take_to_last(self, feed: Feed, is_last: UntilEvent) -> Batch | None:
        # The bytes are shared with other subscribers here too, unless something follows the last event.
        events = self._position.events()
        count = cut_after(is_last, events)
        cursor = self._position.advance()
        self.received += len(events) if count is None else count
        batch = feed.join(cursor) if count in (None, len(events)) else None
        if count is None:
            return batch
        self._finish()
        return batch or Batch(b"".join([event.encode() for event in events[:count]]))

    def _finish(self) -> None:
        # The last event was taken. The stream, or who receives, finds the end.
        self._position.is_live = False
        self._history.pending = ()
        self.refuse_sends()

    def take_events(self) -> Sequence[Entry]:
        """Remove all that there is now, and return what the filter lets through."""
        taken = self._take_filtered()
        while not taken and self.is_ready():  # what follows what the filter left out wakes no receiver
            taken = self._take_filtered()
        self.received += sum([isinstance(event, StoredEvent) for event in taken])
        return taken if self._rewrite is None else [rewritten(self._rewrite, event) for event in taken]

    def _take_filtered(self) -> Sequence[Entry]:
        taken = self._take_unfiltered()
        if self._filter is not None:
            taken = self._select(self._filter, taken)
        if self._until is not None:
            taken = self._cut(self._until, taken)
        return taken

    def _cut(self, is_last: UntilEvent, taken: Sequence[Entry]) -> Sequence[Entry]:
        count = cut_after(is_last, taken)
        if count is not None:
            self._finish()
        return taken if count is None else taken[:count]

    def _select(self, event_filter: EventFilter, taken: Sequence[Entry]) -> Sequence[Entry]:
        try:
            selected = event_filter.select(taken)
        except BaseException:
            self._history.put_back(taken)  # nothing was taken; and a stream that fails takes nothing more
            raise
        if self._loop is not None:
            position = event_filter.position_to_tell(self._loop.current_time())
            if position is not None:
                selected.append(ServerSentEvent(id=str(position)))
        return selected

    def _take_unfiltered(self) -> Sequence[Entry]:
        if self._history.pending:
            return self._history.take()
        if not self._find_next():
            return []
        events = self._position.events()
        self._position.advance()
        return events

    def _find_next(self) -> bool:
        # Move the cursor to an event to take; False when there is none, or only in the store.
        position = self._position
        feed = position.feed
        if feed is None or not position.is_ready():
            return False
        if feed.has_lost(position.cursor) and not self._fell_behind(feed):
            return False
        return position.skip_seen()

    def _fell_behind(self, feed: Feed) -> bool:
        # Return whether it goes on at the oldest event of the feed.
        position = self._position
        overflow = "resume" if feed.was_reset(position.cursor) else self.overflow
        if overflow == "drop_oldest":
            lost = position.drop_lost()
            self._hub.counters.dropped += lost
            self.dropped += lost
            return True
        position.is_live = False
        if self.refusing:
            pass  # it ends here
        elif overflow == "resume":
            self._hub.counters.resumes += 1
            self._history.start(position.last)
        elif self._on_overflow is not None:
            self._on_overflow()  # it ends the stream, which may have a farewell to send
        else:
            self.refuse_sends()
        return False

    # --- received from, without a stream

    async def wait_readable(self) -> None:
        """Wait until there is an event, or the end."""
        if self._position.receiver is not None:
            raise BusyResourceError("receiving from")  # anyio ends the sentence: "another task is already ..."
        self._hub.check_here()
        parking = current_loop().new_parking()
        self._position.begin_waiting(WaitingReceive(self, parking))
        try:
            await parking.park()
        finally:
            self._position.end_waiting()


def _header_value(after: EventId) -> bytes:
    # A client may have sent anything as its id, and a header can't carry everything. h11 refuses blanks at the ends
    # (RFC 9112, 5.1: they are not part of the value).
    text = str(after)
    return text.encode() if text.isascii() and text.isprintable() and text == text.strip() else b"?"
