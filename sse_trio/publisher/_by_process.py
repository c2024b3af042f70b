# One connection, one lock and one identity for each process, whichever of them was forked from which.
#
# Rule 1: what a process has inherited by a fork it never uses: the lock may be held by a thread that is not here, the
#         connection is its parent's, and so is the name by which the store knows a repeated append.
# Rule 2: a SQLite connection must not be open across a fork (sqlite.org/howtocorrupt.html, section 2.6): the library
#         keeps its locks in the memory of the process, so a child would believe that it holds its parent's. So
#         connections are closed before a fork, and stay closed until it is over. Where Python does not do the forking,
#         or a commit did not end, the child is refused rather than let at the file.

from __future__ import annotations

import os
from collections.abc import Callable
from threading import get_ident
from typing import final
from weakref import ref

from .._errors import StoreUnavailableError
from ._commits import Appender, Commits

__all__ = ("ByProcess", "close_before_forks")

_FORKED = (
    "this process was forked while the publisher had the file open, which SQLite forbids; publish for the first time "
    "after the fork, or make a Publisher there"
)


@final
class ByProcess:
    """The connection of each process.

    Args:
        new_appender: makes a connection, which opens nothing yet.
    """

    def __init__(self, new_appender: Callable[[], Appender]) -> None:
        self._new_appender = new_appender
        self.name: str = new_appender().name
        self._commits: dict[int, Commits] = {}

    def commits(self) -> Commits:
        """Return what this process commits with. Raises StoreUnavailableError if it can't, because it was forked."""
        pid = os.getpid()
        commits = self._commits.get(pid)
        if commits is None:
            if any(inherited.forbids_forks for inherited in self._commits.values()):
                raise StoreUnavailableError(self.name, _FORKED)
            commits = self._commits.setdefault(pid, Commits(self._new_appender()))  # one of two threads adds its own
        return commits

    def pause(self) -> Commits | None:
        """Close the connection of this process before a fork. Returns what to resume after it."""
        try:
            commits = self.commits()  # even if there is none yet: another thread may be about to open it
        except StoreUnavailableError:
            return None
        return commits if commits.pause() else None

    def close(self) -> None:
        """Close the connection of this process."""
        commits = self._commits.get(os.getpid())
        if commits is not None:
            commits.close()


def close_before_forks(processes: ByProcess) -> None:
    """Have the connection closed while the process forks. It is opened again when it is used."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch -- not on Windows, where nothing forks
        forks = _Forks(processes)
        os.register_at_fork(before=forks.begin, after_in_parent=forks.end)


@final
class _Forks:
    """Pauses a publisher that still exists: what is registered at forks stays for the life of the process."""

    __slots__ = ("_paused", "_processes")

    def __init__(self, processes: ByProcess) -> None:
        self._processes = ref(processes)
        self._paused: dict[int, Commits | None] = {}  # by the thread that forks

    def begin(self) -> None:
        processes = self._processes()
        self._paused[get_ident()] = None if processes is None else processes.pause()

    def end(self) -> None:
        paused = self._paused.pop(get_ident())
        if paused is not None:
            paused.resume()
