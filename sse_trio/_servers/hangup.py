# Noticing that a client has hung up while its server isn't reading from the connection.
#
# A server learns that a client is gone by reading. uvicorn and hypercorn stop reading while a request waits behind an
# open response; the end of the connection then stays unread behind that request. The kernel knows of it, and epoll
# reports it without reading (EPOLLRDHUP, Linux).
#
# Rule 1: one epoll for all connections of an event loop, open while there is something to watch.
# Rule 2: the kernel forgets a connection as soon as its server closes it, and then epoll doesn't report it. So after a
#         wake-up every watched connection is looked at: at most once in LOOK_AGAIN seconds, and less often with many
#         connections, so that looking takes about a tenth of the time at most. And without a wake-up every LOOK_ANYWAY
#         seconds: a busy server can close a connection before epoll has reported anything.
# Rule 3: a connection that can't decide yet is looked at again, because epoll reports each end only once.
# Rule 4: without epoll (systems other than Linux) nothing is watched. There the ping after the next one notices.

from __future__ import annotations

import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from anyio import move_on_after, sleep, wait_readable
from anyio.lowlevel import RunVar

from .._loops.current import current_loop
from .._loops.loop import DetachedTask, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Watched", "current_hangups")

LOOK_AGAIN = 0.05
LOOK_ANYWAY = 1.0  # or a hundredth of the time, with more than 10,000 connections
ASK_SECONDS = 1e-5  # per connection and round: ten times what it costs


class Watched(Protocol):
    """A connection to watch."""

    def look(self, *, hung_up: bool) -> bool:
        """Act on what has happened to the connection; return whether to look again.

        ``hung_up``: the kernel says that the client sends nothing more. The server may know of it even if not.
        """
        ...


class Hangups:
    """The watched connections of one event loop."""

    def __init__(self, loop: Loop, new_epoll: Callable[[], select.epoll]) -> None:
        self._loop = loop
        self._new_epoll = new_epoll
        self._epoll: select.epoll | None = None
        self._task: DetachedTask | None = None
        self._watched: dict[int, Watched] = {}
        self._hung_up: set[int] = set()

    def watch(self, fd: int, watched: Watched) -> None:
        """Watch this open socket until forget(). Never raises."""
        with suppress(OSError):  # the socket is closed, or no file descriptor is left: it isn't watched
            if self._epoll is None:
                self._epoll = self._new_epoll()
                self._task = self._loop.spawn_detached(partial(self._run, self._epoll))
            self._register(self._epoll, fd)
            before, self._watched[fd] = self._watched.get(fd), watched
            if before is not None:
                before.look(hung_up=False)  # its server has closed it: the number belongs to another connection now
            self._hung_up.discard(fd)

    def forget(self, fd: int, watched: Watched) -> None:
        """Stop watching it; does nothing if the number belongs to another connection by now."""
        if self._watched.get(fd) is not watched:
            return
        del self._watched[fd]
        self._hung_up.discard(fd)
        if self._watched:
            self._unregister(fd)
        else:
            self._end()

    def _register(self, epoll: select.epoll, fd: int) -> None:
        try:
            epoll.register(fd, select.EPOLLRDHUP | select.EPOLLET)
        except FileExistsError:  # the number of a connection that isn't forgotten yet
            epoll.modify(fd, select.EPOLLRDHUP | select.EPOLLET)

    def _unregister(self, fd: int) -> None:
        assert self._epoll is not None
        with suppress(OSError):  # the server has closed it, and so the kernel has forgotten it
            self._epoll.unregister(fd)

    def _end(self) -> None:
        task, self._task, self._epoll = self._task, None, None
        assert task is not None
        self._loop.cancel_detached(task)

    async def _run(self, epoll: select.epoll) -> None:
        with epoll:
            while True:
                with move_on_after(max(LOOK_ANYWAY, len(self._watched) * ASK_SECONDS * 10)):
                    await wait_readable(epoll)
                looks_again = True
                while looks_again:
                    await sleep(max(LOOK_AGAIN, len(self._watched) * ASK_SECONDS))
                    self._hung_up.update(fd for fd, _ in epoll.poll(0))
                    looks_again = self._look()

    def _look(self) -> bool:
        hung_up = self._hung_up
        again = {fd for fd, watched in [*self._watched.items()] if watched.look(hung_up=fd in hung_up)}
        self._hung_up = hung_up & again
        return bool(again)


_hangups: RunVar[Hangups | None] = RunVar("sse_trio._hangups")


def current_hangups() -> Hangups | None:
    """Return what watches the connections of the running loop; None on a system that can't."""
    try:
        return _hangups.get()
    except LookupError:
        new_epoll = getattr(select, "epoll", None)
        hangups = None if new_epoll is None else Hangups(current_loop(), new_epoll)
        _hangups.set(hangups)
        return hangups
