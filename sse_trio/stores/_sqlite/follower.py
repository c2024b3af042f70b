# Following the file, with a connection, a thread and a socket for each follower.
#
# Rule 1: a follower never fails because of the disk; it tries again. That includes opening its files, which may be
#         locked or gone, so it opens them at its first read.
# Rule 2: it is handed what its own process appends (handover.py). It reads the file when another process has woken it,
#         and every `poll_interval` besides.
# Rule 3: nothing wakes it when a user's transaction has put events into the outbox. A read that finds nothing new looks
#         there, and has its own process move what waits into the log.

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar, final

from anyio import CancelScope, CapacityLimiter, Event, sleep
from anyio.lowlevel import checkpoint

from ..._errors import StoreUnavailableError
from .._follower import ALL_TOPICS, FOLLOWED_AT_ONCE
from .._outage import Outage
from .._protocol import EventId, Page
from .file import open_file
from .handover import Handover
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
        spared: set[str],
        move: Callable[[], Awaitable[object]],
        *,
        poll_interval: float,
    ) -> None:
        self._path = path
        self._mode = mode
        self._run_in_thread = run_in_thread
        self._outage = outage
        self._check_open = check_open
        self._spared = spared
        self._move = move
        self._poll_interval = poll_interval
        self._limiter = CapacityLimiter(1)
        self._reader: SQLiteReader | None = None
        self._wake: WakeSocket | None = None
        self._opened = Event()
        self.handover = Handover()

    async def listen(self) -> None:
        """Have the file read when it may have something new, for ever."""
        await self._opened.wait()
        while True:
            assert self._wake is not None
            await self._wake.wait(self._poll_interval)
            self.handover.note_stale()

    async def wait_page(self, after: EventId | Page) -> Page:
        """Return the next page that is not empty, however long the file is locked, broken or gone."""
        if self.handover.has_news:
            await checkpoint()
        while True:
            self._check_open()
            page = self.handover.take(after) if self._opened.is_set() else None
            if page is None and self.handover.is_stale:
                page = await self._read_file(after)
            if page is not None:
                return page
            if not self.handover.has_news:
                await self.handover.wait()

    async def _read_file(self, after: EventId | Page) -> Page | None:
        is_read_to_the_end = False
        self.handover.is_stale = False
        try:
            page = await self._run_in_thread(lambda: self._read(after), self._limiter)
            if page is None:
                await self._move()
                return None
            is_read_to_the_end = page.next == page.tip
        except StoreUnavailableError as exc:
            self._outage.note(exc, "trying again")
            await sleep(self._poll_interval)
            return None
        finally:
            if not is_read_to_the_end:  # failed and cancelled reads are made again, too, and those before a move
                self.handover.note_stale()
        self._outage.end()
        self._opened.set()
        return page if page.events or page.gap else None

    def _read(self, after: EventId | Page) -> Page | None:
        """Return a page, or None if there is nothing new but what waits in the outbox."""
        if self._wake is None:
            self._wake = WakeSocket(self._path, self._mode)
            self._spared.add(self._wake.name)
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
            self._spared.discard(self._wake.name)
            self._wake.close()
