# The store of one process; its events end with it. Also the simplest implementation of what every store promises.
#
# Rule 1: no task and no lock. Each method works between two checkpoints, so it is atomic. A long search takes several
#         turns of the loop; events come and go between two of them, and no other task waits for it.
# Rule 2: a topic loses its oldest events first. So one number, `trimmed_to`, says which of its events are gone, and an
#         entry of the hub's log is dead exactly if its sequence is not above its topic's number.
# Rule 3: age is measured on the event loop's clock, because nothing here is older than the process.
#
# A little over 250 lines: appending, reading and trimming share the same attributes, and each method is short.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from heapq import merge
from itertools import islice
from typing import final

from anyio import Event, current_time
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from ._aged import AgedLogs
from ._arguments import check_follow, check_items, check_key, check_read, check_read_last
from ._ends import Ends, noted_prefix, prefixes_of, size_of_name
from ._expiry import EXPIRES
from ._follower import ALL_TOPICS, FOLLOWED_AT_ONCE, Follower
from ._gaps import make_page, start_reading
from ._holds import Claim, Held, check_claim, check_held_due
from ._lifetime import OpenedOnce
from ._log import Entry, Log
from ._memory_expiries import Expiries
from ._memory_holds import Holds
from ._protocol import EventId, Page, StoredEvent, new_epoch
from ._retention import KEY_SECONDS, Retention, check_remember_keys
from ._scan import events_of_a_step
from ._topic_limits import PerTopic, TopicLimits
from ._topics import TopicFilter, check_topic

__all__ = ("MemoryStore",)

_SCAN = 4096  # entries of a log that are looked at in one turn of the event loop: about a millisecond
_LEAST_NAME_BYTES = 64 * 1024
_NAME_BYTES = 64 * 1024 * 1024  # without max_bytes
_COMPACT_FROM = 1024  # dead entries in the hub's log; fewer are not worth removing


