# One connection, one lock and one identity for each process, whichever of them was forked from which.
#
# Rule 1: what a process has inherited by a fork it never uses: the lock may be held by a thread that is not here, the
#         connection is its parent's, and so is the name by which the store knows a repeated append.
# Rule 2: a SQLite connection must not be carried across a fork (sqlite.org/howtocorrupt.html, section 2.6), not even to
#         be closed. So connections are closed before a fork, where Python does the forking.

from __future__ import annotations

import os
from collections.abc import Callable
from typing import final
from weakref import ref

from ._commits import Appender, Commits

__all__ = ("ByProcess", "close_before_forks")


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
        """Return what this process commits with."""
        pid = os.getpid()
        commits = self._commits.get(pid)
        if commits is None:  # setdefault: only one of two threads adds its own
            commits = self._commits.setdefault(pid, Commits(self._new_appender()))
        return commits

    def pause(self) -> None:
        """Close the connection of this process until it is used again."""
        commits = self._commits.get(os.getpid())
        if commits is not None:
            commits.pause()

    def close(self) -> None:
        """Close the connection of this process."""
        commits = self._commits.get(os.getpid())
        if commits is not None:
            commits.close()


def close_before_forks(processes: ByProcess) -> None:
    """Have the connection closed before each fork. It is opened again when it is used."""
    if hasattr(os, "register_at_fork"):  # pragma: no branch -- not on Windows, where nothing forks
        os.register_at_fork(before=_Pause(processes))


@final
class _Pause:
    """Pauses a publisher that still exists: what is registered at forks stays for the life of the process."""

    __slots__ = ("_processes",)

    def __init__(self, processes: ByProcess) -> None:
        self._processes = ref(processes)

    def __call__(self) -> None:
        processes = self._processes()
        if processes is not None:
            processes.pause()
