# The embedded durable store: one file, any number of processes on one machine.
#
# Rule 1: SQLite blocks, so it runs in threads, each connection in one at a time. The writer, the reader and each
#         follower have their own limiter: with the default one they and Starlette would wait for each other.
# Rule 2: appends are committed in a thread that gets group after group (_sqlite/commits.py).
# Rule 3: sqlite3.Error is translated here and there and nowhere else. Publishers and readers get
#         StoreUnavailableError; a follower waits and tries again.
#
# SQLiteStore has a few attributes more than others: its options, three connections and their limiters.

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from operator import attrgetter
from typing import TypeVar, final, overload

from anyio import CancelScope, CapacityLimiter, sleep, to_thread

from .._errors import StoreUnavailableError
from .._wire.event import Sendable
from ._append import Append, Result
from ._arguments import check_clock, check_follow, check_items, check_key, check_read, check_read_last, check_wait
from ._connections import AsyncConnection, SyncConnection
from ._expiry import read_last, unexpired, with_ttl
from ._follower import Follower
from ._group_commit import GroupCommit
from ._holds import Claim, Held, OnHeldDone, check_claim, check_held_due
from ._items import pack_item
from ._keys import key_of
from ._lifetime import OpenedOnce, open_service_group
from ._outage import Outage
from ._protocol import EventId, Page
from ._retention import KEY_SECONDS, Retention, check_remember_keys, maintenance_interval
from ._sqlite.appender import SQLiteAppender
from ._sqlite.commits import CommitThread
from ._sqlite.file import open_file
from ._sqlite.follower import SQLiteFollower
from ._sqlite.handover import Handover, new_events
from ._sqlite.holds import Record
from ._sqlite.outbox import publish_on
from ._sqlite.place import check_mode, check_path
from ._sqlite.reader import SQLiteReader
from ._topic_limits import PerTopic, TopicLimits
from ._topics import TopicFilter, check_topic

__all__ = ("SQLiteStore",)

_SHORTEST_POLL = 0.001  # seconds

_T = TypeVar("_T")


