# Where the server is, and clients of it. Each client is owned by one task (worker.py), and replaced after any error.
#
# Rule 1: coredis 6.9 loses a slot of its pool with every blocking command that is cancelled and every connection that
#         breaks during one; after 64 of those a client hangs for ever. So a client serves one task, and after an error
#         a new client replaces it.
# Rule 2: coredis must not retry, because it can't know what may be sent twice.
# Rule 3: every wait has a limit. coredis waits for ever by default, and a connection can die without notice.
# Rule 4: each connection begins with `adopt`, before anything is sent on it. At any address there may be another server
#         than before, or the same one with less than it had: a restart, a failover behind a name. So a client has one
#         connection, and ends with it: coredis would open another by itself, perhaps to a server that was the primary,
#         was killed, and is a replica now with what it had long ago (primary.py).

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from inspect import isawaitable
from typing import Any, TypeAlias, TypedDict, cast, final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream
from coredis import Redis
from coredis.connection import BaseConnection, TCPLocation
from coredis.exceptions import AuthorizationError, RedisError, ResponseError
from coredis.exceptions import ConnectionError as CoredisConnectionError
from coredis.pool import ConnectionPool
from coredis.retry import NoRetryPolicy

from .._lifetime import bare_errors
from .credentials import LogIn, has_raised, has_returned, is_log_in
from .primary import Node, NotPrimaryError, check_role, find_primary
from .url import check_sentinel_credentials, parse_redis_url

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ("Adopt", "Credentials", "RedisServer", "is_unavailable")

_FAILURES = (RedisError, OSError, BrokenResourceError, ClosedResourceError, EndOfStream)


def is_unavailable(exc: BaseException) -> bool:
    """Whether the server or the network failed, and nothing in this process."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_unavailable(one) for one in cast("BaseExceptionGroup[BaseException]", exc).exceptions)
    return isinstance(exc, _FAILURES)


Credentials: TypeAlias = "Callable[[], LogIn | Awaitable[LogIn]]"
"""Returns a user, or None for the default one, and a password. Asked at each connection."""

Adopt: TypeAlias = "Callable[[Redis[bytes], str], Awaitable[None]]"
"""Tells the hub on which server it is, by its replication id."""


@final
class _OneConnection(ConnectionPool[Any]):
    """A pool whose connection is not replaced when it is lost."""

    _only: BaseConnection | None = None

    async def get_connection(self, **options: Any) -> Any:
        connection = await super().get_connection(**options)
        self._only = self._only or connection
        if connection is not self._only:
            self.release(connection)
            raise CoredisConnectionError("the server closed the connection")
        return connection


class _Endpoint(TypedDict, total=False):
    host: str
    port: int
    unix_socket_path: str
    ssl_context: ssl.SSLContext


class _User(TypedDict):
    username: str | None
    password: str | None


class CredentialsError(RedisError):
    """The user's `credentials` or `sentinel_credentials` failed."""


async def _nobody() -> _User:
    return {"username": None, "password": None}


async def _ask(name: str, credentials: Credentials) -> _User:
    try:
        asked = credentials()
        answer: object = await asked if isawaitable(asked) else asked
    except Exception as exc:  # whatever it asks may be down; a call is tried again, as if the server were
        raise CredentialsError(has_raised(name, exc)) from exc
    if not is_log_in(answer):
        raise CredentialsError(has_returned(name, answer))
    return {"username": answer[0], "password": answer[1]}


def _asking(name: str, credentials: Credentials | None) -> Callable[[], Awaitable[_User]] | None:
    return None if credentials is None else partial(_ask, name, credentials)


