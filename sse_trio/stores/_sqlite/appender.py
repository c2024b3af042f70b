# What appends to the file: a connection, its writer, and the wake-ups. Blocks; used in one thread at a time.
#
# Rule 1: a store and a Publisher append by this and nothing else, so what one of them writes the other could have
#         written, and followers are woken by both.

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import final

from .._append import LOST, Append, Result
from .._protocol import EventId
from .._retention import KEY_SECONDS, Retention
from .._topic_limits import TopicLimits
from .file import open_file
from .wake import Waker
from .writer import SQLiteWriter

__all__ = ("SQLiteAppender",)


@final
class SQLiteAppender:
    """Opens the file, appends to it, and wakes its followers.

    Every call may raise :exc:`sqlite3.Error`, or :exc:`OSError`.

    Args:
        path: of the file.
        mode: of new files.
        hub: limits of the whole.
        topic: limits of each topic.
        clock: seconds since 1970.
        remember_keys: seconds for which keys are remembered.
    """

    def __init__(
        self,
        path: str,
        mode: int,
        hub: Retention,
        topic: TopicLimits,
        clock: Callable[[], float],
        *,
        remember_keys: float = KEY_SECONDS,
    ) -> None:
        with ExitStack() as files:
            connection, names = open_file(path, mode)
            files.enter_context(closing(connection))
            self.writer = SQLiteWriter(connection, names, hub, topic, clock, remember_keys=remember_keys)
            self._waker = files.enter_context(closing(Waker(path, mode)))
            self.spared: set[str] = self._waker.spared
            """The sockets of followers that are handed what is appended here, and need not be woken."""
            (epoch,) = connection.execute("SELECT epoch FROM hub").fetchone()
            self._epoch: str = epoch
            self._files = files.pop_all()  # all opened, so keep them open

    def append(self, group: Sequence[Append]) -> list[Result]:
        """Append a group, wake the followers, and return the result of each append."""
        results = self.writer.commit(group)
        self._waker.wake_all()
        return [LOST if count == LOST else self._ids(first, count) for first, count in results]

    def _ids(self, first: int, count: int) -> list[EventId]:
        return [EventId(self._epoch, first + n) for n in range(count)]

    def close(self) -> None:
        """Close the file and the socket."""
        self._files.close()
