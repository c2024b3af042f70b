# Requests of many tasks, sent one after another over a client that is replaced when it fails (client.py, rule 1).
#
# Rule 1: the cancellation of a caller never reaches a connection; only the task that owns the connection is cancelled,
#         when the store closes. A caller waits for an answer and may stop waiting.
# Rule 2: a request may be sent again. A read changes nothing, and the script that appends recognizes a group that it
#         has had.

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar, final

from anyio import ClosedResourceError, Event, current_time, sleep
from coredis import Redis

from ..._errors import StoreUnavailableError
from .backoff import CHECK_AFTER, Backoff
from .client import RedisServer, is_unavailable

__all__ = ("RedisWorker",)

_logger = logging.getLogger("sse_trio")
_T = TypeVar("_T")


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

    def __init__(self, server: RedisServer, *, retry_for: float, appends: bool = False) -> None:
        self._server = server
        self._appends = appends
        self._retry_for = retry_for
        self._requests: deque[_Request] = deque()
        self._arrived = Event()
        self._backoff = Backoff()
        self._is_closed = False

    async def call(self, send: Callable[[Redis[bytes]], Awaitable[_T]], *, retry_for: float | None = None) -> _T:
        """Return what ``send(client)`` returns. It may be run several times.

        Raises:
            StoreUnavailableError: after ``retry_for`` seconds of failures; with 0 after the first.
            ClosedResourceError: the store was closed meanwhile.

        Cancellation: a request that was sent is finished all the same.
        """
        if self._is_closed:
            raise _closed()
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
                    async with self._server.connect(appends=self._appends) as client:
                        await self._serve(client)
                except Exception as exc:
                    if not is_unavailable(exc):
                        raise
                    self._expire(exc)
                    await sleep(self._backoff.next_pause())
        finally:
            self._is_closed = True
            for request in self._requests:
                request.fail(_closed())

    async def _serve(self, client: Redis[bytes]) -> None:
        checked_at, check_after = current_time(), min(CHECK_AFTER, self._server.reply_within)
        while True:
            await self._arrived.wait()
            if current_time() - checked_at > check_after:
                await self._server.check(client)
                checked_at = current_time()
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


def _closed() -> ClosedResourceError:
    return ClosedResourceError("the store was closed")
