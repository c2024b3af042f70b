# The store of one process; its events end with it. Also the simplest implementation of what every store promises.
#
# Rule 1: no task and no lock. Each method works between two checkpoints, so it is atomic. A long search takes several
#         turns of the loop; events come and go between two of them, and no other task waits for it.
# Rule 2: age is measured on the event loop's clock, because nothing here is older than the process.
# Rule 3: what is kept and what goes is decided in _memory/hub_log.py.

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import final

from anyio import Event, current_time
from anyio.lowlevel import cancel_shielded_checkpoint, checkpoint, checkpoint_if_cancelled

from ._arguments import check_follow, check_items, check_key, check_read, check_read_last
from ._follower import ALL_TOPICS, FOLLOWED_AT_ONCE, Follower
from ._gaps import make_page, start_reading
from ._holds import Claim, Held, check_claim, check_held_due
from ._lifetime import OpenedOnce
from ._memory.hub_log import HubLog
from ._protocol import EventId, Page, StoredEvent
from ._retention import KEY_SECONDS, Retention, check_remember_keys
from ._topic_limits import PerTopic, TopicLimits
from ._topics import TopicFilter, check_topic

__all__ = ("MemoryStore",)


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
        limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
        self._log = HubLog(limits, TopicLimits(per_topic, limits))
        self._remember_keys = check_remember_keys(remember_keys)
        self._keys: OrderedDict[tuple[str, int], tuple[float, list[EventId]]] = OrderedDict()
        self._appended: Event | None = None

    def __repr__(self) -> str:
        return f"<MemoryStore {self._log.epoch}: {self._lifetime()}, {self._log}>"

    @property
    def epoch(self) -> str:
        """The name of this history."""
        return self._log.epoch

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
        self._log.take(claim, len(items), now)
        return self._append_now(items, now)

    async def held(self, topic: str) -> Held | None:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_topic(topic)
        await checkpoint()
        return self._log.holds.get(topic, current_time())

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_held_due(prefix, limit)
        await checkpoint()
        return self._log.holds.due(prefix, limit, current_time())

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
        ids = self._log.append(items, now)
        if self._appended is not None:
            self._appended.set()
            self._appended = None
        return ids

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read(topics, after, limit)
        await checkpoint()
        return await self._read(topics, after, limit)

    async def _read(self, topics: TopicFilter, after: EventId | Page | None, limit: int) -> Page:
        log = self._log
        log.trim((), current_time())
        start = start_reading(after, log.tip_id, log.end_of(topics))
        events, last = log.select(topics, start.sequence, limit)
        while start.missed and not events and last != log.tip:  # a gap is reported with the first event after it
            await checkpoint()
            events, last = log.select(topics, last, limit)
        return make_page(after, start, events, last, log.tip_id, log.end_of(topics))

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read_last(topics, count)
        await checkpoint()
        self._log.trim((), current_time())
        tip, trimmed_to = self._log.tip_id, EventId(self._log.epoch, self._log.end_of(topics))
        newest = await self._find_newest(topics, count)
        return Page(tuple(reversed(newest)), tip, None, tip, trimmed_to)

    async def _find_newest(self, topics: TopicFilter, count: int) -> list[StoredEvent]:
        if not topics.prefixes:
            return [*islice(self._log.newest_of(topics), count)]
        events: list[StoredEvent] = []
        before: int | None = self._log.tip + 1
        while before is not None and len(events) < count:
            if before <= self._log.tip:
                await checkpoint()
            before = self._log.scan_back(topics, before, count, events)
        return events

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

    def expiry_clock(self) -> float:
        """See :class:`ExpiringStore`: the event loop's clock."""
        return current_time()