@final
class RedisServer:
    """Where the server is, and how to talk to it.

    Args:
        url: see :func:`parse_redis_url`.
        key: one of the hub's, by which a cluster finds its node.
        adopt: called with each new client before anything else is.
        reply_within: seconds to wait for a connection, and for an answer.
        ssl_context: for TLS; the default one verifies the server's certificate and name.
        credentials: returns who logs in; None for who is in the URL.
        sentinel_credentials: the same for the sentinels; None for nobody.
    """

    def __init__(
        self,
        url: str,
        *,
        key: str,
        adopt: Adopt,
        reply_within: float,
        ssl_context: ssl.SSLContext | None,
        credentials: Credentials | None,
        sentinel_credentials: Credentials | None,
    ) -> None:
        self._address = parse_redis_url(url)
        self.name = f"Redis at {self._address.name}"
        self.reply_within = reply_within
        self._key = key
        self._adopt = adopt
        self._user = _asking("credentials", credentials) or self._in_url
        check_sentinel_credentials(self._address, sentinel_credentials)
        self._sentinel_user = _asking("sentinel_credentials", sentinel_credentials) or _nobody
        self._ssl_context = self._find_ssl_context(ssl_context)

    @property
    def can_change(self) -> bool:
        """Whether another server may become the primary."""
        return self._address.kind != "server"

    def _find_ssl_context(self, ssl_context: ssl.SSLContext | None) -> ssl.SSLContext | None:
        if not self._address.tls:
            if ssl_context is not None:
                msg = "ssl_context must be None without TLS; got an SSLContext; write rediss:// in url for TLS"
                raise ValueError(msg)
            return None
        # Ours, because the one of coredis doesn't check the server's name.
        return ssl_context or ssl.create_default_context()

    async def _in_url(self) -> _User:
        return {"username": self._address.username, "password": self._address.password}

    @asynccontextmanager
    async def connect(self, *, block: float = 0.0, appends: bool = False) -> AsyncGenerator[Redis[bytes]]:
        """Open a client with one connection.

        Args:
            block: seconds for which a command may block in the server.
            appends: whether events are appended on it, before which the hub must be told.
        """
        node = await self._find_node()
        async with self._open(node, await self._user(), self._address.db, block) as client:
            if self.can_change:
                await check_role(client)
            replication_id = await self._replication_id(client)
            if replication_id is not None:
                await self._tell(client, replication_id, must=self.can_change or appends)
            yield client

    async def _tell(self, client: Redis[bytes], replication_id: str, *, must: bool) -> None:
        try:
            await self._adopt(client, replication_id)
        except ResponseError:
            if must:
                raise
            # A server whose memory is full takes nothing in, and is read all the same.

    async def _replication_id(self, client: Redis[bytes]) -> str | None:
        try:
            found = (await client.info("replication")).get("master_replid")
        except (AuthorizationError, ResponseError):
            if self.can_change:
                raise
            return None  # a single server that may not be asked is believed to keep what it has
        return None if found is None else str(found)

    async def check(self, client: Redis[bytes]) -> None:
        """Raise NotPrimaryError if another server has become the primary. It asks nobody where that can't be."""
        if self.can_change:
            await check_role(client)
            try:
                found = await self._find_node()
            except _FAILURES:
                return  # without sentinels, the primary that is known goes on
            if client.connection_pool.location != TCPLocation(*(found or ("", 0))):
                raise NotPrimaryError(f"another server is the primary now: {found}")

    async def _find_node(self) -> Node | None:
        if not self.can_change:
            return None if self._address.path else self._address.nodes[0]
        # A sentinel has other users than the server.
        user = await (self._user() if self._address.kind == "cluster" else self._sentinel_user())
        return await find_primary(self._address, lambda node: self._open(node, user), self._key)

    def _endpoint(self, node: Node | None) -> _Endpoint:
        if node is None:
            return {"unix_socket_path": self._address.path}
        endpoint: _Endpoint = {"host": node[0], "port": node[1]}
        if self._ssl_context is not None:
            endpoint["ssl_context"] = self._ssl_context
        return endpoint

    @asynccontextmanager
    async def _open(
        self, node: Node | None, user: _User, db: int = 0, block: float = 0.0
    ) -> AsyncGenerator[Redis[bytes]]:
        client: Redis[bytes] = Redis(
            **self._endpoint(node),
            **user,
            db=db,
            verify_version=False,  # a version of Valkey or of a managed service says nothing
            retry_policy=NoRetryPolicy(),
            connection_pool_cls=_OneConnection,
            max_connections=1,
            pool_timeout=self.reply_within,
            connect_timeout=self.reply_within,
            stream_timeout=self.reply_within + block,
        )
        with bare_errors():
            async with client:
                yield client