@final
class SQLiteStore(OpenedOnce):
    """Keeps events in a SQLite file. Durable to: the disk, a loss of power included (``synchronous=FULL``).

    Several processes of one machine may open one file; each sees the others' events within about a millisecond. The
    file must be on a local disk: SQLite's log doesn't work on network file systems. Beside it appear ``-wal`` and
    ``-shm``, SQLite's own, and the directory ``.wake`` with a socket for each follower.

    Args:
        path: of the file; it is made if it doesn't exist. ``":memory:"`` and ``file:`` URIs are refused.
        max_events: of the hub.
        max_age: of an event, in seconds.
        max_bytes: of payload in the hub. An event of 100 bytes takes about 150 in SQLite.
        per_topic: the limits of each topic; or several, by pattern: the longest that matches a topic counts.
        poll_interval: seconds after which a follower looks for events without a wake-up. On systems without unix
            sockets there are no wake-ups, so events of other processes can be this late.
        clock: the time in seconds since 1970, for ``max_age``; it must be the same clock after a restart.
        remember_keys: seconds for which the key of an append is remembered at least. The processes of one file should
            say the same.
        mode: of new files. With 0o600 only their owner can read events and publish. 0o660 is for processes of several
            users in one group, whose directory must belong to the group (``chmod g+s``). The directory of the wake-ups
            has the same mode, and x for everyone who may read. Existing files keep their mode.

    While the file, or one of SQLite's two beside it, is deleted, replaced or moved, every call raises
    :exc:`StoreUnavailableError`, so that nothing is acknowledged that the next process would not find. Move the file
    back, or restart every process that has it open.

    After a restore from a backup, new events may get ids that clients have already seen with other events. Run
    ``UPDATE hub SET epoch = lower(hex(randomblob(4)))`` on the file before you use it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_events: int | None = 1_000_000,
        max_age: float | None = None,
        max_bytes: int | None = 1024 * 1024 * 1024,
        per_topic: PerTopic = Retention(),  # noqa: B008 -- frozen
        poll_interval: float = 0.5,
        clock: Callable[[], float] = time.time,
        remember_keys: float = KEY_SECONDS,
        mode: int = 0o600,
    ) -> None:
        super().__init__()
        self._path = check_path(path)
        self._name = f"the SQLite file {self._path}"
        self._limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
        self._topic_limits = TopicLimits(per_topic, self._limits)
        check_wait("poll_interval", poll_interval, least=_SHORTEST_POLL)
        self._poll_interval = poll_interval
        check_clock(clock)
        self._clock = clock
        self._remember_keys = check_remember_keys(remember_keys)
        self._mode = check_mode(mode)
        self._outage = Outage()
        self._commits = GroupCommit()
        self._handovers: set[Handover] = set()
        self._epoch = ""

    def __repr__(self) -> str:
        return f"<SQLiteStore {self._path!r}: {self._lifetime()}>"

    @property
    def epoch(self) -> str:
        """The name of the file's history, made with the file."""
        return self._epoch

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        self._write_limiter = CapacityLimiter(1)
        self._read_limiter = CapacityLimiter(1)
        files = await self._in_thread(self._open_files, self._write_limiter)
        try:
            async with open_service_group() as task_group:
                task_group.start_soon(self._commit_thread().run)
                task_group.start_soon(self._maintain)
                try:
                    yield
                finally:
                    self._commits.close()
        finally:
            with CancelScope(shield=True):
                await self._in_thread(files.close, self._write_limiter)

    def _open_files(self) -> ExitStack:
        with ExitStack() as files:
            self._appender = files.enter_context(closing(self._open_appender()))
            self._writer = self._appender.writer
            reader, names = open_file(self._path, self._mode)
            files.enter_context(closing(reader))
            self._reader = SQLiteReader(reader, names)
            self._epoch = self._reader.epoch
            return files.pop_all()  # all opened, so keep them open

    def _open_appender(self) -> SQLiteAppender:
        return SQLiteAppender(
            self._path,
            self._mode,
            self._limits,
            self._topic_limits,
            self._clock,
            remember_keys=self._remember_keys,
        )

    async def append(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """See :class:`EventStore`. If it is cancelled while its group is committed, the events are kept."""
        self._check_open()
        return await self._commits.append(check_items(items), check_key(key))

    async def append_held(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """See :class:`HoldingStore`. If it is cancelled while its group is committed, the claim is kept."""
        self._check_open()
        return await self._commits.claim(*check_claim(items, claim))

    def append_held_soon(self, items: Sequence[tuple[str, bytes]], claim: Claim, on_done: OnHeldDone) -> None:
        """Begin an ``append_held()`` that was checked, and call ``on_done`` when it is done. For runs."""
        self._check_open()
        self._commits.claim_soon(items, claim, on_done)

    async def held(self, topic: str) -> Held | None:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_topic(topic)
        found = await self._in_thread(lambda: self._reader.held(topic), self._read_limiter)
        return None if found is None else self._as_held(found)

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_held_due(prefix, limit)
        found = await self._in_thread(lambda: self._reader.held_due(prefix, limit), self._read_limiter)
        return [self._as_held(record) for record in found]

    def _as_held(self, record: Record) -> Held:
        topic, token, value, due, upto = record
        return Held(topic, token, value, due - self._clock(), EventId(self._epoch, upto))

    def _commit_thread(self) -> CommitThread:
        append, limiter = self._appender.append, self._write_limiter
        return CommitThread(self._name, self._commits, append, self._hand_over, limiter)

    def _hand_over(self, group: Sequence[Append], results: Sequence[Result]) -> None:
        events = new_events(group, results, self._writer.before) if self._handovers else []
        for handover in self._handovers:
            if self._writer.has_moved:
                handover.note_stale()
            if events:
                handover.add(events)

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read(topics, after, limit)
        page = await self._in_thread(lambda: self._reader.read(topics, after, limit), self._read_limiter)
        return unexpired(page, self._clock())

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read_last(topics, count)

        async def read(asked: int) -> Page:
            self._check_open()  # also before it reads again
            return await self._in_thread(lambda: self._reader.read_last(topics, asked), self._read_limiter)

        return await read_last(read, count, self._clock)

    def expiry_clock(self) -> float:
        """See :class:`ExpiringStore`: the store's ``clock``."""
        return self._clock()

    @asynccontextmanager
    async def follow(self, after: EventId) -> AsyncGenerator[AsyncIterator[Page]]:
        """See :class:`EventStore`. Each follower has its own connection, thread and socket."""
        self._check_open()
        check_follow(after)
        follower = SQLiteFollower(
            self._path,
            self._mode,
            self._in_thread,
            self._outage,
            self._check_open,
            self._appender.spared,
            lambda: self._commits.append([], None),  # any append moves what waits in the outbox
            poll_interval=self._poll_interval,
        )
        self._handovers.add(follower.handover)
        try:
            async with open_service_group() as task_group:
                task_group.start_soon(follower.listen)
                yield Follower(follower.wait_page, after)
        finally:
            self._handovers.discard(follower.handover)
            await follower.aclose()

    @overload
    def publish_in(  # pyright: ignore[reportOverlappingOverload] -- what is awaited is looked at first
        self,
        connection: AsyncConnection,
        topic: str,
        event: Sendable,
        *,
        key: str | tuple[str, int] | None = None,
        ttl: float | None = None,
    ) -> Awaitable[None]: ...
    @overload
    def publish_in(
        self,
        connection: SyncConnection,
        topic: str,
        event: Sendable,
        *,
        key: str | tuple[str, int] | None = None,
        ttl: float | None = None,
    ) -> None: ...
    def publish_in(
        self,
        connection: SyncConnection | AsyncConnection,
        topic: str,
        event: Sendable,
        *,
        key: str | tuple[str, int] | None = None,
        ttl: float | None = None,
    ) -> Awaitable[None] | None:
        """Publish an event in a transaction of your own, on this very file: it exists if and only if that commits.

        The event gets its id after the commit. The next append of any process moves it to the log, or else a follower,
        which finds it within ``poll_interval``. The store need not be open where you call this.

        Args:
            connection: a connection to the store's file, which has your tables, too: of ``sqlite3``, of
                SQLAlchemy, or of Django. With an asynchronous one, of aiosqlite or SQLAlchemy, write
                ``await store.publish_in(...)``.
            topic: as in ``hub.publish()``.
            event: as in ``hub.publish()``.
            key: as in ``hub.publish()``. An event whose key was used before is dropped when its turn comes.
            ttl: as in ``hub.publish()``: seconds from this call, not from the commit.

        Raises:
            ValueError, TypeError: a bad topic, event, key or ttl, or a connection of another kind. The caller's fault.
        """
        (item,) = with_ttl([pack_item(topic, event)], ttl, self._clock)
        return publish_on(connection, item, check_key(key_of(key)))

    async def _maintain(self) -> None:
        seconds = maintenance_interval(self._topic_limits.span[0])
        while True:
            try:
                await self._in_thread(self._writer.maintain, self._write_limiter)
                while await self._in_thread(self._writer.sweep, self._write_limiter):
                    pass
            except StoreUnavailableError as exc:
                self._outage.note(exc, "nothing was trimmed by age")
            await sleep(seconds)

    async def _in_thread(self, work: Callable[[], _T], limiter: CapacityLimiter) -> _T:
        """Run ``work`` to its end, even if the caller is cancelled."""
        try:
            return await to_thread.run_sync(work, limiter=limiter)
        except (sqlite3.Error, OSError) as exc:
            raise StoreUnavailableError(self._name, exc) from exc


opener_of: Callable[[SQLiteStore], Callable[[], SQLiteAppender]] = attrgetter("_open_appender")
"""What opens the file to append to it as this store does, for a Publisher. The store need not be open."""
