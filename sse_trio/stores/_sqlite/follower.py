# Following the file, with a connection, a thread and a socket for each follower.
#
# Rule 1: a follower never fails because of the disk; it tries again. That includes opening its files, which may be
#         locked or gone, so it opens them at its first read.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, final

from anyio import CancelScope, CapacityLimiter, sleep

from ..._errors import StoreUnavailableError
from .._follower import ALL_TOPICS, FOLLOWED_AT_ONCE
from .._outage import Outage
from .._protocol import EventId, Page
from .file import open_file
from .reader import SQLiteReader
from .wake import WakeSocket

__all__ = ("SQLiteFollower",)

_T = TypeVar("_T")


class _RunInThread(Protocol):
    def __call__(self, work: Callable[[], _T], limiter: CapacityLimiter, /) -> Awaitable[_T]: ...


@final
class SQLiteFollower:
    """Waits for what any process appends to the file."""

    def __init__(
        self,
        path: str,
        mode: int,
        run_in_thread: _RunInThread,
        outage: Outage,
        check_open: Callable[[], None],
        move: Callable[[], Awaitable[object]],
        *,
        poll_interval: float,
    ) -> None:
        self._path = path
        self._mode = mode
        self._run_in_thread = run_in_thread
        self._outage = outage
        self._check_open = check_open
        self._move = move
        self._poll_interval = poll_interval
        self._limiter = CapacityLimiter(1)
        self._reader: SQLiteReader | None = None
        self._wake: WakeSocket | None = None

    async def wait_page(self, after: EventId | Page) -> Page:
        """Return the next page that is not empty, however long the file is locked, broken or gone."""
        while True:
            self._check_open()
            try:
                page = await self._run_in_thread(lambda: self._read(after), self._limiter)
                if page is None:
                    await self._move()
                    continue
            except StoreUnavailableError as exc:
                self._outage.note(exc, "trying again")
                await sleep(self._poll_interval)
                continue
            self._outage.end()
            if page.events or page.gap:
                return page
            assert self._wake is not None
            await self._wake.wait(self._poll_interval)

    def _read(self, after: EventId | Page) -> Page | None:
        """Return a page, or None if there is nothing new but what waits in the outbox."""
        if self._wake is None:
            self._wake = WakeSocket(self._path, self._mode)
        if self._reader is None:
            self._reader = SQLiteReader(*open_file(self._path, self._mode))
        page = self._reader.read(ALL_TOPICS, after, FOLLOWED_AT_ONCE)
        return None if not page.events and not page.gap and self._reader.has_waiting() else page

    async def aclose(self) -> None:
        """Close the connection and the socket, even when cancelled."""
        with CancelScope(shield=True):
            await self._run_in_thread(self._close, self._limiter)

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.connection.close()
        if self._wake is not None:
            self._wake.close()
