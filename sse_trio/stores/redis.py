# The store for several machines: Redis or Valkey, through coredis. Needs the extra `redis`.
#
# Rule 1: three clients, each with one connection and one task that owns it: one appends, one reads history, one
#         follows. If one of them blocks or fails, the others don't wait.
# Rule 2: a group of appends is sent until it is answered, and appended once: see _redis/scripts/. So a lost
#         connection only costs publishers time; after `retry_for` seconds they get the error.
# Rule 3: each connection tells the hub which server it is on (ADOPT in _redis/scripts/) before it does anything else.
#         Where the primary can change (Sentinel, Cluster), it finds it anew, and a follower that hears nothing, and a
#         client that was idle, look whether it is still the same.
# Rule 4: a follower reads the hub's log, where only a hole in the numbers can mean a loss, and runs a script to learn
#         what the hole means. It also runs the script after a time without events, since a deleted history is silent.

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count
from typing import final

from anyio import ClosedResourceError, create_memory_object_stream, sleep
from anyio.streams.memory import MemoryObjectSendStream
from coredis import Redis
from coredis.exceptions import AuthorizationError, ResponseError

from .._arguments.checks import check_any_function, check_count, check_instance
from .._errors import StoreUnavailableError
from ._append import Append, Result
from ._arguments import check_clock, check_follow, check_items, check_key, check_read, check_read_last, check_wait
from ._expiry import read_last, unexpired
from ._follower import ALL_TOPICS, FOLLOWED_AT_ONCE
from ._group_commit import GroupCommit
from ._holds import Claim, Held, OnHeldDone, check_claim, check_held_due
from ._lifetime import OpenedOnce, open_service_group
from ._protocol import EventId, Page
from ._redis.backoff import Backoff
from ._redis.client import Credentials, RedisServer, is_unavailable
from ._redis.log import RedisLog
from ._redis.name import check_hub_name
from ._redis.worker import RedisWorker
from ._retention import KEY_SECONDS, Retention, check_remember_keys, maintenance_interval
from ._topic_limits import PerTopic, TopicLimits
from ._topics import TopicFilter, check_topic

__all__ = ("RedisStore",)

_SHORTEST_WAIT = 0.001  # seconds: Redis counts milliseconds, and takes 0 to mean for ever

_logger = logging.getLogger("sse_trio")


