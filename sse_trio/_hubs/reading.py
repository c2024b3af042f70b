# What one subscriber takes next: history first, then what its rings hold after its cursor; and what happens when it has
# fallen behind them.
#
# Rule 1: when a ring has let go of a subscriber's next event, it goes on from the store ("resume"), or misses what is
#         gone ("drop_oldest"), or ends ("close"), as it has chosen. When history was lost, everybody asks the store.
# Rule 2: if one of its functions raises, the subscriber has taken nothing.
# Rule 3: batches are shared with others also by a subscriber that ends at some event: it looks at the events, and takes
#         the bytes that all take. Only a batch in which something follows its last event is joined for it alone.

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias, final, get_args

from .._loops.loop import Loop
from .._wire.batch import Batch
from ..stores._protocol import StoredEvent
from .filtering import EventFilter
from .history import History
from .position import Position
from .position_line import Entry, PositionLine
from .ring import Ring
from .state import HubState
from .until import Rewrite, UntilEvent, cut_after, rewritten

__all__ = ("HUB_OVERFLOWS", "HubOverflow", "Reading")

HubOverflow: TypeAlias = Literal["resume", "drop_oldest", "close"]
HUB_OVERFLOWS: tuple[HubOverflow, ...] = get_args(HubOverflow)


@final
class Reading:
    """The events of one subscriber.

    Args:
        hub: the hub's state.
        overflow, event_filter, until, rewrite, id_blocks: the subscriber's.
    """

    __slots__ = (
        "_hub",
        "dropped",
        "ends_at_mark",
        "filter",
        "history",
        "id_blocks",
        "is_refusing",
        "loop",
        "on_overflow",
        "overflow",
        "position",
        "rewrite",
        "until",
    )

    def __init__(
        self,
        hub: HubState,
        overflow: HubOverflow,
        event_filter: EventFilter | None,
        until: UntilEvent | None,
        rewrite: Rewrite | None,
        *,
        id_blocks: bool,
    ) -> None:
        self._hub = hub
        self.id_blocks: bool = id_blocks
        self.overflow: HubOverflow = overflow
        self.filter: EventFilter | None = event_filter
        self.until: UntilEvent | None = until
        self.ends_at_mark: bool = False
        """Whether that is no user's function, and finds the end at a mark: so there is no other event to look at."""
        self.rewrite: Rewrite | None = rewrite
        self.position: Position = Position()
        self.history: History = History(hub, self.position)
        self.is_refusing: bool = False
        self.dropped: int = 0
        """Events that it missed."""
        self.loop: Loop | None = None
        """The loop of its stream, if it belongs to one. The client then gets positions."""
        self.on_overflow: Callable[[], None] | None = None
        """Ends its stream, which may have a farewell to send."""

    @property
    def is_plain(self) -> bool:
        """Whether it is sent every event of its topics, as it is."""
        return self.filter is None and self.rewrite is None

    def is_ready(self) -> bool:
        """Whether there is an event to take."""
        return bool(self.history.pending) or self.position.is_ready()

    def refuse(self) -> None:
        """Keep what there is, and take in nothing more."""
        self.is_refusing = True
        if left := self._take_live():
            self.history.add(*left)
        self.position.is_live = False
        self.history.stop()
        self.position.wake()

    def _finish(self) -> None:
        # The last event was taken. The stream, or who receives, finds the end.
        self.position.is_live = False
        self.history.pending = ()
        self.refuse()

    # --- events, for a stream that is written them as they are

    def join(self) -> tuple[Batch | None, int]:
        """Remove what the rings have now, up to the last event, and return it joined, and the number of events.

        There is no history.
        """
        fresh, position = self._find_fresh(), self.position
        if not fresh or position.feed is None:
            return None, 0
        batch = position.feed.join(fresh, position.cursor)
        if self.until is not None and (batch.has_mark or not self.ends_at_mark):
            events = position.feed.events(fresh, position.cursor)
            count = cut_after(self.until, events)
            if count is not None:
                self._finish()
                is_all = count == len(events)
                return batch if is_all else Batch(b"".join([event.encode() for event in events[:count]])), count
        position.advance(batch.end, batch.count)
        return batch, batch.count

    # --- events one by one

    def take(self) -> tuple[Sequence[Entry], int]:
        """Remove all that there is now; return what the subscriber is sent of it, and how many events that are."""
        taken: Sequence[Entry] = self.history.take() if self.history.pending else ()
        # Both: what follows a page of history wakes no receiver, and a writer that takes its events inside the call
        # that woke it takes once.
        if live := self._take_live():
            taken = [*taken, *live] if taken else live
        try:
            sent, is_end = self._choose(taken)
            count = sum([isinstance(entry, StoredEvent) for entry in sent])
            if self.rewrite is not None:
                sent = [rewritten(self.rewrite, entry) for entry in sent]
        except BaseException:
            self.history.put_back(taken)  # nothing was taken; and a stream that fails takes nothing more
            raise
        if is_end or (self.history.is_stopped and not self.is_refusing):
            self._finish()
        return sent, count

    def _choose(self, taken: Sequence[Entry]) -> tuple[Sequence[Entry], bool]:
        # What the filter lets through, up to the last event; and whether that is among it.
        if self.filter is not None:
            taken = self._select(self.filter, taken)
        count = None if self.until is None else cut_after(self.until, taken)
        return (taken, False) if count is None else (taken[:count], True)

    def _select(self, event_filter: EventFilter, taken: Sequence[Entry]) -> Sequence[Entry]:
        selected = event_filter.select(taken)
        if self.loop is not None:
            position = event_filter.position_to_tell(self.loop.current_time())
            if position is not None:
                selected.append(PositionLine(position, is_block=self.id_blocks))
        return selected

    def _take_live(self) -> Sequence[StoredEvent]:
        fresh, position = self._find_fresh(), self.position
        if not fresh or position.feed is None:
            return ()
        events = position.feed.events(fresh, position.cursor)
        position.advance(max([ring.end for ring in fresh]), len(events))
        return events

    # --- falling behind

    def _find_fresh(self) -> Sequence[Ring]:
        # The rings with events to take; none if there is nothing to take, or it is only in the store.
        position = self.position
        if position.feed is None or not position.is_live:
            return ()
        fresh = position.feed.fresh(position.cursor)
        for ring in fresh:
            if ring.floor > position.cursor:
                return fresh if self._misses_what_is_lost() else ()
        return fresh

    def _misses_what_is_lost(self) -> bool:
        # It fell behind: return whether it goes on with what the rings still hold.
        overflow = "resume" if self.position.was_reset() else self.overflow
        if overflow == "drop_oldest":
            lost = self.position.skip_lost()
            self._hub.counters.dropped += lost
            self.dropped += lost
            return True
        self.position.is_live = False
        if self.is_refusing:
            pass  # it ends here
        elif overflow == "resume":
            self._hub.counters.resumes += 1
            self.history.start(self.position.last)
        elif self.on_overflow is not None:
            self.on_overflow()
        else:
            self.refuse()
        return False
