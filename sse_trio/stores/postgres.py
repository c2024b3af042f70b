# The store for who has PostgreSQL, on one machine or on several. Needs the extra `postgres` (psycopg 3).
#
# Rule 1: psycopg's synchronous connections run in threads, each in one at a time: one appends, one reads, and each
#         follower has its own. If one of them waits, the others don't.
# Rule 2: a thread that commits is never abandoned, and never waits for longer than `reply_within`. If an append is
#         cancelled, its group is committed all the same.
# Rule 3: psycopg's errors are translated here and nowhere else. What a connection did is done again until it is
#         answered, and appended once: see _postgres/writer.py. After `retry_for` seconds the caller gets the error.

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import TypeVar, final, overload

from anyio import CancelScope, CapacityLimiter, current_time, sleep, to_thread

from .._arguments.checks import check_flag
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
from ._postgres.appender import Link, PostgresAppender
from ._postgres.connection import FAILURES, PostgresServer, is_transient
from ._postgres.follower import PostgresFollower
from ._postgres.holds import Record
from ._postgres.names import check_hub_name
from ._postgres.publish_in import Statement, execute
from ._postgres.reader import PostgresReader
from ._postgres.schema import additions, migration
from ._postgres.writer import PostgresWriter
from ._protocol import EventId, Page
from ._redis.backoff import Backoff
from ._retention import KEY_SECONDS, Retention, check_remember_keys, maintenance_interval
from ._topic_limits import PerTopic, TopicLimits
from ._topics import TopicFilter, check_topic

__all__ = ("PostgresStore", "additions", "migration")

_SHORTEST_WAIT = 0.001  # seconds: PostgreSQL counts milliseconds, and takes 0 to mean for ever
_SHORTEST_POLL = 0.001  # seconds

_logger = logging.getLogger("sse_trio")
_T = TypeVar("_T")


