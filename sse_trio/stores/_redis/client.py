# Redis clients. Each is owned by one task, and replaced after any error.
#
# Rule 1: coredis 6.9 loses a slot of its pool with every blocking command that is cancelled and every connection that
#         breaks during one; after 64 of those a client hangs for ever. So a client serves one task, and after an error
#         a new client replaces it.
# Rule 2: the cancellation of a caller never reaches a connection; only the task that owns the connection is cancelled,
#         when the store closes. A caller waits for an answer and may stop waiting.
# Rule 3: coredis must not retry, because it can't know what may be sent twice. The requests here may be: a read changes
#         nothing, and the script that appends recognizes a group that it has had.
# Rule 4: every wait has a limit. coredis waits for ever by default, and a connection can die without notice.

from __future__ import annotations

import logging
import random
import ssl
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypedDict, TypeVar, cast, final

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream, Event, current_time, sleep
from coredis import Redis
from coredis.exceptions import RedisError
from coredis.retry import NoRetryPolicy

from ..._errors import StoreUnavailableError
from .._lifetime import bare_errors
from .url import parse_redis_url

if sys.version_info < (3, 11):
    from exceptiongroup import BaseExceptionGroup

__all__ = ("Backoff", "RedisServer", "RedisWorker", "is_unavailable")

_logger = logging.getLogger("sse_trio")
_T = TypeVar("_T")
_FAILURES = (RedisError, OSError, BrokenResourceError, ClosedResourceError, EndOfStream)


def is_unavailable(exc: BaseException) -> bool:
    """Whether the server or the network failed, and nothing in this process."""
    if isinstance(exc, BaseExceptionGroup):
        return all(is_unavailable(one) for one in cast("BaseExceptionGroup[BaseException]", exc).exceptions)
    return isinstance(exc, _FAILURES)


class _Endpoint(TypedDict, total=False):
    host: str
    port: int
    unix_socket_path: str
    ssl_context: ssl.SSLContext


@final
class RedisServer:
    """Where the server is, and how to talk to it.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``.
        reply_within: seconds to wait for a connection, and for an answer.
        ssl_context: for ``rediss://``; the default one verifies the server's certificate and name.
    """

    def __init__(self, url: str, *, reply_within: float, ssl_context: ssl.SSLContext | None) -> None:
        self._address = parse_redis_url(url)
        self.name = f"Redis at {self._address.name}"
        self.reply_within = reply_within
        self._endpoint = self._find_endpoint(ssl_context)

    def _find_endpoint(self, ssl_context: ssl.SSLContext | None) -> _Endpoint:
        if ssl_context is not None and not self._address.tls:
            raise ValueError("ssl_context must be None without TLS; got an SSLContext; write rediss:// in url for TLS")
        if self._address.path:
            return {"unix_socket_path": self._address.path}
        endpoint: _Endpoint = {"host": self._address.host, "port": self._address.port}
        if self._address.tls:  # our context, because the one of coredis doesn't check the server's name
            endpoint["ssl_context"] = ssl_context or ssl.create_default_context()
        return endpoint

    @asynccontextmanager
    async def connect(self, *, block: float = 0.0) -> AsyncGenerator[Redis[bytes]]:
        """Open a client with one connection. A command may block in the server for ``block`` seconds."""
        client: Redis[bytes] = Redis(
            **self._endpoint,
            db=self._address.db,
            username=self._address.username,
            password=self._address.password,
            verify_version=False,  # a version of Valkey or of a managed service says nothing
            retry_policy=NoRetryPolicy(),
            max_connections=1,
            pool_timeout=self.reply_within,
            connect_timeout=self.reply_within,
            stream_timeout=self.reply_within + block,
        )
        with bare_errors():
            async with client:
                yield client


@final
class Backoff:
    """How long to wait before the next attempt: at once, then longer each time, up to a second."""

    def __init__(self) -> None:
        self.failures = 0

    def reset(self) -> None:
        """Note that an attempt succeeded."""
        self.failures = 0

    async def wait(self) -> None:
        """Note that an attempt failed, and wait. The random part spreads the attempts of several processes."""
        self.failures += 1
        longest = min(1.0, 0.01 * 2**self.failures) if self.failures > 1 else 0.0
        await sleep(longest * random.uniform(0.5, 1.0))  # noqa: S311 -- no secret


@final
class _Request:
    __slots__ = ("answered", "deadline", "error", "is_wanted", "serve")

    def __init__(self, serve: Callable[[Redis[bytes]], Awaitable[None]], deadline: float) -> None:
        self.serve = serve
        self.deadline = deadline
        self.answered = Event()
        self.error: BaseException | None = None
        self.is_wanted = True

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.answered.set()


@final
class RedisWorker:
    """Sends the requests of many tasks, one after another, over its own client."""

    def __init__(self, server: RedisServer, *, retry_for: float) -> None:
        self._server = server
        self._retry_for = retry_for
        self._requests: deque[_Request] = deque()
        self._arrived = Event()
        self._backoff = Backoff()

    async def call(self, send: Callable[[Redis[bytes]], Awaitable[_T]], *, retry_for: float | None = None) -> _T:
        """Return what ``send(client)`` returns. It may be run several times.

        Raises:
            StoreUnavailableError: after ``retry_for`` seconds of failures; with 0 after the first.
            ClosedResourceError: the store was closed meanwhile.

        Cancellation: a request that was sent is finished all the same.
        """
        answers: list[_T] = []

        async def serve(client: Redis[bytes]) -> None:
            answers.append(await send(client))

        request = _Request(serve, current_time() + (self._retry_for if retry_for is None else retry_for))
        self._requests.append(request)
        self._arrived.set()
        try:
            await request.answered.wait()
        finally:
            request.is_wanted = False
        if request.error is not None:
            raise request.error
        return answers[0]

    async def run(self) -> None:
        """Serve requests until cancelled. No caller is left waiting then."""
        try:
            while True:
                await self._arrived.wait()
                try:
                    async with self._server.connect() as client:
                        await self._serve(client)
                except Exception as exc:
                    if not is_unavailable(exc):
                        raise
                    self._expire(exc)
                    await self._backoff.wait()
        finally:
            for request in self._requests:
                request.fail(ClosedResourceError("the store was closed"))

    async def _serve(self, client: Redis[bytes]) -> None:
        while True:
            await self._arrived.wait()
            while self._requests:
                request = self._requests[0]  # it stays first in the queue until it is answered
                if request.is_wanted:
                    await self._serve_one(request, client)
                    self._backoff.reset()
                request.answered.set()
                self._requests.popleft()
            self._arrived = Event()

    async def _serve_one(self, request: _Request, client: Redis[bytes]) -> None:
        try:
            await request.serve(client)
        except Exception as exc:
            if is_unavailable(exc):
                raise
            request.fail(exc)  # not the server's fault, so the caller gets it

    def _expire(self, exc: BaseException) -> None:
        if self._backoff.failures == 0:
            _logger.warning("%s failed (%r); connecting again", self._server.name, exc)
        now = current_time()
        for request in [request for request in self._requests if request.deadline <= now or not request.is_wanted]:
            self._requests.remove(request)
            error = StoreUnavailableError(self._server.name, exc)
            error.__cause__ = exc
            request.fail(error)
        if not self._requests:
            self._arrived = Event()
