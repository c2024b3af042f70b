# Following a hub: one connection that reads in a thread, and listens in between.
#
# Rule 1: NOTIFY is a wake-up and never carries an event. First LISTEN, then read: what is appended after the read
#         wakes.
# Rule 2: a wake-up may get lost, with a connection or behind a pooler. So the follower looks every `poll_interval`
#         seconds in any case, and makes its connection anew if it finds something of which it was not told. It keeps
#         the next one until a wake-up comes, and always one to a pooler: another would be one to the pooler, too.
# Rule 3: a follower never fails because of the server; it tries again.
# Rule 4: whoever follows moves what users have published in their transactions to the log.

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, final

from anyio import CancelScope, CapacityLimiter, move_on_after, sleep, wait_readable

from ..._errors import StoreUnavailableError
from .._follower import ALL_TOPICS, FOLLOWED_AT_ONCE
from .._outage import Outage
from .._protocol import EventId, Page
from .._redis.backoff import Backoff
from .appender import Link
from .connection import FAILURES, PostgresConnection, PostgresServer
from .names import channel_of
from .reader import PostgresReader
from .writer import PostgresWriter

__all__ = ("PostgresFollower",)

_UNTOLD_IN_A_ROW = 3  # pages; one or two are chance: a look that was due just before the wake-up
_NO_WAKE_UPS = (
    "no wake-ups come from %s, so events are up to %g s late; if a pooler in transaction mode is in between, "
    "pass listen_conninfo= with the address of the server itself"
)

_logger = logging.getLogger("sse_trio")
_T = TypeVar("_T")


class _RunInThread(Protocol):
    def __call__(self, work: Callable[[], _T], limiter: CapacityLimiter, /) -> Awaitable[_T]: ...


@final
class PostgresFollower:
    """Waits for what any process appends to the hub."""

    def __init__(
        self,
        server: PostgresServer,
        hub: str,
        writer: PostgresWriter,
        run_in_thread: _RunInThread,
        outage: Outage,
        check_open: Callable[[], None],
        *,
        poll_interval: float,
    ) -> None:
        self._link = Link(server)
        self._name = server.name
        self._channel = channel_of(server.schema, hub)
        self._reader = PostgresReader(server, hub, writer.failovers)
        self._writer = writer
        self._run_in_thread = run_in_thread
        self._outage = outage
        self._check_open = check_open
        self._poll_interval = poll_interval
        self._limiter = CapacityLimiter(1)
        self._backoff = Backoff()
        self._listening: PostgresConnection | None = None
        self._is_told = False
        self._untold = 0
        self._is_anew = False  # the connection was made because no wake-ups came, and none has come since
        self._is_pooled = False
        self._has_warned = False

    async def wait_page(self, after: EventId | Page) -> Page:
        """Return the next page that is not empty, however long the server is gone."""
        told: bool | None = None  # nothing was waited for yet
        while True:
            self._check_open()
            try:
                page = await self._run_in_thread(lambda: self._read(after), self._limiter)
            except StoreUnavailableError as exc:
                self._outage.note(exc, "trying again")
                await sleep(self._backoff.next_pause())
                continue
            self._outage.end()
            self._backoff.reset()
            if page.events or page.gap:
                self._writer.failovers.note(page.next)
                if told is not None:
                    self._count(told=told or self._is_told)
                return page
            told = await self._wait()

    def _read(self, after: EventId | Page) -> Page:
        connection = self._listen()
        self._is_told = False
        page = self._reader.read(connection, ALL_TOPICS, after, FOLLOWED_AT_ONCE)
        if page.events or page.gap or not self._reader.has_waiting:
            return page
        self._writer.move(connection)
        return self._reader.read(connection, ALL_TOPICS, after, FOLLOWED_AT_ONCE)

    def _listen(self) -> PostgresConnection:
        connection = self._link.get()
        if connection is not self._listening:
            connection.add_notify_handler(self._tell)
            connection.run(f"LISTEN {self._channel}")
            self._listening, self._is_pooled = connection, connection.is_pooled
            self._untold = 0
        return connection

    def _tell(self, _notification: object) -> None:
        self._is_told = True

    async def _wait(self) -> bool:
        """Wait for a wake-up, or for the time of the next look. Returns whether there was a wake-up."""
        assert self._listening is not None
        try:
            with move_on_after(self._poll_interval):
                while not self._hear(self._listening):
                    await wait_readable(self._listening.fileno())
        except FAILURES:
            self._listening.close()  # the next read makes another one
        return self._is_told

    def _hear(self, connection: PostgresConnection) -> bool:
        """Take the notifications that have come, and say whether there were any since the read. Never waits."""
        connection.pgconn.consume_input()
        while connection.pgconn.notifies():
            self._is_told = True
        return self._is_told

    def _count(self, *, told: bool) -> None:
        """Count the pages in a row that were found without a wake-up, and connect anew after some, once."""
        self._untold = 0 if told else self._untold + 1
        self._is_anew = self._is_anew and not told
        if self._untold == _UNTOLD_IN_A_ROW:
            self._warn()
            if not self._is_anew and not self._is_pooled:
                self._is_anew = True
                self._link.close()

    def _warn(self) -> None:
        if not self._has_warned:
            self._has_warned = True
            _logger.warning(_NO_WAKE_UPS, self._name, self._poll_interval)

    async def aclose(self) -> None:
        """Close the connection, even when cancelled."""
        with CancelScope(shield=True):
            await self._run_in_thread(self._link.close, self._limiter)
