# The appends of threads: whichever thread has the connection commits what all of them have waiting.
#
# Rule 1: a thread that waits for the connection has put its append on the list before, so it is in the next group. With
#         a commit that waits for a disk, several threads get their events in about the time of one.
# Rule 2: every append of a group gets an outcome, whatever ends its commit, because its thread looks for nothing else.
# Rule 3: a signal handler runs in the midst of whatever its thread does, also of a commit. What it publishes then can't
#         wait for that commit, which waits for the handler. So it is refused.

from __future__ import annotations

from collections.abc import Sequence
from threading import RLock, get_ident
from typing import Protocol, final

from .._errors import StoreUnavailableError
from ..stores._append import Append, Result, group_length
from ..stores._arguments import check_items
from ..stores._protocol import EventId

__all__ = ("Appender", "Commits")

_FORK_WAITS = 15.0  # seconds, for a commit under way; SQLite gives up after ten


class Appender(Protocol):
    """A connection to a store, which is opened when it is first used. One thread uses it at a time."""

    name: str
    """The store, for messages. Without a password."""
    closes_for_forks: bool
    """Whether it must not be open while the process forks."""

    @property
    def forbids_forks(self) -> bool:
        """Whether it is open, and must not be."""
        ...

    def append(self, group: Sequence[Append], /) -> list[Result]:
        """Append a group. Raises StoreUnavailableError; the next call starts anew."""
        ...

    def close(self) -> None:
        """Close it; it is opened again when it is used."""


@final
class _Waiting(Append):
    __slots__ = ("error", "result")

    def __init__(self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None) -> None:
        super().__init__(items, key)
        self.result: Result | None = None
        self.error: StoreUnavailableError | None = None


@final
class Commits:
    """Commits the appends of the threads of one process."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self._lock = RLock()  # which tells a thread that has it already
        self._committing: int | None = None  # the thread
        self._waiting: list[_Waiting] = []

    def append(self, items: Sequence[tuple[str, bytes]], key: tuple[str, int] | None) -> list[EventId]:
        """Return the ids once the items are committed. RuntimeError in a handler that has interrupted this."""
        if self._committing == get_ident():
            raise RuntimeError(
                "publish() was called by a signal handler that has interrupted publish() in the same thread; set a "
                "flag in the handler, and publish when publish() has returned"
            )
        append = _Waiting(check_items(items), key)
        self._waiting.append(append)
        while append.result is None and append.error is None:
            with self._lock:
                if append.result is None and append.error is None:
                    self._commit_next()
        if append.result is None:
            assert append.error is not None
            # A new exception for each thread: they would share one traceback, and lengthen it.
            raise StoreUnavailableError(append.error.store, append.error.why) from append.error.__cause__
        assert isinstance(append.result, list)  # anything else answers a claim, which only a hub makes
        return append.result

    def _commit_next(self) -> None:
        error = StoreUnavailableError(self._appender.name, "the thread that was committing was interrupted")
        group: list[_Waiting] = []
        self._committing = get_ident()  # from here on, no handler takes from the list
        try:
            group = self._waiting[: group_length(self._waiting)]
            del self._waiting[: len(group)]  # threads add at the other end
            for append, result in zip(group, self._appender.append(group), strict=True):
                append.result = result
        except StoreUnavailableError as exc:
            error = exc
        finally:
            self._committing = None
            for append in group:
                if append.result is None:
                    append.error = error

    @property
    def forbids_forks(self) -> bool:
        """Whether the connection is open, and must not be while the process forks."""
        return self._appender.forbids_forks

    def pause(self) -> bool:
        """Close a connection that must not be open at a fork, and let no thread open it until resume().

        Returns False, and changes nothing, if there is no need, or if a commit doesn't end: it may be that of this very
        thread, interrupted by a signal handler that forks.
        """
        is_own = self._committing == get_ident()
        if is_own or not self._appender.closes_for_forks or not self._lock.acquire(timeout=_FORK_WAITS):
            return False
        self._appender.close()
        return True

    def resume(self) -> None:
        """Undo a pause() that returned True."""
        self._lock.release()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._appender.close()
