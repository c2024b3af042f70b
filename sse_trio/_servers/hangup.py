# Noticing that a client has hung up while its server reads nothing from the connection.
#
# A server learns that a client has gone by reading. uvicorn and hypercorn stop reading while a request waits behind
# an open response. The end of the connection then lies unread behind that request while the stream is open. The kernel
# knows, and epoll can tell without reading (EPOLLRDHUP, Linux).
#
# Rule 1: one epoll for all connections of an event loop, open while there is something to watch.
# Rule 2: the kernel forgets a connection as soon as its server closes it, so epoll may not name it any more. After each
#         wake-up, every watched connection is therefore looked at: at most once in LOOK_AGAIN seconds, and less often
#         with many connections, so that it takes about a hundredth of the time at most.
# Rule 3: a connection that can't tell yet is looked at again, because epoll reports each end only once.
# Rule 4: without epoll (other systems than Linux) nothing is watched. There the ping after the next one notices.

from __future__ import annotations

import select
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Protocol

from anyio import sleep, wait_readable
from anyio.lowlevel import RunVar

from .._loops.current import current_loop
from .._loops.loop import DetachedTask, Loop

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ("Watched", "current_hangups")

LOOK_AGAIN = 0.05
ASK_SECONDS = 1e-5  # per connection and round: ten times what it costs


class Watched(Protocol):
    """A connection that is watched."""

    def look(self, *, hung_up: bool) -> bool:
        """Act on what has become of the connection; return whether it has to be asked again.

        ``hung_up``: the kernel says that the client sends nothing more. Without it the server may know all the same.
        """
        ...


class Hangups:
    """The connections of one event loop that are watched."""

    def __init__(self, loop: Loop, new_epoll: Callable[[], select.epoll]) -> None:
        self._loop = loop
        self._new_epoll = new_epoll
        self._epoll: select.epoll | None = None
        self._task: DetachedTask | None = None
        self._watched: dict[int, Watched] = {}
        self._hung_up: set[int] = set()

    def watch(self, fd: int, watched: Watched) -> None:
        """Watch this open socket until forget(). Never raises."""
        with suppress(OSError):  # no socket any more, or no file descriptor left for us: it isn't watched
            if self._epoll is None:
                self._epoll = self._new_epoll()
                self._task = self._loop.spawn_detached(partial(self._run, self._epoll))
            self._register(self._epoll, fd)
            self._watched[fd] = watched
            self._hung_up.discard(fd)

    def forget(self, fd: int, watched: Watched) -> None:
        """Watch it no more; nothing if another connection has that number by now."""
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
        except FileExistsError:  # of a connection that was not forgotten yet
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
                await wait_readable(epoll)
                asked_again = True
                while asked_again:
                    await sleep(max(LOOK_AGAIN, len(self._watched) * ASK_SECONDS))
                    self._hung_up.update(fd for fd, _ in epoll.poll(0))
                    asked_again = self._look()

    def _look(self) -> bool:
        hung_up = self._hung_up
        again = {fd for fd, watched in [*self._watched.items()] if watched.look(hung_up=fd in hung_up)}
        self._hung_up = hung_up & again
        return bool(again)


_hangups: RunVar[Hangups | None] = RunVar("sse_trio._hangups")


def current_hangups() -> Hangups | None:
    """Return what watches the connections of the running loop; None where the system can't."""
    try:
        return _hangups.get()
    except LookupError:
        new_epoll = getattr(select, "epoll", None)
        hangups = None if new_epoll is None else Hangups(current_loop(), new_epoll)
        _hangups.set(hangups)
        return hangups