@final
class MemoryStore(OpenedOnce):
    """Keeps events in this process. Durable to: the end of the process, or of ``async with``.

    Args:
        max_events: of the hub.
        max_age: of an event, in seconds.
        max_bytes: of payload in the hub. An event of 100 bytes takes about 450 in Python. The names of topics may take
            the same amount again, and so may the names of topics that have ended, of which 100,000 are remembered;
            64 KiB at least.
        per_topic: the limits of each topic; or several, by pattern: the longest that matches a topic counts.
        remember_keys: seconds for which the key of an append is remembered at least.

    ``append`` is atomic under cancellation: if it raised, nothing was appended.
    """

    def __init__(
        self,
        max_events: int | None = 10_000,
        max_age: float | None = None,
        max_bytes: int | None = 64 * 1024 * 1024,
        *,
        per_topic: PerTopic = Retention(),  # noqa: B008 -- frozen
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        super().__init__()
        self._limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
        self._topic_limits = TopicLimits(per_topic, self._limits)
        self._remember_keys = check_remember_keys(remember_keys)
        self._max_age = self._topic_limits.hub_age
        self._aged = AgedLogs(self._topic_limits) if self._topic_limits.ages else None
        self._epoch = new_epoch()
        self._tip = 0
        self._hub = Log()  # with dead entries in it
        self._live = 0
        self._live_size = 0
        self._trimmed_to = 0  # the newest event of the hub that is gone
        self._topics: dict[str, Log] = {}  # those with events
        self._max_name_bytes = max(_LEAST_NAME_BYTES, max_bytes or _NAME_BYTES)
        self._name_bytes = 0  # of those with events
        self._ends = Ends(self._max_name_bytes)  # of those without
        self._prefix_ends = Ends(self._max_name_bytes)
        self._keys: OrderedDict[tuple[str, int], tuple[float, list[EventId]]] = OrderedDict()
        self._expiries = Expiries()
        self._holds = Holds()
        self._appended: Event | None = None

    def __repr__(self) -> str:
        events = f"{self._live} events, {self._live_size} bytes, {len(self._topics)} topics"
        return f"<MemoryStore {self._epoch}: {self._lifetime()}, {events}>"

    @property
    def epoch(self) -> str:
        """The name of this history."""
        return self._epoch

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        await checkpoint()
        yield

    async def append(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """See :class:`EventStore`."""
        self._check_open()
        checked, key = check_items(items), check_key(key)
        await checkpoint_if_cancelled()
        ids = self._append_keyed(checked, key)
        await cancel_shielded_checkpoint()
        return ids

    def append_nowait(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """Append at once, without a checkpoint: this store has nothing to wait for."""
        self._check_open()
        return self._append_keyed(check_items(items), check_key(key))

    async def append_held(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """See :class:`HoldingStore`."""
        self._check_open()
        checked, claim = check_claim(items, claim)
        await checkpoint_if_cancelled()
        ids = self._append_claimed(checked, claim)
        await cancel_shielded_checkpoint()
        return ids

    def append_held_nowait(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """Make a claim at once, without a checkpoint."""
        self._check_open()
        return self._append_claimed(*check_claim(items, claim))

    def _append_claimed(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        now = current_time()
        self._holds.check(claim)
        if claim.clear:
            self._clear(claim.topic)
        was_held = claim.topic in self._holds
        self._holds.change(claim, now, EventId(self._epoch, self._tip + len(items)))
        if claim.topic in self._topics and claim.topic in self._holds and not was_held:
            self._name_bytes -= size_of_name(claim.topic)
        return self._append_now(items, now)

    async def held(self, topic: str) -> Held | None:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_topic(topic)
        await checkpoint()
        return self._holds.get(topic, current_time())

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_held_due(prefix, limit)
        await checkpoint()
        return self._holds.due(prefix, limit, current_time())

    def _append_keyed(self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        now = current_time()
        if key is None:
            return self._append_now(items, now)
        while self._keys and next(iter(self._keys.values()))[0] < now - self._remember_keys:
            self._keys.popitem(last=False)
        if key not in self._keys:
            self._keys[key] = (now, self._append_now(items, now))
        return list(self._keys[key][1])

    def _append_now(self, items: Sequence[tuple[str, bytes]], now: float) -> list[EventId]:
        ids = [EventId(self._epoch, self._tip + n) for n in range(1, len(items) + 1)]
        self._tip += len(items)
        for id_, (topic, payload) in zip(ids, items, strict=True):
            self._add(Entry(id_.sequence, now, StoredEvent(id_, topic, payload)))
        self._trim({topic for topic, _ in items}, now)
        if self._appended is not None:
            self._appended.set()
            self._appended = None
        return ids

    def _add(self, entry: Entry) -> None:
        name = entry.event.topic
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = Log(self._ends.pop(name))
            self._name_bytes += self._size_of_free(name)
        topic.append(entry)
        self._hub.append(entry)
        if self._aged is not None:
            self._aged.add(entry)
        self._live += 1
        self._live_size += len(entry.event.payload)
        if entry.event.payload[:9] == EXPIRES:  # not startswith(): this is done for every event
            self._expiries.add(entry)

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read(topics, after, limit)
        await checkpoint()
        return await self._read(topics, after, limit)

    async def _read(self, topics: TopicFilter, after: EventId | Page | None, limit: int) -> Page:
        self._trim((), current_time())
        start = start_reading(after, self._tip_id, self._end_of(topics))
        events, last = self._select(topics, start.sequence, limit)
        while start.missed and not events and last != self._tip:  # a gap is reported with the first event after it
            await checkpoint()
            events, last = self._select(topics, last, limit)
        return make_page(after, start, events, last, self._tip_id, self._end_of(topics))

    @property
    def _tip_id(self) -> EventId:
        return EventId(self._epoch, self._tip)

    def _select(self, topics: TopicFilter, start: int, limit: int) -> tuple[tuple[StoredEvent, ...], int]:
        """Return events after ``start``, and the sequence up to which these are all."""
        if topics.prefixes:
            return self._scan(topics, start, limit)
        events = [entry.event for entry in islice(merge(*(log.after(start) for log in self._logs_of(topics))), limit)]
        return tuple(events), (events[-1].id.sequence if len(events) == limit else self._tip)

    def _logs_of(self, topics: TopicFilter) -> list[Log]:
        return [self._topics[name] for name in topics.exact if name in self._topics]

    def _scan(self, topics: TopicFilter, start: int, limit: int) -> tuple[tuple[StoredEvent, ...], int]:
        events: list[StoredEvent] = []
        most = events_of_a_step(_SCAN, topics)
        for looked_at, entry in enumerate(self._hub.after(start), 1):
            if topics.matches(entry.event.topic) and self._is_live(entry):
                events.append(entry.event)
            if len(events) == limit or looked_at == most:
                return tuple(events), entry.sequence
        return tuple(events), self._tip

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read_last(topics, count)
        await checkpoint()
        self._trim((), current_time())
        tip, trimmed_to = self._tip_id, EventId(self._epoch, self._end_of(topics))
        newest = await self._find_newest(topics, count)
        return Page(tuple(reversed(newest)), tip, None, tip, trimmed_to)

    async def _find_newest(self, topics: TopicFilter, count: int) -> list[StoredEvent]:
        if not topics.prefixes:
            logs = self._logs_of(topics)
            newest = merge(*(log.newest_first() for log in logs), reverse=True)
            return [entry.event for entry in islice(newest, count)]
        events: list[StoredEvent] = []
        before: int | None = self._tip + 1
        while before is not None and len(events) < count:
            if before <= self._tip:
                await checkpoint()
            before = self._scan_back(topics, before, count, events)
        return events

    def _scan_back(self, topics: TopicFilter, before: int, count: int, events: list[StoredEvent]) -> int | None:
        """Add to ``events`` those older than ``before``; return the sequence to go on from, or None at the start."""
        most = events_of_a_step(_SCAN, topics)
        for looked_at, entry in enumerate(self._hub.newest_first(before), 1):
            if topics.matches(entry.event.topic) and self._is_live(entry):
                events.append(entry.event)
            if len(events) == count or looked_at == most:
                return entry.sequence
        return None

    @asynccontextmanager
    async def follow(self, after: EventId) -> AsyncGenerator[AsyncIterator[Page]]:
        """See :class:`EventStore`."""
        self._check_open()
        check_follow(after)
        await checkpoint()
        yield Follower(self._wait_page, after)

    async def _wait_page(self, after: EventId | Page) -> Page:
        while True:
            await checkpoint()
            self._check_open()
            page = await self._read(ALL_TOPICS, after, FOLLOWED_AT_ONCE)
            if page.events or page.gap:
                return page
            after = page
            if page.next == page.tip:  # read since the last checkpoint, so no append can have been missed
                await self._wait_appended()

    async def _wait_appended(self) -> None:
        if self._appended is None:
            self._appended = Event()
        await self._appended.wait()

    def _is_live(self, entry: Entry) -> bool:
        topic = self._topics.get(entry.event.topic)
        return topic is not None and entry.sequence > topic.trimmed_to

    def _end_of(self, topics: TopicFilter) -> int:
        """Return the newest sequence that was trimmed from these topics."""
        if topics.matches_all:
            return self._trimmed_to
        ends = [self._end_of_prefix(prefix) for prefix in topics.prefixes]
        return max([*ends, *(self._end_of_topic(name) for name in topics.exact)])

    def _end_of_topic(self, name: str) -> int:
        topic = self._topics.get(name)
        return self._ends.of(name) if topic is None else topic.trimmed_to

    def _end_of_prefix(self, prefix: str) -> int:
        return self._prefix_ends.of(noted_prefix(prefix))

    def expiry_clock(self) -> float:
        """See :class:`ExpiringStore`: the event loop's clock."""
        return current_time()

    def _expire(self, now: float) -> None:
        for sequence, name in self._expiries.take_over(now):
            log = self._topics.get(name)
            entry = None if log is None else log.remove(sequence)
            if log is not None and entry is not None:  # otherwise it was trimmed
                self._forget(entry, log)
        self._expiries.compact(self._is_kept)

    def _is_kept(self, sequence: int, name: str) -> bool:
        topic = self._topics.get(name)
        return topic is not None and sequence > topic.trimmed_to

    def _forget(self, entry: Entry, log: Log) -> None:
        if self._hub.remove(entry.sequence) is not None:  # otherwise it stayed in its topic alone, which is held
            self._live -= 1
            self._live_size -= len(entry.event.payload)
        if self._aged is not None:
            self._aged.remove(entry)
        if not log:
            self._end_topic(entry.event.topic, log)

    def _end_topic(self, name: str, log: Log) -> None:
        del self._topics[name]
        self._name_bytes -= self._size_of_free(name)
        self._ends.raise_to(name, log.trimmed_to)

    def _trim(self, grown: Iterable[str], now: float) -> None:
        if self._expiries:
            self._expire(now)
        everywhere = self._topic_limits.everywhere
        for name in grown:
            log, limits = self._topics[name], everywhere or self._topic_limits.of(name)
            while name not in self._holds and limits.exceeded_by(len(log), log.size):
                self._drop_oldest_of(name)
        if self._aged is not None:
            self._trim_aged(self._aged, now)
        while self._limits.exceeded_by(self._live, self._live_size) or self._names_take_too_much():
            self._drop_oldest()
        if self._max_age is not None:
            while self._hub and self._hub.oldest.time < now - self._max_age:
                self._drop_oldest()
        if len(self._hub) > 2 * self._live + _COMPACT_FROM:
            self._hub.keep(self._is_live)

    def _trim_aged(self, aged: AgedLogs, now: float) -> None:
        for entry in aged.take_old(now):
            topic = entry.event.topic
            while topic not in self._holds and self._is_live(entry):
                self._drop_oldest_of(topic)
        aged.compact(self._is_live)

    def _names_take_too_much(self) -> bool:
        return self._name_bytes > self._max_name_bytes and self._live > 1

    def _size_of_free(self, name: str) -> int:
        return 0 if name in self._holds else size_of_name(name)  # trimming frees no name that is held

    def _drop_oldest(self) -> None:
        oldest = self._hub.oldest
        if self._is_live(oldest):
            if oldest.event.topic in self._holds:
                self._count_gone(oldest)  # it stays in its topic
            else:
                self._drop_oldest_of(oldest.event.topic)
        self._hub.drop_oldest()

    def _count_gone(self, entry: Entry) -> None:
        self._trimmed_to = max(self._trimmed_to, entry.sequence)
        self._live -= 1
        self._live_size -= len(entry.event.payload)
        for prefix in prefixes_of(entry.event.topic):
            self._prefix_ends.raise_to(prefix, entry.sequence)

    def _clear(self, name: str) -> None:
        while name in self._topics:
            self._drop_oldest_of(name)

    def _drop_oldest_of(self, name: str) -> None:
        log = self._topics[name]
        entry = log.drop_oldest()
        if self._hub and entry.sequence >= self._hub.oldest.sequence:
            self._count_gone(entry)
        if not log:
            self._end_topic(name, log)