@final
class RedisStore(OpenedOnce):
    """Keeps events in Redis 6.2 or newer, or Valkey; any number of machines share a hub.

    Durable to: what the server is configured for. With ``appendonly yes`` and ``appendfsync always`` an acknowledged
    event survives a loss of power, with ``everysec`` about the last second may not; without ``appendonly`` a restart
    loses everything. Replication is asynchronous: a failover can lose acknowledged events, unless ``wait_replicas``
    has waited for them. The store notices each such loss, and exactly the subscribers that have missed something get a
    gap. Set ``maxmemory-policy noeviction``.

    Behind Sentinel, and in a Cluster, the store goes on with the new primary by itself. A primary that is gone is
    noticed within ``reply_within`` seconds; so is one that was replaced, by followers, and by publishers in a second.

    Args:
        url: ``redis://[user[:password]@]host[:port][/db]``, ``rediss://`` for TLS, or ``unix://path``;
            ``sentinel://[user[:password]@]host[:port][,host[:port]...]/service[/db]``, with the sentinels' hosts and
            the server's user; or ``cluster://[user[:password]@]host[:port][,host[:port]...]``, with some of its nodes.
            ``sentinels://`` and ``clusters://`` for TLS. User and password are percent-encoded.
        name: of the hub; all its keys begin with it, in braces.
        max_events: of the hub.
        max_age: of an event, in seconds.
        max_bytes: of payload in the hub. An event of 100 bytes takes about 200 in Redis.
        per_topic: the limits of each topic; or several, by pattern: the longest that matches a topic counts.
        reply_within: seconds to wait for a connection and for each answer. Anything slower counts as failed.
        retry_for: seconds for which a failed call is tried again before its caller gets the error.
        ssl_context: for TLS; the default one verifies the server's certificate and name.
        credentials: an async or ordinary function that returns a user (or ``None``) and a password. It is called for
            each connection, so a password may be a token that expires. If it raises, the call is tried again.
        sentinel_credentials: the same for the sentinels, which have users of their own; ``None`` if they want none.
        wait_replicas: how many replicas must have an event before it is acknowledged (Redis' ``WAIT``). If they don't
            within ``reply_within`` seconds, the publisher's call is tried again, and fails after ``retry_for``; the
            event may exist all the same.
        clock: the time in seconds since 1970, for ``max_age``. It should agree between the machines: if
            one is ahead, events go early.
        remember_keys: seconds for which the key of an append is remembered at least.
    """

    def __init__(
        self,
        url: str,
        *,
        name: str = "sse_trio",
        max_events: int | None = 100_000,
        max_age: float | None = None,
        max_bytes: int | None = 256 * 1024 * 1024,
        per_topic: PerTopic = Retention(),  # noqa: B008 -- frozen
        reply_within: float = 5.0,
        retry_for: float = 10.0,
        ssl_context: ssl.SSLContext | None = None,
        credentials: Credentials | None = None,
        sentinel_credentials: Credentials | None = None,
        wait_replicas: int = 0,
        clock: Callable[[], float] = time.time,
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        super().__init__()
        limits = Retention(max_events=max_events, max_age=max_age, max_bytes=max_bytes)
        topic_limits = TopicLimits(per_topic, limits)
        self._shortest_age = topic_limits.span[0]
        check_wait("reply_within", reply_within, least=_SHORTEST_WAIT)
        check_wait("retry_for", retry_for, least=0)
        _check_ssl_context(ssl_context)
        check_count("wait_replicas", wait_replicas, least=0)
        _check_credentials("credentials", credentials)
        _check_credentials("sentinel_credentials", sentinel_credentials)
        check_clock(clock)
        self._clock = clock
        self._name = check_hub_name(name)
        self._wait_replicas = wait_replicas
        self._log = RedisLog(name, limits, topic_limits, clock, check_remember_keys(remember_keys), retry_for)
        self._server = RedisServer(
            url,
            key=self._log.key,
            adopt=self._log.adopt,
            reply_within=reply_within,
            ssl_context=ssl_context,
            credentials=credentials,
            sentinel_credentials=sentinel_credentials,
        )
        self._writer = RedisWorker(self._server, retry_for=retry_for, appends=True)
        self._reader = RedisWorker(self._server, retry_for=retry_for)
        self._commits = GroupCommit()
        self._group_numbers = count(1)

    def __repr__(self) -> str:
        return f"<RedisStore {self._name!r} in {self._server.name}: {self._lifetime()}>"  # no user, no password

    @property
    def epoch(self) -> str:
        """The name of the history. It changes while the store is open if the server loses its events."""
        return self._log.epoch

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[None]:
        async with open_service_group() as task_group:
            task_group.start_soon(self._writer.run)
            task_group.start_soon(self._reader.run)
            await self._reader.call(self._inspect, retry_for=0)
            task_group.start_soon(self._commits.run, self._commit)
            task_group.start_soon(self._maintain)
            yield

    async def _inspect(self, client: Redis[bytes]) -> None:
        await self._log.read_last(client, ALL_TOPICS, 0)
        try:
            memory, persistence = await client.info("memory"), await client.info("persistence")
        except (AuthorizationError, ResponseError) as exc:
            _logger.warning(
                "%s does not show its configuration (%s); make sure that it has maxmemory-policy noeviction and "
                "appendonly yes",
                self._server.name,
                exc,
            )
            return
        if memory.get("maxmemory_policy") != "noeviction":
            _logger.warning("%s may evict a hub's keys; set maxmemory-policy noeviction", self._server.name)
        if not persistence.get("aof_enabled"):
            _logger.warning("%s loses all events at a restart; set appendonly yes", self._server.name)

    async def append(self, items: Sequence[tuple[str, bytes]], *, key: tuple[str, int] | None = None) -> list[EventId]:
        """See :class:`EventStore`."""
        self._check_open()
        return await self._commits.append(check_items(items), check_key(key))

    async def append_held(self, items: Sequence[tuple[str, bytes]], claim: Claim) -> list[EventId]:
        """See :class:`HoldingStore`."""
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
        found = await self._reader.call(lambda client: self._log.held(client, "one", topic))
        return found[0] if found else None

    async def held_due(self, prefix: str, *, limit: int = 100) -> list[Held]:
        """See :class:`HoldingStore`."""
        self._check_open()
        check_held_due(prefix, limit)
        return await self._reader.call(lambda client: self._log.held(client, "due", prefix, limit))

    async def _commit(self, group: Sequence[Append]) -> list[Result]:
        number = next(self._group_numbers)

        async def append(client: Redis[bytes]) -> list[Result]:
            if not self._wait_replicas:
                return await self._log.append(client, group, number)
            # Half of the time for an answer, or the connection would be given up first.
            with client.ensure_replication(self._wait_replicas, round(self._server.reply_within * 500)):
                return await self._log.append(client, group, number)

        return await self._writer.call(append)

    async def read(self, topics: TopicFilter, after: EventId | Page | None, *, limit: int = 256) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read(topics, after, limit)
        page = await self._reader.call(lambda client: self._log.read(client, topics, after, limit))
        return unexpired(page, self._clock())

    async def read_last(self, topics: TopicFilter, count: int) -> Page:
        """See :class:`EventStore`."""
        self._check_open()
        check_read_last(topics, count)

        async def read(asked: int) -> Page:
            self._check_open()  # also before it reads again
            return await self._reader.call(lambda client: self._log.read_last(client, topics, asked))

        return await read_last(read, count, self._clock)

    def expiry_clock(self) -> float:
        """See :class:`ExpiringStore`: the store's ``clock``."""
        return self._clock()

    @asynccontextmanager
    async def follow(self, after: EventId) -> AsyncGenerator[AsyncIterator[Page]]:
        """See :class:`EventStore`. Each follower has its own connection."""
        self._check_open()
        check_follow(after)
        send_stream, receive_stream = create_memory_object_stream[Page](0)
        async with send_stream, receive_stream, open_service_group() as task_group:
            task_group.start_soon(self._follow, send_stream, after)
            yield receive_stream

    async def _follow(self, send_stream: MemoryObjectSendStream[Page], after: EventId) -> None:
        backoff = Backoff()
        last: EventId | Page = after
        while True:
            try:
                async with self._server.connect(block=self._server.reply_within) as client:
                    page = await self._log.read(client, ALL_TOPICS, last, FOLLOWED_AT_ONCE)
                    while True:
                        backoff.reset()
                        if page.events or page.gap:
                            await send_stream.send(page)
                            last = page
                        page = await self._next_page(client, last)
            except Exception as exc:
                if not is_unavailable(exc):
                    raise
                if backoff.failures == 0:
                    _logger.warning("following %s failed (%r); connecting again", self._server.name, exc)
            await sleep(backoff.next_pause())

    async def _next_page(self, client: Redis[bytes], after: EventId | Page) -> Page:
        page = await self._log.wait_page(client, after, self._server.reply_within)
        if page is not None:
            return page
        await self._server.check(client)
        return await self._log.read(client, ALL_TOPICS, after, FOLLOWED_AT_ONCE)

    async def _maintain(self) -> None:
        while True:  # also without max_age: other programs may write events and trim none (docs/store-format.md)
            try:
                while await self._writer.call(self._log.maintain):
                    pass
            except StoreUnavailableError as exc:
                _logger.warning("%s; nothing was trimmed by age", exc)
            except ClosedResourceError:
                return  # the store is being closed, and the writer has heard of it first
            await sleep(maintenance_interval(self._shortest_age))


def _check_credentials(name: str, credentials: object) -> None:
    if credentials is not None:
        check_any_function(name, credentials, "a function that returns a user and a password, or None")


def _check_ssl_context(ssl_context: ssl.SSLContext | None) -> None:
    if ssl_context is not None:
        wanted = "an ssl.SSLContext, such as ssl.create_default_context(), or None"
        check_instance("ssl_context", ssl_context, ssl.SSLContext, wanted)