@final
class PostgresStore(OpenedOnce):
    """Keeps events in PostgreSQL 13 or newer; any number of machines share a hub.

    Durable to: what the server's ``synchronous_commit`` says. With ``on``, its default, an acknowledged event survives
    a loss of power. After a failover to an asynchronous replica acknowledged events may be missing; processes that
    know of them notice it, and subscribers get a gap.

    Args:
        conninfo: ``postgresql://user:password@host/database``, or what else libpq takes. If it names several servers,
            ``postgresql://user:password@one,two/database``, the store finds the one that can be written to.
        listen_conninfo: where followers connect to. The default, ``None``, is ``conninfo``. If that leads to a pooler
            in transaction mode, through which no wake-up comes, name the server itself here.
        name: of the hub. Hubs of several names share a schema.
        schema: where the tables are. :func:`migration` returns the SQL that makes them.
        migrate: whether to make the tables where there are none, and to give those of an earlier release what
            :func:`additions` returns. ``False``: only your own tool does.
        max_events: of the hub.
        max_age: of an event, in seconds.
        max_bytes: of payload in the hub. An event of 100 bytes takes about 250 in PostgreSQL.
        per_topic: the limits of each topic; or several, by pattern: the longest that matches a topic counts.
        poll_interval: seconds after which a follower looks for events without a wake-up. Wake-ups get lost with
            connections, and don't come through a pooler in transaction mode.
        reply_within: seconds to wait for a connection, for an answer and for a lock. Anything slower counts as failed.
        retry_for: seconds for which a failed call is tried again before its caller gets the error.
        clock: the time in seconds since 1970, for ``max_age``. The default, ``None``, is the server's clock.
        remember_keys: seconds for which the key of an append is remembered at least.
    """

    def __init__(
        self,
        conninfo: str,
        *,
        listen_conninfo: str | None = None,
        name: str = "sse_trio",
        schema: str = "sse_trio",
        migrate: bool = True,
        max_events: int | None = 1_000_000,
        max_age: float | None = None,
        max_bytes: int | None = 1024 * 1024 * 1024,
        per_topic: PerTopic = Retention(),  # noqa: B008 -- frozen
        poll_interval: float = 0.5,
        reply_within: float = 10.0,
        retry_for: float = 10.0,
        clock: Callable[[], float] | None = None,
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        super().__init__()
        self._limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
        self._topic_limits = TopicLimits(per_topic, self._limits)
        check_wait("poll_interval", poll_interval, least=_SHORTEST_POLL)
        check_wait("reply_within", reply_within, least=_SHORTEST_WAIT)
        check_wait("retry_for", retry_for, least=0)
        check_flag("migrate", migrate)
        if clock is not None:
            check_clock(clock)
        self._clock = clock
        self._remember_keys = check_remember_keys(remember_keys)
        self._server = PostgresServer(conninfo, schema=schema, reply_within=reply_within)
        self._listen_at = self._server
        if listen_conninfo is not None:
            self._listen_at = PostgresServer(
                listen_conninfo, schema=schema, reply_within=reply_within, argument="listen_conninfo"
            )
        self._hub = check_hub_name(name)
        self._migrate = migrate
        self._poll_interval = poll_interval
        self._retry_for = retry_for
        self._statement = Statement(self._server.schema)
        self._outage = Outage()
        self._commits = GroupCommit()
        self._epoch = ""

    def __repr__(self) -> str:
        return f"<PostgresStore {self._hub!r} in {self._server.name}: {self._lifetime()}>"  # no user, no password

    @property
    def epoch(self) -> str:
        """The name of the history. It changes while the store is open if the server loses its events."""
        return self._epoch

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        self._write_limiter = CapacityLimiter(1)
        self._read_limiter = CapacityLimiter(1)
        self._appender = self._open_appender()
        self._writer = self._new_writer()
        self._reading = Link(self._server)
        self._reader = PostgresReader(self._server, self._hub, self._writer.failovers)
        try:
            await self._in_thread(self._prepare, self._write_limiter)
            async with open_service_group() as task_group:
                task_group.start_soon(self._commits.run, self._commit)
                task_group.start_soon(self._maintain)
                yield
        finally:
            with CancelScope(shield=True):
                await self._in_thread(self._appender.close, self._write_limiter)
                await self._in_thread(self._reading.close, self._read_limiter)

    def _prepare(self) -> None:
        self._appender.prepare()
        self._epoch = self._reader.epoch_of(self._reading.get())

    def _new_writer(self) -> PostgresWriter:
        return PostgresWriter(
            self._server,
            self._hub,
            self._limits,
            self._topic_limits,
            self._clock,
            self._remember_keys,
            self._retry_for,
        )

    def _open_appender(self) -> PostgresAppender:
        return PostgresAppender(self._server, self._new_writer(), migrate=self._migrate)

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
        found = await self._read(lambda: self._reader.held(self._reading.get(), topic))
        return next(iter(_as_held(*found)), None)

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_held_due(prefix, limit)
        return _as_held(*await self._read(lambda: self._reader.held_due(self._reading.get(), prefix, limit)))

    async def _commit(self, group: Sequence[Append]) -> list[Result]:
        sent = self._appender.new_group(group)
        results = await self._try(lambda: self._appender.append(sent), self._write_limiter)
        self._epoch = next((ids[0].epoch for ids in results if isinstance(ids, list) and ids), self._epoch)
        return results

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read(topics, after, limit)
        page = await self._read(lambda: self._reader.read(self._reading.get(), topics, after, limit))
        return unexpired(page, self.expiry_clock())

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read_last(topics, count)

        async def read(asked: int) -> Page:
            self._check_open()  # also before it reads again
            return await self._read(lambda: self._reader.read_last(self._reading.get(), topics, asked))

        return await read_last(read, count, self.expiry_clock)

    def expiry_clock(self) -> float:
        """See :class:`ExpiringStore`: the store's ``clock``, or that of this machine."""
        return time.time() if self._clock is None else self._clock()

    async def _read(self, work: Callable[[], _T]) -> _T:
        return await self._try(work, self._read_limiter)

    @asynccontextmanager
    async def follow(self, after: EventId) -> AsyncGenerator[AsyncIterator[Page]]:
        """See :class:`EventStore`. Each follower has its own connection and thread."""
        self._check_open()
        check_follow(after)
        follower = self._new_follower()
        try:
            yield Follower(follower.wait_page, after)
        finally:
            await follower.aclose()

    def _new_follower(self) -> PostgresFollower:
        return PostgresFollower(
            self._listen_at,
            self._hub,
            self._writer,
            self._in_thread,
            self._outage,
            self._check_open,
            poll_interval=self._poll_interval,
        )

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
        """Publish an event in a transaction of your own: it exists if and only if that transaction commits.

        The event gets its id after the commit, in the order of the commits, so that no reader misses it; a transaction
        that stays open delays no other event. The store need not be open. This runs one statement on your connection;
        commit, or roll back, as always.

        Args:
            connection: a connection to the store's database, which has your tables: of psycopg, of asyncpg, of
                SQLAlchemy (a ``Connection`` or a ``Session``), or of Django (``django.db.connection``). With an
                asynchronous one, write ``await store.publish_in(...)``.
            topic: as in ``hub.publish()``.
            event: as in ``hub.publish()``.
            key: as in ``hub.publish()``. An event whose key was used before is dropped when its turn comes.
            ttl: as in ``hub.publish()``: seconds from this call, not from the commit.

        Raises:
            ValueError, TypeError: a bad topic, event, key or ttl, or a connection of another kind. The caller's fault.
        """
        (item,) = with_ttl([pack_item(topic, event)], ttl, self.expiry_clock)
        return execute(connection, self._statement, self._hub, item, check_key(key_of(key)))

    async def _maintain(self) -> None:
        seconds = maintenance_interval(self._topic_limits.span[0])
        while True:
            try:
                while await self._try(self._appender.maintain, self._write_limiter):
                    pass
                while await self._try(self._appender.sweep, self._write_limiter):
                    pass
            except StoreUnavailableError as exc:
                _logger.warning("%s; nothing was trimmed by age", exc)
            await sleep(seconds)

    async def _try(self, work: Callable[[], _T], limiter: CapacityLimiter) -> _T:
        """Run ``work`` until it is answered, for ``retry_for`` seconds at most."""
        backoff, until = Backoff(), current_time() + self._retry_for
        while True:
            try:
                return await self._in_thread(work, limiter)
            except StoreUnavailableError as exc:
                pause = backoff.next_pause()
                if not is_transient(exc.__cause__) or current_time() + pause > until:
                    raise
                self._outage.note(exc, "trying again")
            await sleep(pause)
            self._check_open()  # or a new connection would outlive the store

    async def _in_thread(self, work: Callable[[], _T], limiter: CapacityLimiter) -> _T:
        """Run ``work`` to its end, even if the caller is cancelled."""
        try:
            return await to_thread.run_sync(work, limiter=limiter)
        except FAILURES as exc:
            raise StoreUnavailableError(self._server.name, exc) from exc


def _as_held(epoch: str, records: Sequence[Record]) -> list[Held]:
    return [Held(topic, token, value, due_in, EventId(epoch, upto)) for topic, token, value, due_in, upto in records]


opener_of: Callable[[PostgresStore], Callable[[], PostgresAppender]] = attrgetter("_open_appender")
"""What appends as this store does, for a Publisher. The store need not be open."""
name_of: Callable[[PostgresStore], str] = attrgetter("_server.name")
"""The server of a store, for messages."""
